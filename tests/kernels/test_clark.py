"""The fast list CLEAN against its plain twin, bit for bit, and against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from radps_kernels import clark as fast
from radps_kernels import clark_reference as plain
from radps_kernels.hogbom import STOP_DIVERGED, STOP_ITERATIONS, STOP_THRESHOLD

Plane = NDArray[np.float32]
FAR = 10**6
"""Components placed before: so many that the limit hardly rises."""


def crowded(ny: int, nx: int, patch: tuple[int, int], seed: int) -> tuple[Plane, Plane]:
    """A plane of sources of both signs with noise, and the middle of a PSF."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: patch[0], : patch[1]]
    dy, dx = y - patch[0] // 2, x - patch[1] // 2
    psf = np.exp(-0.5 * (dy**2 + dx**2) / 2.0**2) * np.cos(0.3 * dx + 0.2 * dy)
    plane = 0.01 * rng.standard_normal((ny, nx))
    grid_y, grid_x = np.mgrid[:ny, :nx]
    for py, px, flux in zip(rng.integers(0, ny, 12), rng.integers(0, nx, 12), rng.normal(0.3, 1.0, 12), strict=True):
        plane += flux * np.exp(-0.5 * ((grid_y - py) ** 2 + (grid_x - px) ** 2) / 2.0**2)
    return plane.astype(np.float32), psf.astype(np.float32)


def run_both(
    residual: Plane, patch: Plane, mask: NDArray[np.uint8], gain: float, limit: float, threshold: float, before: int, most: int
) -> tuple[tuple[int, int, float, float], Plane]:
    model = np.full_like(residual, 0.125)
    twin_model = model.copy()
    result = fast.clark_list(residual, patch, mask, gain, limit, threshold, before, most, model)
    assert result == plain.clark_list(residual, patch, mask, gain, limit, threshold, before, most, twin_model)
    assert model.tobytes() == twin_model.tobytes()
    return result, model


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "patch", "coverage"),
    [
        ((64, 64), (13, 13), 1.0),
        ((50, 71), (16, 16), 0.4),
        ((33, 31), (40, 25), 0.9),
        ((5, 130), (13, 22), 1.0),
        ((1, 1), (1, 1), 1.0),
    ],
)
def test_fast_list_has_the_bits_of_the_plain_one(
    shape: tuple[int, int], patch: tuple[int, int], coverage: float, seed: int
) -> None:
    residual, psf = crowded(*shape, patch, seed)
    mask = (np.random.default_rng(seed).random(shape) < coverage).astype(np.uint8)
    mask[shape[0] // 2, shape[1] // 2] = 1
    for before, limit in ((0, 0.02), (3, 0.1), (FAR, 0.05)):
        run_both(residual, psf, mask, 0.1, limit, 0.03, before, 400)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 30), st.integers(0, 2**31), st.floats(0.01, 1.0),
    st.floats(0.0, 2.0), st.floats(0.0, 1.0), st.sampled_from((0, 1, 17, FAR)), st.integers(0, 60),
)  # fmt: skip
def test_any_plane_and_any_limits_give_the_bits_of_the_plain_list(
    ny: int, nx: int, side: int, seed: int, gain: float, limit: float, threshold: float, before: int, most: int
) -> None:
    residual, psf = crowded(ny, nx, (side, side), seed)
    mask = (np.random.default_rng(seed).random((ny, nx)) < 0.7).astype(np.uint8)
    _, model = run_both(residual, psf, mask, gain, limit, threshold, before, most)
    assert np.all(model[mask == 0] == 0.125)


def test_the_first_list_of_a_minor_cycle_gives_one_component() -> None:
    residual, psf = crowded(48, 48, (13, 13), 1)
    (iterations, code, last, flux), model = run_both(residual, psf, np.ones((48, 48), np.uint8), 0.1, 0.1, 0.0, 0, 500)
    assert (iterations, code) == (1, STOP_THRESHOLD)
    peak = residual.ravel()[np.argmax(np.abs(residual))]
    assert flux == pytest.approx(0.1 * peak)
    assert 0.9 * abs(peak) <= last < abs(peak)
    assert np.count_nonzero(model != 0.125) == 1


def test_the_limit_rises_with_the_sum_of_reciprocals_of_the_components() -> None:
    """One pixel, a fifth taken each time: 0.8^k against 1/(n+1) + ... + 1/(n+k) after n components before."""
    residual, psf, mask = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.ones((1, 1), np.uint8)
    for before, expected in ((0, 1), (2, 3), (5, 4), (30, 8)):
        k = next(k for k in range(1, 99) if 0.8**k <= sum(1.0 / (before + i) for i in range(1, k + 1)))
        assert k == expected
        (iterations, code, last, _), _ = run_both(residual, psf, mask, 0.2, 0.0, 0.0, before, 99)
        assert (iterations, code) == (k, STOP_THRESHOLD)
        assert last == pytest.approx(0.8**k, rel=1e-5)


