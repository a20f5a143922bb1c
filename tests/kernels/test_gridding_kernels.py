"""The gridding kernels against their slow twins, and the independence of lanes."""

from __future__ import annotations

import numpy as np
import pytest
from radps_kernels import half_plane, lanes, plane, reference, window

SUPPORT, SIZE_V, SIZE_U = 6, 48, 40
GUARD = lanes.guard_cells(SUPPORT)
WINDOW = window.Window(SUPPORT, 1.5, window.beatty_shape(SUPPORT, 1.5), window.predicted_error(SUPPORT, 1.5))
POLYNOMIALS = WINDOW.polynomials()


def shape_of(nlane: int) -> tuple[int, int, int, int]:
    return SIZE_V + 2 * GUARD, SIZE_U // 2 + 1 + 2 * GUARD, 2, nlane


def samples(nchan: int, spread: float, nrow: int = 60) -> dict:
    """Rows all over the uv plane and beyond its edges; ``spread`` is the relative bandwidth, in any channel order."""
    rng = np.random.default_rng(11)
    uvw_m = rng.uniform(-1.3, 1.3, (nrow, 3)) * (SIZE_U / 2, SIZE_V / 2, 1.0)
    uvw_m[:4, 0] = 0.0, -0.0, SIZE_U / 2, -SIZE_U / 2
    return {
        "uvw_m": uvw_m,
        "row_scale": rng.uniform(0.9999, 1.0, nrow),
        "lane_scale": np.outer((1.0, 1.0), 1.0 + spread * rng.permutation(nchan) / nchan),
        "vis": rng.standard_normal((nrow, 2, nchan)).astype(np.float32),
        "weight": rng.uniform(0.5, 2.0, (nrow, nchan)).astype(np.float32),
    }


def grid_lanes(given: dict, dtype: type = np.float32, width: int = 16) -> np.ndarray:
    grid = np.zeros(shape_of(given["weight"].shape[1]), dtype)
    static, coefficients = lanes.stencil(SUPPORT, width), window.even_odd_coefficients(POLYNOMIALS).astype(dtype)
    lanes.grid_lanes(static, *given.values(), coefficients, grid)
    return grid


def degrid_lanes(given: dict, grid: np.ndarray, width: int = 16) -> np.ndarray:
    out = np.full(given["vis"].shape, np.nan, grid.dtype)
    static, coefficients = lanes.stencil(SUPPORT, width), window.even_odd_coefficients(POLYNOMIALS).astype(grid.dtype)
    lanes.degrid_lanes(static, *list(given.values())[:3], coefficients, grid, out)
    return out


def random_grid(nlane: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape_of(nlane)).astype(dtype)


