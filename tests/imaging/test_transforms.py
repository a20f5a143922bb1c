"""Transforms of several lanes: each lane's bits are those that it has among fewer, and with vectors of any width."""

from __future__ import annotations

import numpy as np
import pytest

from radps_mpi.imaging import fftw, fourier
from radps_mpi.imaging.fourier import ALIGNMENT, HalfPlaneTransform, good_size

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


@pytest.mark.parametrize("nlane", [16, 1])
@pytest.mark.parametrize(("dtype", "widths"), [(np.float32, (16, 8, 1)), (np.float64, (8, 4))], ids=["single", "double"])
def test_bits_do_not_depend_on_the_vector_width(nlane: int, dtype: type, widths: tuple[int, ...]) -> None:
    """On planes whose rows and columns leave some over beside whole vectors, of the full uv plane and of a part of it."""
    size, ny, nx = (96, 84), 43, 38
    random = np.random.default_rng(4)
    correction = random.uniform(1.0, 2.0, ny), random.uniform(1.0, 2.0, nx)
    for plane in (size, (70, 58)):
        transforms = [
            HalfPlaneTransform(size, plane, nlane, 5, correction, np.dtype(dtype), width=width) for width in widths
        ]
        grid = random.standard_normal(transforms[0].grid_shape).astype(dtype)
        sky = random.standard_normal(transforms[0].image_shape).astype(dtype)
        images, back = [np.empty_like(sky) for _ in widths], [np.empty_like(grid) for _ in widths]
        for transform, image, plane_of_sky in zip(transforms, images, back, strict=True):
            transform.to_images(grid.copy(), image)
            transform.from_images(sky, plane_of_sky)
        assert len({image.tobytes() for image in images}) == 1
        assert len({plane_of_sky.tobytes() for plane_of_sky in back}) == 1
        assert np.isfinite(images[0]).all() and np.ptp(images[0]) > 1.0


@pytest.mark.parametrize("nlane", [16, 1])
@pytest.mark.parametrize(("dtype", "widths"), [(np.float32, (16, 8, 1)), (np.float64, (8, 4))], ids=["single", "double"])
def test_images_written_past_the_caches_have_the_same_bits(
    nlane: int, dtype: type, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are, where rows fall on whole vectors; in memory that begins elsewhere, or of other sizes, they are not. Two
    threads write the ones, one the others."""
    monkeypatch.setattr(fourier, "_STREAMED_BYTES", 1)
    ways, crop = set[bool](), fourier.half_plane.crop_row_pairs
    monkeypatch.setattr(fourier.half_plane, "crop_row_pairs", lambda *args: (ways.add(args[-1]), crop(*args)))
    random, lanes = np.random.default_rng(5), np.arange(0, nlane, 2)
    for ny, nx in ((43, 64), (44, 96), (43, 40)):
        correction = random.uniform(1.0, 2.0, ny), random.uniform(1.0, 2.0, nx)
        scale = random.uniform(0.5, 2.0, nlane)
        aligned = fftw.empty_aligned((nlane, ny, nx), dtype, n=ALIGNMENT)
        elsewhere = fftw.empty_aligned(aligned.size + 1, dtype, n=ALIGNMENT)[1:].reshape(aligned.shape)
        assert fourier._can_be_streamed(aligned) == (nx % 32 == 0) and not fourier._can_be_streamed(elsewhere)
        for width in widths:
            one, two = (
                HalfPlaneTransform((96, 108), (70, 58), nlane, 5, correction, np.dtype(dtype), width=width, threads=threads)
                for threads in (1, 2)
            )
            grid = random.standard_normal(one.grid_shape).astype(dtype)
            for images, transform, streamed in ((aligned, two, nx % 32 == 0), (elsewhere, one, False)):
                images.fill(-7.0)
                ways.clear()
                transform.to_images(grid.copy(), images, scale, lanes)
                assert ways == {streamed}
            assert aligned.tobytes() == elsewhere.tobytes()
            assert (aligned[1::2] == -7.0).all() and np.ptp(aligned[::2]) > 1.0


@pytest.mark.parametrize("columns", [8, 4, 1])
def test_pieces_of_rows_that_are_fetched_ahead_are_the_same_numbers(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the ends of strips and of the grid too, where there is nothing ahead any more."""
    correction = np.ones(44), np.ones(38)
    images = []
    for strip in (columns, 1000):
        transform = HalfPlaneTransform((96, 84), (70, 58), 16, 5, correction, np.dtype(np.float32), width=8)
        monkeypatch.setattr(transform, "_columns", strip)
        grid = np.random.default_rng(6).standard_normal(transform.grid_shape, np.float32)
        images.append(np.empty(transform.image_shape, np.float32))
        transform.to_images(grid, images[-1])
    assert images[0].tobytes() == images[1].tobytes()


def test_strips_of_a_very_tall_plane_of_one_lane_are_several_cache_lines_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer columns than a cache line has would read and write each line several times."""
    correction = np.ones(8000), np.ones(40)
    images = []
    for fixed in (None, 4):
        transform = HalfPlaneTransform((10240, 160), (8200, 158), 1, 5, correction, np.dtype(np.float32), width=16)
        assert transform._columns == 64
        if fixed is not None:
            monkeypatch.setattr(transform, "_columns", fixed)
        grid = np.random.default_rng(7).standard_normal(transform.grid_shape, np.float32)
        images.append(np.empty(transform.image_shape, np.float32))
        transform.to_images(grid, images[-1])
    assert images[0].tobytes() == images[1].tobytes() and np.ptp(images[0]) > 1.0