def test_what_lies_beyond_the_patch_or_below_the_limit_is_left_alone() -> None:
    residual = np.zeros((40, 40), np.float32)
    residual[10, 10], residual[10, 14], residual[10, 16], residual[10, 6] = 1.0, 0.9, 0.85, 0.04
    patch = np.full((9, 9), 0.5, np.float32)
    patch[4, 4] = 1.0
    (iterations, _, last, _), model = run_both(residual, patch, np.ones((40, 40), np.uint8), 0.8, 0.05, 0.0, FAR, 1)
    assert (iterations, last) == (1, pytest.approx(0.85)), "14 is within the patch, 16 isn't"
    assert model[10, 10] == pytest.approx(0.925)
    (iterations, *_), model = run_both(residual, patch, np.ones((40, 40), np.uint8), 0.8, 0.05, 0.0, FAR, 50)
    assert iterations > 5
    assert model[10, 6] == 0.125, "it was never in the list, although it changed by -0.4"


def test_equal_peaks_are_taken_in_the_order_of_flat_indices_across_segments() -> None:
    residual = np.zeros((48, 80), np.float32)
    residual[1, 70], residual[2, 3], residual[40, 0] = -1.0, 1.0, 1.0
    psf, mask = np.ones((1, 1), np.float32), np.ones((48, 80), np.uint8)
    for count, expected in ((1, {(1, 70)}), (2, {(1, 70), (2, 3)}), (3, {(1, 70), (2, 3), (40, 0)})):
        _, model = run_both(residual, psf, mask, 0.5, 0.3, 0.0, FAR, count)
        assert {(int(y), int(x)) for y, x in np.argwhere(model != 0.125)} == expected


def test_blanked_pixels_are_never_listed_and_do_not_spoil_others() -> None:
    residual, psf = crowded(40, 40, (13, 13), 1)
    residual[:5] = np.nan
    residual[20, 20] = np.inf
    (iterations, _, last, _), model = run_both(residual, psf, np.ones((40, 40), np.uint8), 0.1, 0.05, 0.02, FAR, 500)
    assert iterations > 20
    assert 0.0 < last < np.inf
    assert np.all(model[:5] == 0.125) and model[20, 20] == 0.125


def test_inputs_are_left_as_they_were() -> None:
    residual, psf = crowded(40, 56, (13, 13), 2)
    mask = np.ones((40, 56), np.uint8)
    before = residual.tobytes(), psf.tobytes(), mask.tobytes()
    fast.clark_list(residual, psf, mask, 0.1, 0.1, 0.0, FAR, 100, np.zeros_like(residual))
    assert before == (residual.tobytes(), psf.tobytes(), mask.tobytes())


def test_an_empty_list_and_one_of_zeros_place_nothing() -> None:
    zeros, psf = np.zeros((8, 40), np.float32), np.ones((3, 3), np.float32)
    full, empty = np.ones((8, 40), np.uint8), np.zeros((8, 40), np.uint8)
    for mask, limit in ((full, 0.5), (full, 0.0), (empty, 0.0)):
        result, model = run_both(zeros, psf, mask, 0.1, limit, 0.0, 0, 10)
        assert result == (0, STOP_THRESHOLD, 0.0, 0.0)
        assert np.all(model == 0.125)


def test_the_count_and_the_threshold_end_a_list() -> None:
    residual, psf, mask = np.full((1, 1), -1.0, np.float32), np.ones((1, 1), np.float32), np.ones((1, 1), np.uint8)
    assert run_both(residual, psf, mask, 0.5, 0.1, 0.0, FAR, 2)[0] == (2, STOP_ITERATIONS, 0.25, -0.75)
    assert run_both(residual, psf, mask, 0.5, 0.1, 0.25, FAR, 9)[0] == (2, STOP_THRESHOLD, 0.25, -0.75)
    assert run_both(residual, psf, mask, 0.5, 0.1, 1.0, FAR, 9)[0] == (0, STOP_THRESHOLD, 1.0, 0.0)


def test_a_patch_with_sidelobes_above_its_peak_is_caught_diverging() -> None:
    patch = np.zeros((9, 9), np.float32)
    patch[4, 4], patch[4, 7] = 1.0, -3.0
    residual = np.full((9, 40), 0.1, np.float32)
    residual[4, 8] = 1.0
    (iterations, code, last, _), model = run_both(residual, patch, np.ones((9, 40), np.uint8), 0.5, 0.05, 0.0, FAR, 1000)
    assert code == STOP_DIVERGED
    assert 3 < iterations < 12 and fast.RUNAWAY < last < 3.0 * fast.RUNAWAY
    assert np.isfinite(model).all()
