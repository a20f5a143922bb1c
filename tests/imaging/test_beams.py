"""Beams fitted to PSFs: known gaussians, CASA's own fits, and PSFs that have no beam."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.data.beam import NULL_BEAM, Beam, BeamColumns
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.beams import fit_beam, largest_beam

GEOMETRY = ImageGeometry(64, 64, ARCSEC_RAD, ARCSEC_RAD, 0.0, 0.0)


def gaussian(beam: Beam, geometry: ImageGeometry) -> NDArray[np.float32]:
    """A gaussian at the phase centre, written in widths and angle."""
    l_rad, m_rad = geometry.l_axis()[np.newaxis, :], geometry.m_axis()[:, np.newaxis]
    along = l_rad * math.sin(beam.pa_rad) + m_rad * math.cos(beam.pa_rad)
    across = l_rad * math.cos(beam.pa_rad) - m_rad * math.sin(beam.pa_rad)
    return np.exp2(-4.0 * ((along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2)).astype(np.float32)


def assert_close(fitted: Beam | None, true: Beam) -> None:
    relative = 3e-3  # interpolating a gaussian of five pixels by cubics costs 0.2 %, in CASA too
    assert fitted is not None
    assert fitted.major_rad == pytest.approx(true.major_rad, rel=relative)
    assert fitted.minor_rad == pytest.approx(true.minor_rad, rel=relative)
    turn = (fitted.pa_rad - true.pa_rad + math.pi / 2.0) % math.pi - math.pi / 2.0
    assert abs(turn) < 0.2 * DEG_RAD


@pytest.mark.parametrize("pa_deg", [-80.0, -30.0, 0.0, 45.0, 90.0])
def test_gaussian_psf_gives_its_own_widths_and_angle_from_north_through_east(pa_deg: float) -> None:
    beam = Beam(8.0 * ARCSEC_RAD, 5.0 * ARCSEC_RAD, pa_deg * DEG_RAD)
    assert_close(fit_beam(gaussian(beam, GEOMETRY), GEOMETRY), beam)


def test_major_axis_to_the_north_east_has_a_positive_angle() -> None:
    psf = np.zeros(GEOMETRY.shape, dtype=np.float32)
    for step in range(-6, 7):
        psf[32 + step, 32 - step] = 1.0 - 0.14 * abs(step)  # north is up, east is left
    psf += gaussian(Beam(4.0 * ARCSEC_RAD, 4.0 * ARCSEC_RAD, 0.0), GEOMETRY)
    fitted = fit_beam(psf, GEOMETRY)
    assert fitted is not None
    assert fitted.pa_rad == pytest.approx(math.pi / 4.0, abs=0.05)


def test_round_beam_is_fitted() -> None:
    beam = Beam(6.0 * ARCSEC_RAD, 6.0 * ARCSEC_RAD, 0.0)
    fitted = fit_beam(gaussian(beam, GEOMETRY), GEOMETRY)
    assert fitted is not None
    assert (fitted.major_rad, fitted.minor_rad) == pytest.approx((beam.major_rad, beam.minor_rad), rel=1e-3)


def test_cells_that_are_not_square_give_the_same_beam_on_the_sky() -> None:
    geometry = replace(GEOMETRY, cell_x_rad=0.7 * ARCSEC_RAD, cell_y_rad=1.3 * ARCSEC_RAD)
    beam = Beam(9.0 * ARCSEC_RAD, 6.0 * ARCSEC_RAD, 0.5)
    assert_close(fit_beam(gaussian(beam, geometry), geometry), beam)


def test_scale_of_the_psf_does_not_matter() -> None:
    psf = gaussian(Beam(7.0 * ARCSEC_RAD, 5.0 * ARCSEC_RAD, 0.3), GEOMETRY)
    assert fit_beam(psf * np.float32(1024.0), GEOMETRY) == fit_beam(psf, GEOMETRY)


def test_sidelobes_above_the_cutoff_that_are_apart_from_the_lobe_are_left_out() -> None:
    beam = Beam(5.0 * ARCSEC_RAD, 4.0 * ARCSEC_RAD, 0.3)
    psf = gaussian(beam, GEOMETRY)
    fringed = psf + np.float32(0.6) * (np.roll(psf, 14, axis=1) + np.roll(psf, -14, axis=1))
    assert_close(fit_beam(fringed, GEOMETRY), beam)


@pytest.mark.parametrize("size", [16, 20, 21, 33])
def test_lobe_that_reaches_the_edges_of_a_small_image_is_fitted_without_bias(size: int) -> None:
    geometry = replace(GEOMETRY, nx=size, ny=size)
    beam = Beam(14.0 * ARCSEC_RAD, 11.0 * ARCSEC_RAD, 0.3)
    assert_close(fit_beam(gaussian(beam, geometry), geometry), beam)


@pytest.mark.parametrize(("nx", "ny"), [(1, 1), (1, 8), (2, 2), (3, 1)])
def test_images_of_a_few_pixels_have_no_beam(nx: int, ny: int) -> None:
    geometry = replace(GEOMETRY, nx=nx, ny=ny)
    assert fit_beam(np.ones((ny, nx), dtype=np.float32), geometry) is None


@pytest.mark.parametrize("size", [8, 20, 64, 200])
@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2])
def test_fringe_of_a_single_baseline_has_no_beam(size: int, angle: float) -> None:
    geometry = replace(GEOMETRY, nx=size, ny=size)
    phase = geometry.l_axis()[np.newaxis, :] * math.cos(angle) + geometry.m_axis()[:, np.newaxis] * math.sin(angle)
    fringe = np.cos(2.0 * math.pi * phase / (9.0 * ARCSEC_RAD)).astype(np.float32)
    assert fit_beam(fringe, geometry) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, 1.0])
def test_constant_planes_have_no_beam(value: float) -> None:
    assert fit_beam(np.full(GEOMETRY.shape, value, dtype=np.float32), GEOMETRY) is None


def test_nan_near_the_centre_means_no_beam() -> None:
    psf = gaussian(Beam(7.0 * ARCSEC_RAD, 5.0 * ARCSEC_RAD, 0.3), GEOMETRY)
    psf[30, 40] = np.nan
    assert fit_beam(psf, GEOMETRY) is None


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_raises(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=GEOMETRY.shape).astype(np.float32)
    noise[32, 32] = 1.0
    fitted = fit_beam(noise, GEOMETRY)
    assert fitted is None or (0.0 < fitted.minor_rad <= fitted.major_rad < 100.0 * ARCSEC_RAD)


def test_psf_is_not_changed_and_the_fit_repeats_to_the_bit() -> None:
    psf = gaussian(Beam(7.0 * ARCSEC_RAD, 5.0 * ARCSEC_RAD, 0.3), GEOMETRY)
    before = psf.copy()
    assert fit_beam(psf, GEOMETRY) == fit_beam(psf, GEOMETRY)
    np.testing.assert_array_equal(psf, before)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["ngc5921_briggs05_clean", "mosaic_briggs05_dirty", "ngc5921_mfs_dirty"])
def test_casa_psfs_give_casa_beams_to_a_millionth(shared: Path, case: str) -> None:
    from astropy.io import fits

    with fits.open(shared / "golden" / f"{case}.psf.fits.gz") as hdus:
        planes, header = hdus[0].data[0].astype(np.float32), hdus[0].header
    cells_rad = (-header["CDELT1"] * DEG_RAD, header["CDELT2"] * DEG_RAD)
    geometry = ImageGeometry(planes.shape[2], planes.shape[1], *cells_rad, 0.0, 0.0)
    beams = json.loads((shared / "golden" / f"{case}.json").read_text())["beams_arcsec_deg"]
    assert len(beams) == len(planes)
    for psf, (major, minor, pa) in zip(planes, beams, strict=True):
        fitted = fit_beam(psf, geometry)
        assert fitted is not None
        assert fitted.major_rad == pytest.approx(major * ARCSEC_RAD, rel=1e-6)
        assert fitted.minor_rad == pytest.approx(minor * ARCSEC_RAD, rel=1e-6)
        assert fitted.pa_rad == pytest.approx(pa * DEG_RAD, abs=1e-3 * DEG_RAD)


def test_the_beam_for_failed_planes_is_the_largest_and_the_first_of_equals() -> None:
    small, large, turned = Beam(2.0, 1.0, 0.1), Beam(2.0, 1.5, 0.2), Beam(1.5, 2.0, 0.3)
    beams = BeamColumns(*np.array([[b.major_rad, b.minor_rad, b.pa_rad] for b in (small, NULL_BEAM, large, turned)]).T)
    assert largest_beam(beams) == beams[2] == beams[1:][1] == large


def test_a_cube_without_any_beam_has_no_largest_one() -> None:
    assert largest_beam([NULL_BEAM, NULL_BEAM]) == largest_beam([]) == NULL_BEAM
