"""Baselines as the Earth turns them: uvw at every integration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import UsageError
from radps_mpi.simulation.antennas import Antennas, Place
from radps_mpi.simulation.config import ObservingConfig
from radps_mpi.simulation.earth import SIDEREAL_DAY_S, longitude_latitude, transit_s
from radps_mpi.units import parse_direction


@dataclass(frozen=True, slots=True)
class Tracks:
    """All rows of an observation: every baseline at the first integration, then at the second, and so on; no autocorrelations.

    ``time_s`` (ntime,) float64 ascending midpoints, MJD in seconds (UTC); ``hour_angle_rad`` (ntime,); ``baseline_m``
    (nbaseline, 3) float64 from antenna1 to antenna2, towards hour angle 0h, hour angle -6h and the pole; ``antenna1`` <
    ``antenna2`` (nbaseline,) int32.
    """

    time_s: NDArray[np.float64]
    hour_angle_rad: NDArray[np.float64]
    dec_rad: float
    baseline_m: NDArray[np.float64]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]

    @property
    def nbaseline(self) -> int:
        """Baselines, hence rows per integration."""
        return len(self.antenna1)

    @property
    def nrow(self) -> int:
        """Rows."""
        return len(self.time_s) * self.nbaseline

    def uvw_m(self, row0: int, row1: int) -> NDArray[np.float64]:
        """(nrow, 3) float64, metres, of rows ``row0 <= r < row1``. Thompson, Moran & Swenson (2017), equation 4.1.

        Hour angle and declination are of date, the phase centre's are not precessed: true to some arcminutes of rotation.
        """
        time, baseline = np.divmod(np.arange(row0, row1), self.nbaseline)
        x, y, z = self.baseline_m[baseline].T
        s, c = np.sin(self.hour_angle_rad)[time], np.cos(self.hour_angle_rad)[time]
        sd, cd = math.sin(self.dec_rad), math.cos(self.dec_rad)
        uvw = np.empty((row1 - row0, 3))
        uvw[:, 0] = s * x + c * y
        uvw[:, 1] = -sd * c * x + sd * s * y + cd * z
        uvw[:, 2] = cd * c * x - cd * s * y + sd * z
        return uvw + 0.0  # no negative zeros


def tracks(antennas: Antennas, site_itrf_m: Place, observing: ObservingConfig) -> Tracks:
    """The rows of an observation.

    Raises
    ------
    UsageError
        If the integrations don't fit into the hour angles.
    """
    longitude, _ = longitude_latitude(site_itrf_m)
    centre = parse_direction(observing.direction)
    first_h, last_h = observing.hour_angles_h
    after_transit_s = _midpoints_s(observing, first_h / 24.0 * SIDEREAL_DAY_S, last_h / 24.0 * SIDEREAL_DAY_S)
    one, two = np.triu_indices(len(antennas.names), 1)
    cosine, sine = math.cos(longitude), math.sin(longitude)
    x, y, z = (antennas.position_itrf_m[two] - antennas.position_itrf_m[one]).T
    return Tracks(
        transit_s(observing.date, centre.ra_rad, longitude) + after_transit_s,
        2.0 * math.pi / SIDEREAL_DAY_S * after_transit_s, centre.dec_rad,
        np.stack([cosine * x + sine * y, cosine * y - sine * x, z], axis=1),
        one.astype(np.int32), two.astype(np.int32),
    )  # fmt: skip


def _midpoints_s(observing: ObservingConfig, first_s: float, last_s: float) -> NDArray[np.float64]:
    """Midpoints of the integrations, seconds of UTC after transit."""
    length_s = observing.integration_s
    fit = max(1, math.floor((last_s - first_s) / length_s + 1e-6))
    count = observing.nintegration if observing.nintegration > 0 else fit
    if count > fit:
        raise UsageError(f"nintegration {count}: only {fit} integrations of {length_s:g} s fit into the hour angles")
    step_s = (last_s - first_s) / count if observing.nintegration > 0 else length_s
    return first_s + step_s * (np.arange(count, dtype=np.float64) + 0.5)
