"""Restoring: components become beams, nothing wraps round, and CASA's images come out of its models and residuals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.imaging.beam_algebra import beam_of, form_of
from radps_mpi.imaging.restoring import convolve, rescale_residual, residual_kernel, restore

GEOMETRY = ImageGeometry(60, 48, 1.1 * ARCSEC_RAD, 0.9 * ARCSEC_RAD, 0.0, 0.0)
BEAM = Beam(7.0 * ARCSEC_RAD, 4.0 * ARCSEC_RAD, 0.6)
ZEROS = np.zeros(GEOMETRY.shape, dtype=np.float32)


def gaussian_at(y: int, x: int, beam: Beam, geometry: ImageGeometry = GEOMETRY) -> NDArray[np.float64]:
    """A unit-peak gaussian about a pixel, written in widths and angle."""
    l_rad = (geometry.l_axis() - geometry.l_axis()[x])[np.newaxis, :]
    m_rad = (geometry.m_axis() - geometry.m_axis()[y])[:, np.newaxis]
    along = l_rad * math.sin(beam.pa_rad) + m_rad * math.cos(beam.pa_rad)
    across = l_rad * math.cos(beam.pa_rad) - m_rad * math.sin(beam.pa_rad)
    return np.exp2(-4.0 * ((along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2))


def model_of(components: dict[tuple[int, int], float], geometry: ImageGeometry = GEOMETRY) -> NDArray[np.float32]:
    model = np.zeros(geometry.shape, dtype=np.float32)
    for (y, x), flux in components.items():
        model[y, x] = flux
    return model


@pytest.mark.parametrize(
    "components",
    [{(24, 30): 2.0}, {(0, 0): 1.0}, {(47, 59): -3.0}, {(3, 57): 1.0, (40, 2): -0.5, (41, 2): 0.25}],
)
def test_components_become_beams_of_their_flux_and_nothing_wraps(components: dict[tuple[int, int], float]) -> None:
    restored = restore(model_of(components), ZEROS, BEAM, GEOMETRY)
    expected = sum(flux * gaussian_at(y, x, BEAM) for (y, x), flux in components.items())
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected, rtol=0.0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("width_pixels", [0.3, 1.0, 2.0, 300.0])
def test_peak_is_the_flux_however_narrow_or_wide_the_beam(width_pixels: float) -> None:
    beam = Beam(width_pixels * ARCSEC_RAD, width_pixels * ARCSEC_RAD, 0.0)
    restored = restore(model_of({(20, 20): 5.0}), ZEROS, beam, GEOMETRY)
    np.testing.assert_allclose(restored, 5.0 * gaussian_at(20, 20, beam), atol=5e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8)])
def test_images_of_a_few_pixels_are_restored(shape: tuple[int, int]) -> None:
    geometry = replace(GEOMETRY, ny=shape[0], nx=shape[1])
    model = np.ones(shape, dtype=np.float32)
    expected = sum(gaussian_at(y, x, BEAM, geometry) for y in range(shape[0]) for x in range(shape[1]))
    np.testing.assert_allclose(restore(model, np.zeros_like(model), BEAM, geometry), expected, rtol=1e-5)


def test_residual_is_added_and_kept_as_it_is_without_components() -> None:
    residual = np.random.default_rng(1).normal(size=GEOMETRY.shape).astype(np.float32)
    np.testing.assert_array_equal(restore(ZEROS, residual, BEAM, GEOMETRY), residual)
    restored = restore(model_of({(10, 10): 1.0}), residual, BEAM, GEOMETRY)
    np.testing.assert_allclose(restored - residual, gaussian_at(10, 10, BEAM), atol=1e-6)


def test_blank_planes_stay_blank_and_nan_pixels_stay_nan() -> None:
    blank = np.full(GEOMETRY.shape, np.nan, dtype=np.float32)
    assert np.isnan(restore(ZEROS, blank, NULL_BEAM, GEOMETRY)).all()
    assert np.isnan(restore(blank, blank, NULL_BEAM, GEOMETRY, fitted_beam=BEAM)).all()
    residual = ZEROS.copy()
    residual[5, 5] = np.nan
    wide = Beam(20.0 * ARCSEC_RAD, 18.0 * ARCSEC_RAD, 0.0)
    for fitted_beam in (None, BEAM):
        restored = restore(model_of({(10, 10): 1.0}), residual, wide, GEOMETRY, fitted_beam=fitted_beam)
        assert np.flatnonzero(np.isnan(restored)).tolist() == [5 * GEOMETRY.nx + 5]


def test_components_without_a_beam_are_an_error_but_a_dirty_image_is_not() -> None:
    with pytest.raises(DataError, match="restoringbeam"):
        restore(model_of({(10, 10): 1.0}), ZEROS, NULL_BEAM, GEOMETRY)
    np.testing.assert_array_equal(restore(ZEROS, ZEROS + 1.0, NULL_BEAM, GEOMETRY), ZEROS + 1.0)


def test_inputs_are_not_changed() -> None:
    model, residual = model_of({(10, 10): 1.0}), ZEROS + np.float32(1.0)
    restore(model, residual, Beam(20.0 * ARCSEC_RAD, 18.0 * ARCSEC_RAD, 0.0), GEOMETRY, fitted_beam=BEAM)
    assert model.sum() == 1.0
    assert (residual == 1.0).all()


def test_threads_do_not_change_a_bit() -> None:
    geometry = replace(GEOMETRY, nx=300, ny=257)
    image = np.random.default_rng(2).normal(size=geometry.shape).astype(np.float32)
    one = convolve(image, BEAM, geometry, threads=1)
    for threads in (2, 3):
        np.testing.assert_array_equal(convolve(image, BEAM, geometry, threads=threads), one)


def test_residual_of_a_point_gets_the_shape_and_the_unit_of_the_wider_beam() -> None:
    wide = beam_of(form_of(BEAM) + form_of(Beam(6.0 * ARCSEC_RAD, 5.0 * ARCSEC_RAD, -0.3)))
    assert wide is not None
    residual = gaussian_at(24, 30, BEAM).astype(np.float32)  # a point of 1 Jy that was not cleaned
    np.testing.assert_allclose(
        restore(ZEROS, residual, wide, GEOMETRY, fitted_beam=BEAM), gaussian_at(24, 30, wide), atol=2e-3
    )


def test_residual_is_left_alone_where_the_kernel_is_narrower_than_a_pixel_diagonal_or_missing() -> None:
    diagonal_rad = math.hypot(GEOMETRY.cell_x_rad, GEOMETRY.cell_y_rad)
    for factor, rescaled in ((0.99, False), (1.01, True)):
        kernel = Beam(factor * diagonal_rad, factor * diagonal_rad, 0.0)
        wide = beam_of(form_of(BEAM) + form_of(kernel))
        assert wide is not None
        assert (residual_kernel(wide, BEAM, GEOMETRY) is not None) is rescaled
    narrower = Beam(5.0 * ARCSEC_RAD, 3.0 * ARCSEC_RAD, 0.6)
    for wanted in (BEAM, narrower, NULL_BEAM):
        assert residual_kernel(wanted, BEAM, GEOMETRY) is None
        assert rescale_residual(ZEROS, wanted, BEAM, GEOMETRY) is ZEROS
    assert residual_kernel(BEAM, NULL_BEAM, GEOMETRY) is None


@pytest.mark.golden
@pytest.mark.parametrize("case", ["ngc5921_briggs05_clean", "ngc5921_briggs05_clean_common"])
def test_casa_model_and_residual_give_casa_image(shared: Path, case: str) -> None:
    from astropy.io import fits

    def cube(name: str) -> NDArray[np.float32]:
        return np.asarray(fits.getdata(shared / "golden" / f"{name}.fits.gz")[0], dtype=np.float32)

    own = "ngc5921_briggs05_clean"
    image, residual, model = cube(f"{case}.image"), cube(f"{case}.residual"), cube(f"{own}.model")
    rows = json.loads((shared / "golden" / f"{own}.json").read_text())["beams_arcsec_deg"]
    fitted = [Beam(a * ARCSEC_RAD, b * ARCSEC_RAD, p * DEG_RAD) for a, b, p in rows]
    common = json.loads((shared / "golden" / f"{case}.json").read_text())["beams_arcsec_deg"]
    geometry = ImageGeometry(128, 128, 15.0 * ARCSEC_RAD, 15.0 * ARCSEC_RAD, 0.0, 0.0)
    inner = slice(16, -16)  # the goldens are cropped: components beyond their edges shine in
    for channel in range(len(image)):
        beam = fitted[channel]
        if len(common) == 1:  # this one entry of the goldens has its angle in radians
            beam = Beam(common[0][0] * ARCSEC_RAD, common[0][1] * ARCSEC_RAD, common[0][2])
        restored = restore(model[channel], residual[channel], beam, geometry, fitted_beam=fitted[channel])
        difference = np.abs(restored - image[channel])[inner, inner].max()
        assert difference < 1e-6 * image.max()
