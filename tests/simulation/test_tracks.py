"""uvw of a turning Earth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from radps_mpi.errors import UsageError
from radps_mpi.simulation.antennas import parse_configuration
from radps_mpi.simulation.config import SimulationConfig
from radps_mpi.simulation.tracks import Tracks, tracks

VLA = (-1601185.365, -5041977.547, 3554875.870)
LATITUDE = math.radians(34.0788)
EAST_NORTH = "# coordsys=LOC\n0 0 0 25 A\n100 0 0 25 B\n0 100 0 25 C\n"


def made(**parameters: Any) -> Tracks:
    observing = SimulationConfig.from_flat(parameters).observing
    return tracks(parse_configuration(EAST_NORTH, "a.cfg", VLA), VLA, observing)


def test_at_transit_an_eastern_baseline_is_u_and_a_northern_one_v_and_w() -> None:
    at_transit = made(direction="J2000 10h00m00 10d00m00", hour_angles=("-5s", "5s"), integration="9s", nintegration=1)
    east, north, _ = at_transit.uvw_m(0, 3)
    beside_zenith = LATITUDE - math.radians(10.0)
    np.testing.assert_allclose(east, [100.0, 0.0, 0.0], atol=0.01)
    np.testing.assert_allclose(north, [0.0, 100.0 * math.cos(beside_zenith), -100.0 * math.sin(beside_zenith)], atol=0.01)


def test_rows_are_all_baselines_of_one_integration_after_the_other_and_keep_their_lengths() -> None:
    day = made(hour_angles=("-6h", "6h"), integration="1h", direction="J2000 3h00m00 60d00m00")
    assert (day.nbaseline, len(day.time_s), day.nrow) == (3, 11, 33)
    np.testing.assert_array_equal(np.diff(day.time_s), 3600.0)
    uvw_m = day.uvw_m(0, day.nrow)
    np.testing.assert_allclose(np.linalg.norm(uvw_m, axis=1), np.tile([100.0, 100.0, 100.0 * math.sqrt(2.0)], 11), rtol=1e-9)
    np.testing.assert_array_equal(day.uvw_m(10, 20), uvw_m[10:20])


def test_an_eastern_baseline_draws_the_ellipse_of_its_declination() -> None:
    day = made(hour_angles=("-12h", "12h"), nintegration=50, direction="J2000 3h00m00 30d00m00")
    u, v, _ = day.uvw_m(0, day.nrow)[::3].T
    np.testing.assert_allclose(u**2 + (v / math.sin(math.radians(30.0))) ** 2, 100.0**2, rtol=1e-6)


def test_the_field_transits_in_the_middle() -> None:
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    there = made(hour_angles=("-1h", "1h"), nintegration=1, direction="J2000 17h30m00 -30d00m00", date="2020-06-05")
    when = Time(there.time_s[0] / 86400.0, format="mjd", scale="utc")
    sidereal_h = when.sidereal_time("mean", longitude=math.degrees(math.atan2(VLA[1], VLA[0]))).hour
    assert sidereal_h == pytest.approx(17.5, abs=1.0 / 3600.0)
    assert when.iso.startswith("2020-06-05")


def test_integrations_spread_over_the_hour_angles_or_follow_each_other() -> None:
    spread = made(hour_angles=("0h", "2h"), integration="10s", nintegration=4)
    assert np.diff(spread.hour_angle_rad) == pytest.approx([math.radians(7.5)] * 3)
    assert len(made(hour_angles=("0h", "2h"), integration="10s").time_s) == 718, "sidereal hours are shorter"
    with pytest.raises(UsageError, match="only 718 integrations"):
        made(hour_angles=("0h", "2h"), integration="10s", nintegration=719)
