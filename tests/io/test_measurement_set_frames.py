"""Doppler factors and directions against astropy, which shares no code with casacore."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, EarthLocation, SkyCoord, get_body_barycentric_posvel
from astropy.time import Time

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import FRAMES
from radps_mpi.decomposition import FACTOR_BLOCK
from radps_mpi.errors import DataError
from radps_mpi.io.measurement_set_frames import frame_factors, observatory_itrf_m, to_supported_frame

ALMA_M = (2225142.180268967, -5440307.370348562, -2481029.851873547)
START_S = 4_845_332_230.0


def factors(times_s: np.ndarray, frame: str = "TOPO") -> np.ndarray:
    return frame_factors(times_s, time_scale="UTC", frame=frame, direction_rad=(-2.1088, -0.7387), direction_frame="J2000",
                         observatory_m=ALMA_M)  # fmt: skip


def test_barycentric_factor_is_the_doppler_shift_of_the_observers_velocity() -> None:
    times_s = START_S + np.array([0.0, 40.0, 120.0]) * 86400.0
    towards = SkyCoord(-2.1088 * u.rad, -0.7387 * u.rad, frame=FK5).icrs.cartesian
    time = Time(times_s / 86400.0, format="mjd", scale="utc")
    _, spin = EarthLocation(*(ALMA_M * u.m)).get_gcrs_posvel(time)
    _, orbit = get_body_barycentric_posvel("earth", time)
    beta = ((spin + orbit).dot(towards) / SPEED_OF_LIGHT_M_S).to_value(u.m / u.s)
    expected = np.sqrt((1.0 - beta) / (1.0 + beta))
    got = factors(times_s)[:, FRAMES.index("BARY")]
    assert np.ptp(expected) > 5e-5
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.5 / SPEED_OF_LIGHT_M_S)


def test_the_native_frames_factor_is_one_and_the_others_invert() -> None:
    times_s = START_S + np.arange(3.0)
    topo, lsrk = factors(times_s), factors(times_s, "LSRK")
    assert (topo[:, 0] == 1.0).all() and (lsrk[:, 1] == 1.0).all()
    np.testing.assert_allclose(topo[:, 1] * lsrk[:, 0], 1.0, rtol=0, atol=1e-13)


def test_a_block_of_times_has_the_same_bits_whatever_was_asked_before() -> None:
    times_s = START_S + 60.0 * np.arange(FACTOR_BLOCK + 20)
    whole = factors(times_s)
    np.testing.assert_array_equal(factors(times_s[FACTOR_BLOCK:]), whole[FACTOR_BLOCK:])
    np.testing.assert_array_equal(factors(times_s[:FACTOR_BLOCK]), whole[:FACTOR_BLOCK])


def test_directions_fixed_to_the_stars_become_j2000() -> None:
    (ra, dec), frame = to_supported_frame((1.0, 0.5), "B1950")
    there = SkyCoord(1.0 * u.rad, 0.5 * u.rad, frame=FK4(equinox="B1950")).transform_to(FK5(equinox="J2000"))
    assert frame == "J2000"
    assert there.separation(SkyCoord(ra * u.rad, dec * u.rad, frame=FK5(equinox="J2000"))).arcsec < 0.5
    assert to_supported_frame((1.0, 0.5), "ICRS") == ((1.0, 0.5), "ICRS")
    assert to_supported_frame((1.0, 0.5), "AZEL")[1] == "AZEL"


def test_an_unknown_telescope_is_where_its_antennas_are() -> None:
    assert observatory_itrf_m("NOWHERE", np.tile(ALMA_M, (3, 1))) == pytest.approx(ALMA_M)
    with pytest.raises(DataError, match="NOWHERE"):
        observatory_itrf_m("NOWHERE", np.zeros((3, 3)))
    assert np.linalg.norm(np.subtract(observatory_itrf_m("ALMA", np.zeros((0, 3))), ALMA_M)) < 1.0