@pytest.mark.parametrize("spread", [1e-6, 0.2], ids=["narrow", "wide"])
def test_lanes_grid_as_their_twin(spread: float) -> None:
    given = samples(16, spread)
    expected = reference.grid_lanes(*given.values(), POLYNOMIALS, shape_of(16))
    assert np.abs(grid_lanes(given) - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("spread", [1e-6, 0.2], ids=["narrow", "wide"])
def test_lanes_degrid_as_their_twin(spread: float) -> None:
    given, grid = samples(16, spread), random_grid(16)
    expected = reference.degrid_lanes(*list(given.values())[:3], POLYNOMIALS, grid)
    assert np.abs(degrid_lanes(given, grid) - expected).max() < 1e-6 * np.abs(expected).max()


def test_plane_grids_and_degrids_as_its_twin() -> None:
    given, coefficients = samples(7, 0.1), plane.pair_coefficients(POLYNOMIALS)
    grid = np.zeros(shape_of(1))
    plane.grid_plane((0,) * SUPPORT, *given.values(), coefficients, False, grid)
    expected = reference.grid_plane(*given.values(), POLYNOMIALS, shape_of(1))
    assert np.abs(grid - expected).max() < 1e-13 * np.abs(expected).max()
    out, start = np.full((60, 2, 7), np.nan), random_grid(1, np.float64)
    plane.degrid_plane((0,) * SUPPORT, *list(given.values())[:3], coefficients, start, out)
    expected = reference.degrid_plane(*list(given.values())[:3], POLYNOMIALS, start)
    assert np.abs(out - expected).max() < 1e-13 * np.abs(expected).max()


def test_a_lane_keeps_its_bits_whatever_the_data_of_its_neighbours() -> None:
    given = samples(16, 1e-6)
    other = {**given, "vis": given["vis"].copy(), "weight": given["weight"].copy()}
    other["vis"][:, :, :5], other["weight"][:, 6:] = 0.0, 7.0
    both = grid_lanes(given), grid_lanes(other)
    assert np.array_equal(both[0][..., 5], both[1][..., 5])
    assert not np.array_equal(both[0][..., 6], both[1][..., 6])


def test_a_lane_keeps_its_bits_when_its_neighbours_fall_on_other_cells() -> None:
    given = samples(16, 1e-6)
    moved = {**given, "lane_scale": given["lane_scale"].copy()}
    moved["lane_scale"][:, 6:] *= 1.5
    both = grid_lanes(given), grid_lanes(moved)
    assert np.array_equal(both[0][..., :6], both[1][..., :6])
    grid = random_grid(16)
    both = degrid_lanes(given, grid), degrid_lanes(moved, grid)
    assert np.array_equal(both[0][..., :6], both[1][..., :6])
    assert not np.array_equal(both[0][..., 6:], both[1][..., 6:])


@pytest.mark.parametrize(("dtype", "widths"), [(np.float32, (16, 8)), (np.float64, (8, 4))], ids=["single", "double"])
def test_bits_do_not_depend_on_the_vector_width(dtype: type, widths: tuple[int, int]) -> None:
    """AVX-512 and AVX2."""
    given, grid = samples(16, 1e-3), random_grid(16, dtype)
    one, other = (grid_lanes(given, dtype, width) for width in widths)
    assert np.array_equal(one, other)
    one, other = (degrid_lanes(given, grid, width) for width in widths)
    assert np.array_equal(one, other)


def test_samples_without_a_place_are_harmless() -> None:
    given = samples(16, 1e-6)
    strange = {**given, "uvw_m": given["uvw_m"].copy()}
    strange["uvw_m"][:6, :2] = (np.nan, 1.0), (1.0, np.nan), (np.inf, 0.0), (0.0, -np.inf), (1e300, 1.0), (2.0, -1e200)
    dropped = {**given, "weight": given["weight"].copy()}
    dropped["weight"][:6] = 0.0
    grid = grid_lanes(strange)
    assert np.isfinite(grid).all()
    grid_of_the_rest = grid_lanes(dropped)
    assert np.abs(grid - grid_of_the_rest).max() < 50.0
    assert np.array_equal(degrid_lanes(strange, grid)[:4], np.zeros((4, 2, 16), np.float32))


def test_guard_cells_are_folded_onto_the_cells_that_they_stand_for() -> None:
    grid = random_grid(4, np.float64)
    whole = reference.whole_plane(grid, GUARD)
    image = np.fft.ifft2(whole).real
    half_plane.fold_guards(grid, GUARD)
    inside = np.zeros_like(grid)
    inside[GUARD:-GUARD, GUARD:-GUARD] = grid[GUARD:-GUARD, GUARD:-GUARD]
    assert np.allclose(np.fft.ifft2(reference.whole_plane(inside, GUARD)).real, image, rtol=0, atol=1e-15)


def test_mirrored_guard_cells_continue_the_transform_of_a_real_image() -> None:
    plane_of_image = np.fft.fft2(np.random.default_rng(3).standard_normal((SIZE_V, SIZE_U)))
    v, u = np.arange(-SIZE_V // 2 - GUARD, SIZE_V // 2 + GUARD), np.arange(-GUARD, SIZE_U // 2 + 1 + GUARD)
    everywhere = plane_of_image[np.ix_(v % SIZE_V, u % SIZE_U)]
    expected = np.stack([everywhere.real, everywhere.imag], axis=2)[..., None]
    grid = np.full_like(expected, np.nan)
    grid[GUARD:-GUARD, GUARD:-GUARD] = expected[GUARD:-GUARD, GUARD:-GUARD]
    half_plane.mirror_guards(grid, GUARD)
    assert np.allclose(grid, expected, rtol=0, atol=1e-12)
