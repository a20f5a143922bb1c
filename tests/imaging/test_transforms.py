"""Transforms of several lanes: each lane's bits are those that it has among fewer."""

from __future__ import annotations

import numpy as np
import pytest

from radps_mpi.imaging.fourier import HalfPlaneTransform, good_size

SIZES = sorted({good_size(size) for size in range(24, 5200, 2)})


@pytest.mark.parametrize("size", SIZES)
def test_eight_lanes_have_the_bits_that_they_have_among_sixteen(size: int) -> None:
    """Major cycles are worked in blocks of 16 or of 8, and FFTW's plans are made for many transforms at once."""
    for shape in ((size, 32), (32, size)):
        ny, nx = shape[0] // 4 * 2, shape[1] // 4 * 2
        correction = np.ones(ny), np.ones(nx)
        sixteen, eight = (
            HalfPlaneTransform(shape, shape, nlane, 5, correction, np.dtype(np.float32), width=8) for nlane in (16, 8)
        )
        random = np.random.default_rng(size)
        grid = random.standard_normal(sixteen.grid_shape, np.float32)
        half_of_grid = np.ascontiguousarray(grid[..., 8:])
        whole, part = np.empty(sixteen.image_shape, np.float32), np.empty(eight.image_shape, np.float32)
        sixteen.to_images(grid, whole)
        eight.to_images(half_of_grid, part)
        assert part.tobytes() == whole[8:].tobytes()
        back, half_back = np.empty(sixteen.grid_shape, np.float32), np.empty(eight.grid_shape, np.float32)
        sixteen.from_images(whole, back)
        eight.from_images(part, half_back)
        assert half_back.tobytes() == np.ascontiguousarray(back[..., 8:]).tobytes()
