"""Antennas of an array: read from a configuration as CASA's simulator has them, or generated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import DataError, UsageError
from radps_mpi.simulation.earth import east_north_up
from radps_mpi.simulation.keyed_random import ARRAY, generator

Place = tuple[float, float, float]

_COORDSYS = re.compile(r"#\s*coordsys\s*=\s*(\w+)", re.IGNORECASE)
_FARTHEST_M = 2e5
"""From the site of any array that one sky looks the same from."""

_ON_EARTH_M = (6.3e6, 6.5e6)
_GOLDEN_ANGLE_RAD = math.pi * (3.0 - math.sqrt(5.0))
_INNERMOST = (0.03, 0.06, 0.1, 0.2, 0.4)
"""Radii at which a spiral may start, of its largest."""

_ELBOW_ROOM = 1.2
"""Distance between two antennas that don't touch when they turn, in dish diameters."""


@dataclass(frozen=True, slots=True)
class Antennas:
    """``position_itrf_m`` (nantenna, 3) float64, ``dish_m`` (nantenna,) float64, ``names``."""

    names: tuple[str, ...]
    position_itrf_m: NDArray[np.float64]
    dish_m: NDArray[np.float64]


def parse_configuration(text: str, source: str, site_itrf_m: Place) -> Antennas:
    """Antennas of a configuration file: lines of x, y, z (metres), dish diameter (metres) and, optionally, a name.

    ``# coordsys=LOC`` says east, north, up from the site; ``# coordsys=XYZ`` says ITRF; without either, positions on the
    Earth's surface are ITRF. ``source`` names the file in messages.

    Raises
    ------
    DataError
        If a line can't be read, there are fewer than two antennas or two at one place, the coordinates are of
        another kind, or the array is elsewhere.
    """
    rows: list[list[float]] = []
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            rows.append(_numbers(words, f"{source}: line {number}"))
            names.append(words[4] if len(words) > 4 else f"A{len(names):03d}")
    if len(rows) < 2:
        raise DataError(f"{source}: {len(rows)} antennas; an array has at least 2")
    table = np.array(rows)
    position = _to_itrf(table[:, :3], _COORDSYS.search(text), source, site_itrf_m)
    if len(np.unique(position, axis=0)) < len(position):
        raise DataError(f"{source}: two antennas stand at the same place")
    distance_m = float(np.linalg.norm(position - np.asarray(site_itrf_m), axis=1).max())
    if distance_m > _FARTHEST_M:
        raise DataError(f"{source}: an antenna stands {distance_m / 1e3:.0f} km from the telescope's site: whose array is it?")
    return Antennas(tuple(names), position, table[:, 3])


def _numbers(words: list[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words[:4]]
    except ValueError:
        raise DataError(f"{where}: {' '.join(words)!r} doesn't start with x y z diameter in metres") from None
    if len(values) < 4 or not all(map(math.isfinite, values)) or values[3] <= 0.0:
        raise DataError(f"{where}: {' '.join(words)!r} doesn't start with x y z diameter in metres")
    return values


def _to_itrf(
    xyz_m: NDArray[np.float64], named: re.Match[str] | None, source: str, site_itrf_m: Place
) -> NDArray[np.float64]:
    distance = np.sqrt((xyz_m**2).sum(axis=1))
    on_earth = bool(((distance > _ON_EARTH_M[0]) & (distance < _ON_EARTH_M[1])).all())
    kind = named[1].upper() if named else "XYZ" if on_earth else "LOC"
    if kind == "LOC":
        return np.asarray(site_itrf_m) + xyz_m @ east_north_up(site_itrf_m)
    if kind != "XYZ":
        raise DataError(f"{source}: coordsys={named[1] if named else kind} is not supported: use LOC or XYZ")
    if not on_earth:
        raise DataError(f"{source}: coordsys=XYZ, but its positions aren't on the Earth's surface")
    return xyz_m


def generate(layout: str, nantenna: int, max_baseline_m: float, dish_m: float, seed: int, site_itrf_m: Place) -> Antennas:
    """A level array: a logarithmic "spiral", as dense towards its middle as its dishes allow, or a "ring"; each place shaken so
    that no two baselines are equal. The longest baseline is ``max_baseline_m``.

    Raises
    ------
    UsageError
        If antennas would touch.
    """
    shake = generator(seed, ARRAY, 0, 0).uniform(-0.5, 0.5, (2, nantenna))
    for radius, angle in _spirals(nantenna) if layout == "spiral" else _ring(nantenna):
        enu_m = _placed(radius * (1.0 + 0.05 * shake[0]), angle + 0.5 * shake[1] / math.sqrt(nantenna))
        shortest, longest = _baseline_range(enu_m)
        enu_m *= max_baseline_m / longest
        if shortest * max_baseline_m / longest > _ELBOW_ROOM * dish_m:
            names = tuple(f"A{number:03d}" for number in range(nantenna))
            position = np.asarray(site_itrf_m) + enu_m @ east_north_up(site_itrf_m)
            return Antennas(names, position, np.full(nantenna, dish_m))
    raise UsageError(f"{nantenna} antennas of {dish_m:g} m don't fit into an array of {max_baseline_m:g} m: "
                     "take a longer max_baseline or a smaller nantenna")


def _spirals(nantenna: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Radii, less and less concentrated, and angles, a golden angle from one antenna to the next."""
    along = (np.arange(nantenna, dtype=np.float64) + 0.5) / nantenna
    angle = _GOLDEN_ANGLE_RAD * np.arange(nantenna, dtype=np.float64)
    for innermost in _INNERMOST:
        yield innermost ** (1.0 - along), angle
    yield np.sqrt(along), angle


def _ring(nantenna: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    yield np.ones(nantenna), 2.0 * math.pi * np.arange(nantenna, dtype=np.float64) / nantenna


def _placed(radius: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([radius * np.sin(angle), radius * np.cos(angle), np.zeros(len(radius))], axis=1)


def _baseline_range(enu_m: NDArray[np.float64]) -> tuple[float, float]:
    first, second = np.triu_indices(len(enu_m), 1)
    length = np.sqrt(((enu_m[second] - enu_m[first]) ** 2).sum(axis=1))
    return float(length.min()), float(length.max())
