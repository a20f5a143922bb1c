"""Quantities and directions as people type them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radps_mpi import units
from radps_mpi.errors import UsageError
from radps_mpi.units import Direction, UnitError


@pytest.mark.parametrize(("text", "value"), [
    ("1deg", math.pi / 180.0),
    ("15arcsec", math.radians(15.0 / 3600.0)),
    ("-2.5 arcmin", -math.radians(2.5 / 60.0)),
    ("3mas", math.radians(3e-3 / 3600.0)),
    ("30'", math.radians(0.5)),
    ('1.5"', math.radians(1.5 / 3600.0)),
    ("1e-3rad", 1e-3),
])
def test_angles_become_radians(text: str, value: float) -> None:
    assert units.angle_rad(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(("one", "other"), [
    ("0.25arcmin", "15arcsec"), ("0.1deg", "360arcsec"), ("1arcsec", "1000mas"), ("15''", '15"'),
])
def test_the_same_angle_in_two_units_has_the_same_bits(one: str, other: str) -> None:
    assert units.angle_rad(one) == units.angle_rad(other)


def test_decimal_texts_are_converted_exactly() -> None:
    assert units.frequency_hz("1420.405752MHz") == 1_420_405_752.0
    assert units.frequency_hz("1.420405752 GHz") == 1_420_405_752.0
    assert units.frequency_hz("24.4140625kHz") == 24_414.0625
    assert units.velocity_m_s("1400.1km/s") == 1_400_100.0
    assert units.velocity_m_s("-250 m/s") == -250.0
    assert units.duration_s("1.5h") == 5400.0


def test_fluxes_are_in_jy_with_or_without_a_beam_and_bare_numbers_count_as_jy() -> None:
    assert units.flux_density_jy("8mJy") == 0.008
    assert units.flux_density_jy("8 mJy/beam") == 0.008
    assert units.flux_density_jy("3µJy") == units.flux_density_jy("3uJy") == 3e-6
    assert units.flux_density_jy("0.008") == 0.008


def test_sizes_tell_powers_of_1000_from_powers_of_1024() -> None:
    assert units.size_bytes("2GB") == 2_000_000_000
    assert units.size_bytes("1.5 GiB") == 3 * 2**29


@pytest.mark.parametrize(("text", "suggestion"), [
    ("15arsec", "arcsec"), ("15ARCSEC", "arcsec"), ("15 degs", "deg"), ("15arcsecs", "arcsec"),
])
def test_an_unknown_unit_suggests_the_nearest(text: str, suggestion: str) -> None:
    with pytest.raises(UnitError, match=f"did you mean '{suggestion}'"):
        units.angle_rad(text)


@pytest.mark.parametrize("text", [
    "", " ", "arcsec", "abc", "15", "1e400deg", "1e9999999deg", "nan deg", "1 5arcsec", "--1deg"])
def test_what_is_not_an_angle_is_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        units.angle_rad(text)
    assert repr(text) in str(caught.value)


def test_a_missing_unit_is_shown_how_to_write() -> None:
    with pytest.raises(UnitError, match=r"'15' has no unit.*'15arcsec'"):
        units.angle_rad("15")


def test_millihertz_is_not_taken_for_megahertz() -> None:
    with pytest.raises(UnitError, match="did you mean 'MHz'"):
        units.frequency_hz("1420mHz")


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_any_number_is_read_as_python_reads_it(value: float) -> None:
    assert units.frequency_hz(f"{value!r}Hz") == value


@pytest.mark.parametrize("text", [
    "J2000 10h00m00 -30d30m00", "10:00:00.0 -30.30.00", "j2000 10h00m -30d30m00.0s", "150deg, -30.5deg",
    "J2000 -210deg -1830arcmin",
])
def test_one_direction_written_in_five_ways_is_one(text: str) -> None:
    found = units.parse_direction(text)
    assert found.frame == "J2000"
    assert found.ra_rad == pytest.approx(math.radians(150.0), abs=1e-15)
    assert found.dec_rad == pytest.approx(math.radians(-30.5), abs=1e-15)


def test_icrs_directions_keep_their_frame() -> None:
    assert units.parse_direction("ICRS 150.0deg -30deg").frame == "ICRS"


def test_the_sign_of_a_declination_within_a_degree_of_the_equator_is_kept() -> None:
    assert units.parse_declination("-0d30m00") == pytest.approx(math.radians(-0.5))
    assert units.parse_declination("-00.30.00") == pytest.approx(math.radians(-0.5))


def test_a_right_ascension_just_below_zero_is_below_a_full_turn() -> None:
    assert 0.0 <= units.parse_right_ascension("-1e-30deg") < 2.0 * math.pi


@pytest.mark.parametrize(("text", "message"), [
    ("J200 1deg 2deg", "did you mean 'J2000'"),
    ("B1950 1deg 2deg", "B1950 are not supported"),
    ("10h00m00", "is not a direction"),
    ("25h00m00 1deg", "outside 0h to 24h"),
    ("1h60m00 1deg", "60 or more"),
    ("1deg 91deg", "outside -90deg to 90deg"),
    ("10h00m00 -30:00:00", "-30d00m00 or -30.00.00"),
    ("10h00m00 thirty", "'thirty' is not a number"),
])
def test_directions_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        units.parse_direction(text)


@given(st.floats(0.0, 6.283), st.floats(-1.5707, 1.5707))
def test_a_formatted_direction_reads_back_to_its_last_digit(ra_rad: float, dec_rad: float) -> None:
    back = units.parse_direction(units.format_direction(Direction(ra_rad, dec_rad, "ICRS")))
    assert back.frame == "ICRS"
    assert back.ra_rad == pytest.approx(ra_rad, abs=0.51 * math.radians(15e-3 / 3600.0))
    assert back.dec_rad == pytest.approx(dec_rad, abs=0.51 * math.radians(1e-2 / 3600.0))


def test_formatted_numbers_come_in_the_unit_that_people_use() -> None:
    assert units.format_angle(units.angle_rad("15arcsec")) == "15 arcsec"
    assert units.format_angle(units.angle_rad("1deg")) == "1 deg"
    assert units.format_frequency(1_420_405_752.0) == "1.420405752 GHz"
    assert units.format_frequency(-24_414.0625) == "-24.4140625 kHz"
    assert units.format_velocity(1_400_000.0) == "1400 km/s"
    assert units.format_flux_density(0.008) == "8 mJy"
    assert units.format_bytes(1.5e9) == "1.5 GB"
    assert units.format_bytes(0.0) == "0 B"


def test_durations_are_rounded_to_what_matters() -> None:
    assert [units.format_duration(s) for s in (0.524, 75.0, 750.0, 11_100.0)] == [
        "0.524 s", "75 s", "12 min 30 s", "3 h 05 min"]


def test_names_are_suggested_only_if_they_are_near() -> None:
    known = ["niter", "imsize", "MHz"]
    assert units.nearest("nitre", known) == "niter"
    assert units.nearest("mhz", known) == "MHz"
    assert units.nearest("zzzzzz", known) is None
    assert units.did_you_mean("zzzzzz", known) == ""
