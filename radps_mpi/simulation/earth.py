"""Where the site is on the Earth, and how the Earth turns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import MJD_OF_UNIX_EPOCH_S, SECONDS_PER_DAY

SIDEREAL_DAY_S = 86_164.0905
"""Mean sidereal day in seconds of UTC (Explanatory Supplement to the Astronomical Almanac, 1992)."""

_WGS84_AXIS_M = 6_378_137.0
_WGS84_ECCENTRICITY_2 = 6.694_379_990_14e-3
_J2000_MJD = 51_544.5


def longitude_latitude(itrf_m: tuple[float, float, float]) -> tuple[float, float]:
    """Longitude east and geodetic latitude (WGS84), radians, of a place near the Earth's surface."""
    x, y, z = itrf_m
    distance = math.hypot(x, y)
    latitude = math.atan2(z, distance * (1.0 - _WGS84_ECCENTRICITY_2))
    for _ in range(5):  # a fixed point: each step gains two digits and a half
        bend = _WGS84_AXIS_M * _WGS84_ECCENTRICITY_2 / math.sqrt(1.0 - _WGS84_ECCENTRICITY_2 * math.sin(latitude) ** 2)
        latitude = math.atan2(z + bend * math.sin(latitude), distance)
    return math.atan2(y, x), latitude


def east_north_up(itrf_m: tuple[float, float, float]) -> NDArray[np.float64]:
    """(3, 3): the unit vectors east, north and up at a place, as rows, in ITRF."""
    longitude, latitude = longitude_latitude(itrf_m)
    sl, cl, sb, cb = math.sin(longitude), math.cos(longitude), math.sin(latitude), math.cos(latitude)
    return np.array([[-sl, cl, 0.0], [-sb * cl, -sb * sl, cb], [cb * cl, cb * sl, sb]])


def transit_s(iso_date: str, ra_rad: float, longitude_rad: float) -> float:
    """MJD in seconds of the first transit of a right ascension on a UTC day.

    Greenwich mean sidereal time by Meeus, Astronomical Algorithms (1998), equation 12.4; UT1 = UTC, no precession: some tens of
    seconds off the true transit.
    """
    days = (np.datetime64(iso_date) - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    start_s = MJD_OF_UNIX_EPOCH_S + float(days) * SECONDS_PER_DAY
    since = start_s / SECONDS_PER_DAY - _J2000_MJD
    sidereal = math.radians((280.46061837 + 360.98564736629 * since) % 360.0) + longitude_rad
    wait = (ra_rad - sidereal) % (2.0 * math.pi)
    return start_s + wait / (2.0 * math.pi) * SIDEREAL_DAY_S
