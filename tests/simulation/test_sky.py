"""The sky file, and what its components radiate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.errors import DataError
from radps_mpi.simulation.sky import Sky
from radps_mpi.simulation.sky_toml import parse_sky
from radps_mpi.units import parse_direction

REST_HZ = 230.538e9
STILL = np.ones(1)


def sky_of(text: str, **changes: Any) -> Sky:
    parameters = {"centre": parse_direction("J2000 10h00m00 -30d00m00"), "nchan": 4, "middle_hz": REST_HZ,
                  "restfreq_hz": REST_HZ}  # fmt: skip
    return parse_sky(text, "sky.toml", **(parameters | changes))


def at_velocity(km_s: float) -> float:
    return REST_HZ * (1.0 - km_s * 1e3 / SPEED_OF_LIGHT_M_S)


def test_a_component_lies_where_its_offset_or_direction_says() -> None:
    sky = sky_of('[[component]]\noffset = ["3arcsec", "-2arcsec"]\nflux = 1\n'
                 '[[component]]\ndirection = "J2000 10h00m01 -30d00m00"\nflux = "5mJy"')  # fmt: skip
    np.testing.assert_allclose(sky.lmn[0, :2], np.array([3.0, -2.0]) * ARCSEC_RAD, rtol=1e-9)
    np.testing.assert_allclose(sky.lmn[1, 0], 15.0 * ARCSEC_RAD * math.cos(math.radians(30.0)), rtol=1e-8)
    np.testing.assert_allclose(sky.lmn[:, 2], np.sqrt(1.0 - (sky.lmn[:, :2] ** 2).sum(axis=1)) - 1.0, atol=1e-16)
    np.testing.assert_array_equal(sky.flux_jy, [1.0, 0.005])


def test_continuum_follows_its_index_or_its_list() -> None:
    sky = sky_of('[[component]]\nflux = 2\nspectral_index = -1\nreference_frequency = "100GHz"\n'
                 '[[component]]\nflux = [1, "2mJy", 0, 4]')  # fmt: skip
    which, flux = sky.radiating(1, 200e9, STILL)
    np.testing.assert_array_equal(which, [0, 1])
    np.testing.assert_allclose(flux[:, 0], [1.0, 0.002])
    which, flux = sky.radiating(2, 200e9, STILL)
    np.testing.assert_array_equal(which, [0])


def test_a_line_has_its_peak_at_its_velocity_and_half_of_it_half_a_width_away() -> None:
    sky = sky_of('[[component]]\nline = [{peak = 0.5, velocity = "20km/s", fwhm = "4km/s"}, '
                 '{peak = "1Jy", velocity = "500km/s", fwhm = "4km/s"}]')  # fmt: skip
    for km_s, expected in ((20.0, 0.5), (22.0, 0.25), (18.0, 0.25), (500.0, 1.0)):
        which, flux = sky.radiating(0, at_velocity(km_s), STILL)
        np.testing.assert_array_equal(which, [0])
        np.testing.assert_allclose(flux, [[expected]], rtol=1e-6)
    which, flux = sky.radiating(0, at_velocity(60.0), STILL)
    assert (len(which), flux.shape) == (0, (0, 1)), "dark between the lines"


def test_a_line_moves_with_the_observer() -> None:
    sky = sky_of('[[component]]\nline = {peak = 1, velocity = "20km/s", fwhm = "4km/s"}')
    factor = np.array([1.0, 1.0 + 2e3 / SPEED_OF_LIGHT_M_S])
    _, flux = sky.radiating(0, at_velocity(20.0), factor)
    np.testing.assert_allclose(flux, [[1.0, 0.5]], rtol=1e-3)


DISC = """[[component]]
kind = "disc"
radius = "5arcsec"
inclination = "60deg"
pa = "90deg"
rotation = "100km/s"
velocity = "10km/s"
fwhm = "15km/s"
line_flux = 3.0
flux = "20mJy"
points = 500
"""


def test_a_disc_holds_its_flux_and_turns_as_it_should() -> None:
    sky = sky_of(DISC)
    assert sky.flux_jy.sum() == pytest.approx(0.02)
    velocity_km_s = np.arange(-130.0, 150.0, 2.0)
    total = [sum(sky.radiating(0, at_velocity(v), STILL)[1][:, 0]) - 0.02 for v in velocity_km_s]
    assert sum(total) * 2.0 == pytest.approx(3.0, rel=1e-3)
    assert np.sum(total * velocity_km_s) / sum(total) == pytest.approx(10.0, abs=1.0)
    east, north = sky.lmn[:, :2].T / ARCSEC_RAD
    assert abs(east).max() == pytest.approx(5.0, rel=0.02)
    assert abs(north).max() == pytest.approx(2.5, rel=0.02), "inclined by 60 degrees"
    outer = east > 3.0
    speed = (sky.lines[outer, 1] - 10e3) / 1e3
    assert speed.min() > 0.0, "the eastern half recedes"
    assert speed.max() == pytest.approx(100.0 * math.sin(math.radians(60.0)), rel=0.05)


def test_a_gaussian_tapers_along_its_axes() -> None:
    sky = sky_of('[[component]]\nkind = "gaussian"\nsize = ["4arcsec", "2arcsec", "90deg"]\nflux = 1')
    a, b, c = sky.shape[0]
    # the transform of a gaussian of width FWHM falls to half at 2 ln 2 / (pi FWHM)
    for form, arcsec in ((a, 4.0), (c, 2.0)):
        half = 2.0 * math.log(2.0) / (math.pi * arcsec * ARCSEC_RAD)
        assert math.exp(-form * half**2) == pytest.approx(0.5)
    assert b == pytest.approx(0.0, abs=1e-9 * a)


@pytest.mark.parametrize(("text", "message"), [
    ("component = 3", "write each component under"),
    ('[[component]]\nkind = "pointt"', "did you mean 'point'"),
    ('[[component]]\nflx = 1', "component 0: unknown name 'flx' (did you mean 'flux'?)"),
    ('[[component]]\nflux = "1 Jansky"', "component 0: flux: '1 Jansky' has an unknown unit"),
    ("[[component]]\nflux = [1, 2]", "flux has 2 values for 4 channels"),
    ('[[component]]\noffset = ["1arcsec"]', "offset is not a list of 2 values"),
    ('[[component]]\ndirection = "J2000 22h00m00 30d00m00"', "90 degrees or more"),
    ('[[component]]\ndirection = "ICRS 10h00m00 -30d00m00"', "direction is in ICRS"),
    ('[[component]]\nkind = "gaussian"\nflux = 1', "size is not a list of 3"),
    ('[[component]]\nkind = "gaussian"\nsize = ["1arcsec", "2arcsec", "0deg"]', "minor axis"),
    ('[[component]]\nline = {peak = 1, velocity = "0km/s", fwhm = "0km/s"}', "fwhm is not above 0"),
    ('[[component]]\nline = {peak = 1, fwhm = "1km/s"}', "velocity is missing"),
    ('[[component]]\nkind = "disc"', "radius is missing"),
    ('frame = "REST"', "frame 'REST'"),
    ("[[component", "not valid TOML"),
    pytest.param("frame = " + "[" * 100_000, "not valid TOML", id="brackets"),
])
def test_skies_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        sky_of(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("sky.toml")


def test_a_line_needs_a_rest_frequency_from_somewhere() -> None:
    text = '[[component]]\nline = {peak = 1, velocity = "0km/s", fwhm = "1km/s"}'
    with pytest.raises(DataError, match="restfreq is missing"):
        sky_of(text, restfreq_hz=0.0)
    assert sky_of(text.replace("}", ', restfreq = "1.42GHz"}'), restfreq_hz=0.0).lines[0, 3] == 1.42e9
