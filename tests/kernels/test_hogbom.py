"""The fast Hogbom kernel against its plain twin, bit for bit, and against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from radps_kernels import hogbom as fast
from radps_kernels import hogbom_reference as plain

Plane = NDArray[np.float32]


def crowded_field(ny: int, nx: int, seed: int) -> tuple[Plane, Plane]:
    """A dirty image of sources of both signs with noise, and a PSF with sidelobes everywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ny, :nx]
    dy, dx = y - ny // 2, x - nx // 2
    beam = np.exp(-0.5 * (dy**2 + dx**2) / 1.7**2)
    psf = beam + 0.06 * np.cos(0.9 * dx + 0.4 * dy) * np.exp(-np.hypot(dy, dx) / 25.0) * (1.0 - beam)
    image = 0.004 * rng.standard_normal((ny, nx))
    for py, px, flux in zip(rng.integers(0, ny, 9), rng.integers(0, nx, 9), rng.normal(0.3, 1.0, 9), strict=True):
        image += flux * np.roll(psf, (py - ny // 2, px - nx // 2), axis=(0, 1))
    return image.astype(np.float32), psf.astype(np.float32)


def run_both(
    residual: Plane, psf: Plane, mask: NDArray[np.uint8], gain: float, threshold: float, niter: int
) -> tuple[tuple[int, int, float, float, float], Plane]:
    model = np.full_like(residual, 0.125)
    twin_model = model.copy()
    result = fast.hogbom(residual, psf, mask, gain, threshold, niter, model)
    twin = plain.hogbom(residual, psf, mask, gain, threshold, niter, twin_model)
    assert result == twin
    assert model.tobytes() == twin_model.tobytes()
    return result, model


@pytest.mark.parametrize(
    ("shape", "coverage", "threshold", "niter"),
    [
        ((64, 64), 1.0, 0.02, 400),
        ((96, 80), 0.5, 0.0, 300),
        ((50, 70), 0.02, 0.0, 200),
        ((33, 45), 0.9, 0.05, 300),
        ((16, 16), 1.0, 0.0, 100),
        ((7, 5), 1.0, 0.0, 40),
    ],
)
def test_fast_kernel_has_the_bits_of_plain_hogbom(
    shape: tuple[int, int], coverage: float, threshold: float, niter: int
) -> None:
    for seed in range(4):
        residual, psf = crowded_field(*shape, seed)
        mask = (np.random.default_rng(seed).random(shape) < coverage).astype(np.uint8)
        mask[shape[0] // 2, shape[1] // 2] = 1
        (iterations, *_), _ = run_both(residual, psf, mask, 0.1, threshold, niter)
        assert iterations > 10


def test_a_compact_mask_away_from_tile_edges_gives_plain_hogboms_bits() -> None:
    residual, psf = crowded_field(90, 110, 3)
    y, x = np.mgrid[:90, :110]
    mask = ((y - 37) ** 2 + (x - 61) ** 2 <= 23**2).astype(np.uint8)
    (iterations, *_), model = run_both(residual, psf, mask, 0.2, 0.01, 1000)
    assert iterations > 20
    assert np.all(model[mask == 0] == 0.125)


def test_more_components_than_the_pending_list_holds_change_nothing() -> None:
    residual, psf = crowded_field(20, 36, 5)
    niter = fast.PENDING + 500
    (iterations, *_), _ = run_both(residual, psf, np.ones((20, 36), np.uint8), 0.001, 0.0, niter)
    assert iterations == niter


def test_equal_peaks_are_taken_in_the_order_of_flat_indices_across_tiles() -> None:
    residual = np.zeros((48, 48), np.float32)
    residual[1, 40] = -1.0
    residual[2, 3] = 1.0
    residual[40, 0] = 1.0
    psf = np.zeros((48, 48), np.float32)
    psf[24, 24] = 1.0
    mask = np.ones((48, 48), np.uint8)
    for count, expected in ((1, {(1, 40)}), (2, {(1, 40), (2, 3)}), (3, {(1, 40), (2, 3), (40, 0)})):
        model = np.zeros((48, 48), np.float32)
        fast.hogbom(residual, psf, mask, 0.5, 0.0, count, model)
        assert {(int(y), int(x)) for y, x in np.argwhere(model)} == expected


def test_psf_reaches_from_minus_half_to_half_minus_one_as_in_hclean() -> None:
    psf = np.full((32, 32), 0.5, np.float32)
    psf[16, 16] = 1.0
    residual = np.zeros((32, 32), np.float32)
    residual[16, 8] = 1.0
    pairs = {(0, 8): 0.8 - 0.4, (31, 8): 0.8 - 0.4, (16, 24): 0.8, (16, 23): 0.8 - 0.4}
    for other, left in pairs.items():
        residual_pair = residual.copy()
        residual_pair[other] = 0.8
        mask = (residual_pair != 0).astype(np.uint8)
        model = np.zeros((32, 32), np.float32)
        _, code, start, last, flux = fast.hogbom(residual_pair, psf, mask, 0.8, 0.0, 1, model)
        assert (code, start) == (fast.STOP_ITERATIONS, 1.0)
        assert last == pytest.approx(max(left, 0.2), rel=1e-6)
        assert flux == pytest.approx(0.8)


def test_blanked_pixels_are_never_chosen_and_do_not_spoil_others() -> None:
    residual, psf = crowded_field(40, 40, 1)
    residual[:5] = np.nan
    residual[20, 20] = np.inf
    (iterations, _, start, last, _), model = run_both(residual, psf, np.ones((40, 40), np.uint8), 0.1, 0.05, 500)
    assert iterations > 20
    assert 0.0 < last < start < np.inf
    assert np.all(model[:5] == 0.125)
    assert model[20, 20] == np.float32(0.125)


def test_inputs_are_left_as_they_were() -> None:
    residual, psf = crowded_field(40, 56, 2)
    mask = np.ones((40, 56), np.uint8)
    before = residual.tobytes(), psf.tobytes(), mask.tobytes()
    fast.hogbom(residual, psf, mask, 0.1, 0.0, 100, np.zeros_like(residual))
    assert before == (residual.tobytes(), psf.tobytes(), mask.tobytes())


def test_a_peak_that_equals_the_threshold_ends_the_cycle() -> None:
    residual = np.zeros((16, 16), np.float32)
    residual[4, 4] = -0.25
    psf = np.zeros((16, 16), np.float32)
    psf[8, 8] = 1.0
    mask = np.ones((16, 16), np.uint8)
    (iterations, code, start, last, flux), _ = run_both(residual, psf, mask, 0.5, 0.25, 10)
    assert (iterations, code, start, last, flux) == (0, fast.STOP_THRESHOLD, 0.25, 0.25, 0.0)
    (iterations, code, _, last, flux), _ = run_both(residual, psf, mask, 0.5, 0.2, 10)
    assert (iterations, code, last, flux) == (1, fast.STOP_THRESHOLD, 0.125, -0.125)


def test_no_iterations_allowed_reports_the_peak_and_does_nothing() -> None:
    residual, psf = crowded_field(32, 32, 4)
    (iterations, code, start, last, flux), _ = run_both(residual, psf, np.ones((32, 32), np.uint8), 0.1, 0.0, 0)
    assert (iterations, code, flux) == (0, fast.STOP_ITERATIONS, 0.0)
    assert start == last == float(np.abs(residual).max())


def test_a_psf_with_sidelobes_above_its_peak_is_caught_diverging() -> None:
    psf = np.zeros((32, 32), np.float32)
    psf[16, 16] = 1.0
    psf[16, 19] = -3.0
    residual = np.zeros((32, 32), np.float32)
    residual[16, 8] = 1.0
    (iterations, code, start, last, _), _ = run_both(residual, psf, np.ones((32, 32), np.uint8), 0.5, 0.0, 1000)
    assert code == fast.STOP_DIVERGED
    assert iterations == 1
    assert (start, last) == (1.0, 1.5)
