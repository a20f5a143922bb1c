"""Primary beams: CASA's to the last tabulated sample, diffraction as in the textbook, and arrays that have none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.imaging.primary_beams import (
    ALMA_7M,
    ALMA_12M,
    VLA_25M,
    Dish,
    PbModel,
    airy_voltage,
    apply_pb_mask,
    dish_of,
    pb_correct,
    primary_beam,
)

GEOMETRY = ImageGeometry(65, 33, ARCSEC_RAD, 2.0 * ARCSEC_RAD, 0.0, 0.0)


def pixels(values: list[list[float]]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def half_power_radius_rad(dish: Dish, freq_hz: float, pb_model: PbModel) -> float:
    strip = ImageGeometry(1, 4001, 1e-6, 1e9 / freq_hz * 20.0 * DEG_RAD / dish.diameter_m / 4001.0, 0.0, 0.0)
    pattern = primary_beam(strip, freq_hz, dish, pb_model)[2000:, 0]
    return float(strip.m_axis()[2000 + np.argmax(pattern < 0.5)])


def test_known_telescopes_have_their_dishes() -> None:
    assert dish_of("ALMA", 12.0) is ALMA_12M
    assert dish_of("ALMA", [7.0, 7.0]) is ALMA_7M
    assert dish_of("ACA", 7.0) is ALMA_7M
    assert dish_of("evla ", np.full(27, 25.0)) is VLA_25M
    assert (ALMA_12M.diameter_m, ALMA_12M.blockage_m, ALMA_7M.diameter_m) == (10.7, 0.75, 6.25)


@pytest.mark.parametrize(("telescope", "diameter_m"), [("SMA", 6.0), ("ALMA", 25.0), ("", 0.0)])
def test_unknown_dishes_are_refused_by_name_with_what_is_known(telescope: str, diameter_m: float) -> None:
    with pytest.raises(DataError, match=rf"{telescope} with dishes of {diameter_m:g} m .*ALMA 12 m.*pb_model = 'none'"):
        dish_of(telescope, diameter_m)


@pytest.mark.parametrize("diameters_m", [[12.0, 7.0], []])
def test_mixed_arrays_are_refused(diameters_m: list[float]) -> None:
    with pytest.raises(DataError, match=r"ALMA: dishes of .* no single primary beam"):
        dish_of("ALMA", diameters_m)


@pytest.mark.parametrize("pb_model", ["casa", "airy"])
@pytest.mark.parametrize("dish", [ALMA_12M, ALMA_7M, VLA_25M])
def test_beam_is_one_at_the_phase_centre_and_symmetric(dish: Dish, pb_model: PbModel) -> None:
    pb = primary_beam(GEOMETRY, 1e11, dish, pb_model)
    assert pb.shape == GEOMETRY.shape
    assert pb.dtype == np.float32
    assert pb[16, 32] == 1.0 == pb.max()
    np.testing.assert_array_equal(pb, pb[::-1, ::-1])
    assert pb[16, 32 + 8] == pytest.approx(pb[16 + 4, 32], abs=2e-3)  # the same angle in cells of 1 and 2 arcsec


def test_full_width_of_the_alma_beam_is_1_13_wavelengths_per_dish() -> None:
    # ALMA Technical Handbook: about 1.13 lambda / D with D = 12 m for the tapered dish.
    width_rad = 2.0 * half_power_radius_rad(ALMA_12M, 100e9, "airy")
    assert width_rad == pytest.approx(1.13 * SPEED_OF_LIGHT_M_S / 100e9 / 12.0, rel=0.02)


def test_unblocked_aperture_has_its_first_null_at_1_22_wavelengths() -> None:
    open_dish = Dish("open", 10.0, 1e-6, 1.0)
    x = np.array([0.0, 1.61633, 3.8317059702])
    np.testing.assert_allclose(airy_voltage(x, open_dish) ** 2, [1.0, 0.5, 0.0], atol=1e-5)


def test_beam_scales_with_the_wavelength() -> None:
    models: tuple[PbModel, ...] = ("casa", "airy")
    for pb_model in models:
        low, high = (half_power_radius_rad(VLA_25M, freq_hz, pb_model) for freq_hz in (1.4e9, 5.6e9))
        assert low == pytest.approx(4.0 * high, rel=5e-3)


def test_casa_beam_is_one_and_a_half_per_cent_too_high_at_half_power() -> None:
    geometry = ImageGeometry(1, 401, 1e-6, 0.1 * ARCSEC_RAD, 0.0, 0.0)
    casa = primary_beam(geometry, 230e9, ALMA_12M, "casa")[:, 0]
    airy = primary_beam(geometry, 230e9, ALMA_12M, "airy")[:, 0]
    at_half_power = np.argmin(np.abs(airy - 0.5))
    assert casa[at_half_power] / airy[at_half_power] == pytest.approx(1.014, abs=3e-3)


def test_casa_beam_ends_at_its_maximum_radius_and_the_textbook_one_does_not() -> None:
    freq_hz = 100e9
    limit_rad = 1.784 * DEG_RAD / 100.0
    strip = ImageGeometry(1, 2001, 1e-6, limit_rad / 900.5, 0.0, 0.0)
    beyond = np.abs(strip.m_axis()) > limit_rad
    casa = primary_beam(strip, freq_hz, ALMA_12M, "casa")[:, 0]
    assert (casa[beyond] == 0.0).all()
    assert (casa[~beyond] > 0.0).all()
    assert primary_beam(strip, freq_hz, ALMA_12M, "airy")[beyond].max() > 0.0


def test_without_a_model_the_beam_is_one_everywhere() -> None:
    assert (primary_beam(GEOMETRY, 1e11, None, "none") == 1.0).all()
    assert (primary_beam(GEOMETRY, 1e11, ALMA_12M, "none") == 1.0).all()


def test_a_model_needs_a_dish() -> None:
    with pytest.raises(DataError, match="pb_model"):
        primary_beam(GEOMETRY, 1e11, None, "casa")


@pytest.mark.golden
@pytest.mark.parametrize("case", ["ngc5921_briggs05_dirty", "ngc5921_mfs_dirty"])
def test_vla_beam_is_casa_beam(shared: Path, case: str) -> None:
    from astropy.io import fits

    with fits.open(shared / "golden" / f"{case}.pb.fits.gz") as hdus:
        golden, header = hdus[0].data[0], hdus[0].header
    geometry = ImageGeometry(128, 128, -header["CDELT1"] * DEG_RAD, header["CDELT2"] * DEG_RAD, 0.0, 0.0)
    for channel, expected in enumerate(golden):
        pb = primary_beam(geometry, header["CRVAL3"] + channel * header["CDELT3"], VLA_25M)
        np.testing.assert_array_equal(np.isnan(apply_pb_mask(pb, pb, 0.2)), np.isnan(expected))
        difference = np.abs(pb - expected)[~np.isnan(expected)]
        assert difference.max() < 2e-4  # one step of the table, where rounding picks the neighbouring sample
        assert np.count_nonzero(difference > 2e-7) <= 32


def test_mask_takes_what_is_at_or_below_the_limit_and_a_negative_limit_takes_nothing() -> None:
    image, pb = np.array([[1.0, 2.0, 3.0]], dtype=np.float32), np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    np.testing.assert_array_equal(np.isnan(apply_pb_mask(image, pb, 0.2)), [[True, True, False]])
    np.testing.assert_array_equal(apply_pb_mask(image, pb, -0.2), image)
    assert apply_pb_mask(image, pb, -0.2) is not image


def test_correction_divides_by_the_beam_and_never_by_zero() -> None:
    image = np.array([[1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    pb = np.array([[0.0, 0.2, 0.5, 1.0]], dtype=np.float32)
    for pblimit in (0.2, -0.2):
        np.testing.assert_array_equal(pb_correct(image, pb, pblimit), pixels([[np.nan, np.nan, 6.0, 4.0]]))
    np.testing.assert_array_equal(pb_correct(image, pb, 0.0), pixels([[np.nan, 10.0, 6.0, 4.0]]))
    assert math.isnan(pb_correct(pixels([[np.nan]]), pixels([[1.0]]), 0.2)[0, 0])


@pytest.mark.parametrize("pb_model", ["casa", "airy"])
def test_beam_off_the_image_centre_is_the_centred_one_moved(pb_model: PbModel) -> None:
    freq_hz, cell = 115e9, 0.5 * ARCSEC_RAD
    geometry = ImageGeometry(129, 97, cell, cell, 1.0, -0.4)
    centred = primary_beam(geometry, freq_hz, ALMA_12M, pb_model)
    moved = primary_beam(geometry, freq_hz, ALMA_12M, pb_model, axis_lm=(20 * cell, -10 * cell))
    assert np.unravel_index(np.argmax(moved), moved.shape) == (48 - 10, 64 - 20)
    assert moved[:-10, :-20] == pytest.approx(centred[10:, 20:], abs=2e-4)
