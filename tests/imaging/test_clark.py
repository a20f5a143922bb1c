"""Clark's CLEAN recovers a known sky, and places the components that CASA places."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from radps_kernels import clark_reference

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging import clark as module
from radps_mpi.imaging.clark import clark, exterior_sidelobe, patch_pixels
from radps_mpi.imaging.minor_cycle import MinorCycleResult, MinorStop, hogbom

Plane = NDArray[np.float32]
N = 128
PATCH = (22, 22)


@cache
def planes(sidelobe: float) -> tuple[Plane, Plane]:
    """PSF with two sidelobes of this height far from the centre, and a dirty image of 25 sources and noise."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:N, :N] - N // 2
    beam = np.exp(-0.5 * (y**2 + x**2) / 2.5**2)
    far = sum(np.exp(-0.5 * ((y - side * 30) ** 2 + (x - side * 22) ** 2) / 3**2) for side in (1, -1))
    psf = beam + sidelobe * far + 0.05 * np.cos(0.7 * x + 0.3 * y) * np.exp(-np.hypot(y, x) / 30) * (1 - beam)
    sky = np.zeros((N, N))
    for flux in rng.normal(0.5, 1, 25):
        sky[rng.integers(N // 4, 3 * N // 4), rng.integers(N // 4, 3 * N // 4)] += flux
    dirty = convolved(sky, psf) + 0.01 * rng.standard_normal((N, N))
    return psf.astype(np.float32), dirty.astype(np.float32)


def convolved(sky: NDArray[np.floating], psf: NDArray[np.floating]) -> NDArray[np.float64]:
    """In float64, on twice the size: nothing wraps round."""
    size = tuple(2 * n for n in sky.shape)
    full = np.fft.irfft2(np.fft.rfft2(sky, size) * np.fft.rfft2(psf, size), size)
    (cy, cx), (ny, nx) = (n // 2 for n in sky.shape), sky.shape
    return full[cy : cy + ny, cx : cx + nx]


def disc(radius: float = 50.0) -> NDArray[np.uint8]:
    y, x = np.mgrid[:N, :N] - N // 2
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def run(
    psf: Plane, dirty: Plane, mask: NDArray[np.uint8], iterations: int = 3000, threshold: float = 0.05, gain: float = 0.1
) -> tuple[Plane, MinorCycleResult]:
    return clark(
        dirty, psf, mask, patch=PATCH, gain=gain, cycle_threshold_jy=threshold, max_iterations=iterations,
        model_in=np.zeros_like(dirty),
    )  # fmt: skip


CASA = (
    (0.0, 50, 0.1, 0.05, 3000, 558, MinorStop.THRESHOLD, 0.0498423, 3.058293, 9.894858),
    (0.2, 50, 0.1, 0.05, 3000, 558, MinorStop.THRESHOLD, 0.0499499, 3.0967603, 9.9957097),
    (0.4, 50, 0.1, 0.05, 3000, 300, MinorStop.NO_CRITERION, 0.141297, 2.7949979, 9.1286564),
    (0.6, 50, 0.1, 0.05, 3000, 44, MinorStop.NO_CRITERION, 0.728988, 0.017595157, 2.8428021),
    (0.2, 200, 0.1, 0.05, 3000, 558, MinorStop.THRESHOLD, 0.0499499, 3.0967603, 9.9957097),
    (0.2, 50, 0.1, 0.05, 100, 100, MinorStop.ITERATIONS, 0.458882, 0.93290851, 5.3669373),
    (0.2, 50, 0.02, 0.0, 6000, 1548, MinorStop.NO_CRITERION, 0.141091, 2.7085696, 9.1033186),
    (0.0, 50, 0.003, 0.0, 6000, 6000, MinorStop.ITERATIONS, 0.272007, 1.7868868, 7.4687888),
    (0.2, 50, 0.5, 0.02, 3000, 570, MinorStop.NO_CRITERION, 0.0262976, 3.3151078, 11.127635),
)
"""What the task deconvolve of CASA 6.7 makes of ``planes``: sidelobe, mask's radius, gain, threshold, niter; iterations, why it
ended, last peak, sum of the model, sum of its squares."""


@pytest.mark.parametrize("case", CASA, ids=str)
def test_components_are_those_that_casa_places(case: tuple[float, ...]) -> None:
    sidelobe, radius, gain, threshold, niter, iterations, reason, peak, flux, square = case
    model, result = run(*planes(sidelobe), disc(radius), int(niter), threshold, gain)
    assert (result.iterations, result.reason) == (iterations, reason)
    assert result.peak_residual == pytest.approx(peak, rel=1e-5)
    assert result.model_flux == pytest.approx(flux, abs=2e-5)
    assert model.sum(dtype=np.float64) == pytest.approx(flux, abs=2e-5)
    assert np.square(model, dtype=np.float64).sum() == pytest.approx(square, rel=1e-5)


def test_point_sources_are_recovered_with_their_fluxes_and_places() -> None:
    psf, _ = planes(0.2)
    sources = {(50, 44): 1.5, (70, 66): -0.7, (54, 76): 0.4}
    sky = np.zeros((N, N))
    for place, flux in sources.items():
        sky[place] = flux
    model, result = run(psf, convolved(sky, psf).astype(np.float32), disc(), 5000, 2e-2)
    assert result.reason is MinorStop.THRESHOLD
    assert result.start_peak == pytest.approx(1.5, rel=0.05)
    assert result.peak_residual <= 2e-2
    assert result.model_flux == pytest.approx(1.2, abs=0.05)
    for place, flux in sources.items():
        assert model[place] == pytest.approx(flux, abs=0.03)


def test_what_is_left_is_what_hogbom_leaves() -> None:
    psf, dirty = planes(0.2)
    model, result = run(psf, dirty, disc())
    theirs, other = hogbom(
        dirty, psf, disc(), gain=0.1, cycle_threshold_jy=0.05, max_iterations=3000, model_in=np.zeros_like(dirty)
    )
    assert result.reason is other.reason is MinorStop.THRESHOLD
    for each in (model, theirs):
        left = np.abs(dirty - convolved(each, psf))[disc() != 0]
        assert left.max() < 0.06, "the list's peak is not quite that of the exact residual"
    assert result.iterations == pytest.approx(other.iterations, rel=0.1)


def test_fast_lists_give_the_bits_of_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    psf, dirty = planes(0.4)
    model, result = run(psf, dirty, disc())
    monkeypatch.setattr(module, "clark_list", clark_reference.clark_list)
    plain, twin = run(psf, dirty, disc())
    assert result == twin
    assert model.tobytes() == plain.tobytes()


def test_what_lies_outside_of_the_mask_changes_no_bit_and_gets_no_component() -> None:
    psf, dirty = planes(0.2)
    mask = disc(30)
    mask[60, 60] = 0
    model, result = run(psf, dirty, mask)
    other = dirty.copy()
    other[mask == 0] = np.nan
    assert run(psf, other, mask)[0].tobytes() == model.tobytes()
    assert result.iterations > 100
    assert not model[mask == 0].any()


def test_blanked_pixels_in_the_mask_get_no_component_and_inputs_are_left_as_they_were() -> None:
    psf, dirty = planes(0.2)
    dirty = dirty.copy()
    dirty[40:44] = np.nan
    before = dirty.tobytes(), psf.tobytes()
    model, result = run(psf, dirty, disc())
    assert result.iterations > 100 and np.isfinite(result.peak_residual)
    assert not model[40:44].any() and np.isfinite(model).all()
    assert (dirty.tobytes(), psf.tobytes()) == before


def test_components_are_added_to_the_model_of_earlier_cycles_in_a_new_array() -> None:
    psf, dirty = planes(0.2)
    earlier = np.full_like(dirty, 2.0)
    model, _ = clark(
        dirty, psf, disc(), patch=PATCH, gain=0.1, cycle_threshold_jy=0.05, max_iterations=3000, model_in=earlier
    )
    assert np.all(earlier == 2.0)
    assert model - earlier == pytest.approx(run(psf, dirty, disc())[0], abs=1e-6)


def test_an_empty_mask_leaves_the_model_and_says_so() -> None:
    model, result = run(*planes(0.2), np.zeros((N, N), np.uint8))
    assert (result.reason, result.iterations) == (MinorStop.EMPTY_MASK, 0)
    assert not model.any()


def test_a_peak_at_the_threshold_and_no_iterations_allowed_place_nothing() -> None:
    psf, dirty = planes(0.2)
    peak = float(np.abs(dirty[disc() != 0]).max())
    for iterations, threshold, reason in ((100, peak, MinorStop.THRESHOLD), (0, 0.0, MinorStop.ITERATIONS)):
        model, result = run(psf, dirty, disc(), iterations, threshold)
        assert (result.reason, result.iterations, result.start_peak, result.peak_residual) == (reason, 0, peak, peak)
        assert not model.any()


@pytest.mark.parametrize("iterations", [1, 7, 99, 100])
def test_no_more_iterations_are_done_than_allowed(iterations: int) -> None:
    _, result = run(*planes(0.2), disc(), iterations, 0.0)
    assert (result.reason, result.iterations) == (MinorStop.ITERATIONS, iterations)


def test_steps_of_a_long_minor_cycle_do_not_exceed_its_limit() -> None:
    _, result = run(*planes(0.0), disc(), 5001, 0.0, 0.003)
    assert (result.reason, result.iterations) == (MinorStop.ITERATIONS, 5001)


def test_a_psf_with_sidelobes_above_its_peak_is_caught_diverging() -> None:
    psf = np.zeros((N, N), np.float32)
    psf[64, 64], psf[64, 67] = 1.0, -3.0
    dirty = np.full((N, N), 0.1, np.float32)
    dirty[64, 40] = 1.0
    model, result = run(psf, dirty, np.ones((N, N), np.uint8), gain=0.9)
    assert result.reason is MinorStop.DIVERGED
    assert result.iterations < 20
    assert np.isfinite(model).all()


@pytest.mark.parametrize("sidelobe", [0.9, -3.0, 30.0])
def test_a_peak_above_the_threshold_always_gets_a_component(sidelobe: float) -> None:
    """A run whose minor cycles do nothing would go on for ever."""
    psf = np.zeros((N, N), np.float32)
    psf[64, 64], psf[64, 90] = 1.0, sidelobe
    dirty = np.zeros((N, N), np.float32)
    dirty[64, 30] = 1.0
    model, result = run(psf, dirty, np.ones((N, N), np.uint8), gain=0.9)
    assert result.iterations >= 1 and model[64, 30] == pytest.approx(0.9, abs=0.1)
    assert np.isfinite(model).all()


def test_the_patch_is_three_beams_and_a_pixel_and_fits_the_image() -> None:
    cell = 2.0 * ARCSEC_RAD
    geometry = ImageGeometry(nx=64, ny=20, cell_x_rad=cell, cell_y_rad=cell, ra_rad=1.0, dec_rad=0.3)
    assert patch_pixels(Beam(5.2 * cell, 3.0 * cell, 0.0), geometry) == (19, 19)
    assert patch_pixels(Beam(6.5 * cell, 3.0 * cell, 0.0), geometry) == (20, 22)
    for narrow in (Beam(2.0 * cell, cell, 0.0), NULL_BEAM):
        assert patch_pixels(narrow, geometry) == (13, 13)


def test_the_exterior_sidelobe_is_the_largest_beyond_the_patch() -> None:
    psf = np.zeros((40, 40), np.float32)
    psf[20, 20] = 1.0
    for place, beyond in (((20, 13), 0.3), ((20, 14), 0.0), ((26, 20), 0.0), ((27, 20), 0.3), ((20, 26), 0.3), ((0, 39), 0.3)):
        other = psf.copy()
        other[place] = -0.3
        assert exterior_sidelobe(other, (13, 13)) == pytest.approx(beyond), place
    assert exterior_sidelobe(psf + 0.1, (40, 40)) == 0.0
    assert exterior_sidelobe(np.pad(psf, 3), (46, 46)) == 0.0
