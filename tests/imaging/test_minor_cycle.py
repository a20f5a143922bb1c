"""Minor cycles recover a known sky; peaks and sidelobe levels have known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radps_mpi.constants import ARCSEC_RAD, FWHM_PER_SIGMA
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.minor_cycle import MinorStop, hogbom, peak_in_mask, sidelobe_level

CELL = 2.0 * ARCSEC_RAD


def geometry(ny: int = 96, nx: int = 96) -> ImageGeometry:
    return ImageGeometry(nx=nx, ny=ny, cell_x_rad=CELL, cell_y_rad=CELL, ra_rad=1.0, dec_rad=0.3)


def gaussian(geo: ImageGeometry, beam: Beam) -> np.ndarray:
    east, north = np.meshgrid(geo.l_axis(), geo.m_axis())
    along = east * math.sin(beam.pa_rad) + north * math.cos(beam.pa_rad)
    across = east * math.cos(beam.pa_rad) - north * math.sin(beam.pa_rad)
    square = (along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2
    return np.exp(-0.5 * FWHM_PER_SIGMA**2 * square)


def test_point_sources_are_recovered_with_their_fluxes_and_places() -> None:
    geo = geometry()
    psf = gaussian(geo, Beam(3.0 * CELL, 2.5 * CELL, 0.4))
    y, x = np.mgrid[: geo.ny, : geo.nx]
    psf += 0.1 * np.cos(0.5 * (x - 48)) * np.cos(0.3 * (y - 48)) * (1.0 - psf)
    sources = {(40, 30): 1.5, (60, 52): -0.7, (44, 62): 0.4}
    dirty = np.zeros(geo.shape)
    for (py, px), flux in sources.items():
        dirty += flux * np.roll(psf, (py - 48, px - 48), axis=(0, 1))
    box = np.zeros(geo.shape, np.uint8)
    box[36:64, 26:66] = 1
    model, result = hogbom(
        dirty.astype(np.float32),
        psf.astype(np.float32),
        box,
        gain=0.1,
        cycle_threshold_jy=1e-4,
        max_iterations=5000,
        model_in=np.zeros(geo.shape, np.float32),
    )
    assert result.reason is MinorStop.THRESHOLD
    assert result.start_peak == pytest.approx(np.abs(dirty * box).max(), rel=1e-6)
    assert result.peak_residual <= 1e-4
    assert result.model_flux == pytest.approx(sum(sources.values()), abs=2e-3)
    assert float(model.sum(dtype=np.float64)) == pytest.approx(result.model_flux, abs=1e-5)
    for (py, px), flux in sources.items():
        assert model[py, px] == pytest.approx(flux, rel=0.01)


def test_components_are_added_to_the_model_of_earlier_cycles_in_a_new_array() -> None:
    geo = geometry(32, 32)
    psf = gaussian(geo, Beam(3.0 * CELL, 3.0 * CELL, 0.0)).astype(np.float32)
    earlier = np.zeros(geo.shape, np.float32)
    earlier[16, 16] = 2.0
    mask = np.ones(geo.shape, np.uint8)
    model, result = hogbom(psf, psf, mask, gain=0.25, cycle_threshold_jy=0.0, max_iterations=1, model_in=earlier)
    assert result.reason is MinorStop.ITERATIONS
    assert model[16, 16] == np.float32(2.25)
    assert earlier[16, 16] == np.float32(2.0)


def test_an_empty_mask_leaves_the_model_and_says_so() -> None:
    plane = np.ones((16, 16), np.float32)
    model, result = hogbom(
        plane,
        plane,
        np.zeros((16, 16), np.uint8),
        gain=0.1,
        cycle_threshold_jy=0.0,
        max_iterations=10,
        model_in=plane,
    )
    assert result.reason is MinorStop.EMPTY_MASK
    assert result.iterations == 0
    assert np.array_equal(model, plane)


def test_peak_in_mask_is_the_largest_magnitude_and_ignores_blanks() -> None:
    plane = np.array([[1.0, -3.0], [np.nan, 2.0]], np.float32)
    assert peak_in_mask(plane) == 3.0
    assert peak_in_mask(plane, np.array([[1, 0], [1, 1]], np.uint8)) == 2.0
    assert peak_in_mask(plane, np.array([[0, 0], [1, 0]], np.uint8)) == 0.0
    assert peak_in_mask(np.full((2, 2), np.nan, np.float32)) == 0.0


@pytest.mark.parametrize("sidelobe", [0.31, -0.27])
def test_sidelobe_level_is_what_the_gaussian_leaves(sidelobe: float) -> None:
    geo = geometry(64, 80)
    beam = Beam(7.0 * CELL, 4.0 * CELL, 0.7)
    psf = gaussian(geo, beam)
    psf[10, 70] += sidelobe
    assert sidelobe_level(psf.astype(np.float32), beam, geo) == pytest.approx(abs(sidelobe), abs=1e-6)


def test_sidelobe_level_notices_a_position_angle_of_the_wrong_sense() -> None:
    geo = geometry(64, 64)
    beam = Beam(9.0 * CELL, 4.0 * CELL, 0.7)
    psf = gaussian(geo, beam).astype(np.float32)
    assert sidelobe_level(psf, beam, geo) < 1e-6
    assert sidelobe_level(psf, Beam(beam.major_rad, beam.minor_rad, -beam.pa_rad), geo) > 0.3


def test_a_blank_plane_has_no_sidelobes() -> None:
    assert sidelobe_level(np.full((96, 96), np.nan, np.float32), NULL_BEAM, geometry()) == 0.0
