"""Directions and frequencies between reference frames, by casacore's measures (the engine behind CASA's own
conversions)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import alarm
from radps_mpi.constants import SECONDS_PER_DAY
from radps_mpi.data.axis import FRAMES
from radps_mpi.decomposition import FACTOR_BLOCK
from radps_mpi.errors import DataError

DIRECTION_FRAMES = ("J2000", "ICRS")
"""Frames of phase centres that images can be made in."""

CONVERTIBLE_DIRECTIONS = ("B1950", "B1950_VLA", "GALACTIC", "SUPERGAL", "ECLIPTIC")
"""Fixed to the stars: converted to J2000 once, without an observer."""

CONVERTIBLE_FREQUENCIES = ("TOPO", "GEO", "BARY", "LSRK", "LSRD", "GALACTO", "LGROUP", "CMB")
"""Frames that the observer's motion alone links; REST needs the source's velocity."""

_REFERENCE_HZ = 1e9
"""Conversions are Doppler factors, the same for every frequency; this one is converted to find them."""

_FORGET_S = 1000.0 * SECONDS_PER_DAY
_CACHED_EPOCHS = 40
"""casacore keeps the terms of nutation and aberration of the last 32 epochs in the process and extrapolates from the
nearest: results depend, at 1e-14, on what was asked before, hence on how times are shared among ranks. Questions
about more epochs than that, far from any that matters, make each block of integrations start from the same state."""


def to_supported_frame(direction_rad: tuple[float, float], frame: str) -> tuple[tuple[float, float], str]:
    """A direction in J2000 or ICRS; one in another star-fixed frame is converted to J2000, others come back
    unchanged."""
    if frame not in CONVERTIBLE_DIRECTIONS:
        return direction_rad, frame
    from casacore.measures import measures

    engine = measures()
    there = engine.measure(_direction(engine, direction_rad, frame), "J2000")
    return (float(there["m0"]["value"]), float(there["m1"]["value"])), "J2000"


def observatory_itrf_m(telescope: str, antenna_position_m: NDArray[np.float64]) -> tuple[float, float, float]:
    """Where a telescope is: casacore's table of observatories (as CASA uses it), else the mean of its antennas.

    Raises
    ------
    DataError
        If the telescope isn't known and its antennas aren't on the Earth's surface.
    """
    from casacore.measures import measures

    engine = measures()
    try:
        place = engine.measure(engine.observatory(telescope), "ITRF")
    except RuntimeError:
        mean = np.asarray(antenna_position_m, dtype=np.float64).reshape(-1, 3).mean(axis=0)
        if not 6.3e6 < np.linalg.norm(mean) < 6.5e6:
            raise DataError(
                f"telescope {telescope!r} is unknown and column POSITION of its ANTENNA table isn't on Earth: "
                "its channels can't be converted between frames"
            ) from None
        return float(mean[0]), float(mean[1]), float(mean[2])
    longitude, latitude, radius = (float(place[key]["value"]) for key in ("m0", "m1", "m2"))
    return (
        float(radius * np.cos(latitude) * np.cos(longitude)),
        float(radius * np.cos(latitude) * np.sin(longitude)),
        float(radius * np.sin(latitude)),
    )


def frame_factors(
    time_s: NDArray[np.float64],
    *,
    time_scale: str,
    frame: str,
    direction_rad: tuple[float, float],
    direction_frame: str,
    observatory_m: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Doppler factors (ntime, 3): a native frequency times factor [t, k] is the frequency in ``FRAMES[k]`` at time t.

    ``time_s`` are MJD in seconds in ``time_scale``. The native frame's own factor is exactly 1. For the same bits on
    any number of ranks, hand over whole blocks of ``FACTOR_BLOCK`` times.
    """
    from casacore.measures import measures

    engine = measures()
    engine.doframe(engine.position("ITRF", *(f"{x!r}m" for x in observatory_m)))
    engine.doframe(_direction(engine, direction_rad, direction_frame))
    native = engine.frequency(frame, f"{_REFERENCE_HZ!r}Hz")
    factors = np.ones((len(time_s), len(FRAMES)))
    for row, time in enumerate(time_s.tolist()):
        if row % FACTOR_BLOCK == 0:
            alarm.beat("converting frequencies to other frames")
            for epoch in range(_CACHED_EPOCHS):
                _factors_at(engine, native, time_scale, time - _FORGET_S * (1.0 + 0.01 * epoch))
        factors[row] = _factors_at(engine, native, time_scale, time)
    return factors


def _factors_at(engine: Any, native: Any, time_scale: str, time_s: float) -> list[float]:
    engine.doframe(engine.epoch(time_scale, f"{time_s!r}s"))
    return [
        1.0 if frame == native["refer"] else float(engine.measure(native, frame)["m0"]["value"]) / _REFERENCE_HZ
        for frame in FRAMES
    ]


def _direction(engine: Any, direction_rad: tuple[float, float], frame: str) -> Any:
    return engine.direction(frame, f"{direction_rad[0]!r}rad", f"{direction_rad[1]!r}rad")
