"""The sky file: components in TOML.

    frame = "LSRK"                          # of all velocities: TOPO, LSRK (default) or BARY

    [[component]]
    kind = "point"                          # point (default), gaussian or disc
    offset = ["3arcsec", "-2arcsec"]        # east and north of the phase centre; or direction = "J2000 10h00m00.2 -30d00m02"
    flux = "1.5Jy"                          # or a list, one for each channel
    spectral_index = -0.7                   # reference_frequency = "..." (default: the middle of the band)
    line = {peak = "0.2Jy", velocity = "5km/s", fwhm = "3km/s"}      # or a list of them; restfreq = "..." (default: --restfreq)

    [[component]]
    kind = "gaussian"
    size = ["4arcsec", "2arcsec", "30deg"]  # full widths at half maximum, position angle of the major axis, north through east
    flux = 0.3                              # bare numbers are Jy

    [[component]]
    kind = "disc"                           # rotating, exponential
    radius = "5arcsec"                      # scale = radius / 3, turnover = radius / 5
    inclination = "50deg"
    pa = "120deg"                           # of the receding half
    rotation = "200km/s"
    velocity = "10km/s"
    fwhm = "15km/s"                         # of the line at each place
    line_flux = 3.0                         # of the whole disc, Jy km/s
    flux = "10mJy"                          # continuum of the whole disc
    points = 400
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from radps_mpi import units
from radps_mpi.data.axis import FRAMES
from radps_mpi.errors import DataError, UsageError
from radps_mpi.simulation.sky import Component, Disc, Line, Sky, make_sky
from radps_mpi.units import Direction

_POINT_KEYS = ("kind", "offset", "direction", "flux", "spectral_index", "reference_frequency", "line")
_KEYS = {
    "point": _POINT_KEYS,
    "gaussian": (*_POINT_KEYS, "size"),
    "disc": ("kind", "offset", "direction", "radius", "scale", "turnover", "inclination", "pa", "rotation", "velocity", "fwhm",
             "line_flux", "flux", "restfreq", "points"),
}  # fmt: skip
_LINE_KEYS = ("peak", "velocity", "fwhm", "restfreq")
_MOST_POINTS = 1_000_000


class _Entry:
    """One table of the file, with messages that say where in it something is wrong."""

    def __init__(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        self.where, self.table = where, table
        for name in table:
            if name not in known:
                raise DataError(f"{where}: unknown name {name!r}{units.did_you_mean(name, known)}")

    def quantity(self, name: str, parse: Callable[[str], float], default: float | None = None) -> float:
        """A quantity in SI units; DataError if it is missing without a default, or can't be read."""
        if name not in self.table:
            if default is None:
                raise DataError(f"{self.where}: {name} is missing")
            return default
        return self.parsed(name, self.table[name], parse)

    def parsed(self, name: str, value: Any, parse: Callable[[str], float]) -> float:
        """One value of ``name``."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"{self.where}: {name}: {value!r} is not a quantity")
        try:
            result = parse(str(value))
        except UsageError as error:
            raise DataError(f"{self.where}: {name}: {error}") from None
        return result

    def positive(self, name: str, parse: Callable[[str], float], default: float | None = None) -> float:
        """A quantity above 0."""
        value = self.quantity(name, parse, default)
        if value <= 0.0:
            raise DataError(f"{self.where}: {name} is not above 0")
        return value

    def texts(self, name: str, count: int) -> list[Any]:
        """A list of so many values."""
        value = self.table.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise DataError(f"{self.where}: {name} is not a list of {count} values")
        return value


def parse_sky(text: str, source: str, *, centre: Direction, nchan: int, middle_hz: float, restfreq_hz: float = 0.0) -> Sky:
    """The sky described by a TOML text (see this module), about a phase centre.

    ``nchan`` is the length of lists of fluxes, ``middle_hz`` the default reference of spectral indices, ``restfreq_hz`` the
    default of lines, 0 for none. ``source`` names the file in messages.

    Raises
    ------
    DataError
        If the text isn't TOML or a value in it is missing, unknown or impossible; the message says in which component.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise DataError(f"{source}: not valid TOML: {error}") from None
    top = _Entry(source, raw, ("frame", "component"))
    frame = raw.get("frame", "LSRK")
    if frame not in FRAMES:
        raise DataError(f"{source}: frame {frame!r} is not one of {', '.join(FRAMES)}")
    tables = raw.get("component", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{top.where}: write each component under [[component]]")
    components: list[Component] = []
    for number, table in enumerate(tables):
        components += _components(f"{source}: component {number}", table, centre, nchan, middle_hz, restfreq_hz)
    return make_sky(components, frame, nchan)


def _components(
    where: str, table: Mapping[str, Any], centre: Direction, nchan: int, middle_hz: float, restfreq_hz: float
) -> list[Component]:
    kind = table.get("kind", "point")
    if kind not in _KEYS:
        raise DataError(f"{where}: kind {kind!r} is not one of {', '.join(_KEYS)}{units.did_you_mean(str(kind), _KEYS)}")
    entry = _Entry(where, table, _KEYS[kind])
    l, m = _place(entry, centre)  # noqa: E741
    if kind == "disc":
        return _disc(entry, l, m, restfreq_hz).components()
    major, minor, pa = _size(entry) if kind == "gaussian" else (0.0, 0.0, 0.0)
    listed = _fluxes(entry, nchan)
    lines = entry.table.get("line", [])
    return [Component(
        l, m, 0.0 if listed else entry.quantity("flux", units.flux_density_jy, 0.0),
        entry.quantity("spectral_index", _number, 0.0),
        entry.positive("reference_frequency", units.frequency_hz, middle_hz), listed,
        tuple(_line(where, line, restfreq_hz) for line in (lines if isinstance(lines, list) else [lines])), major, minor, pa,
    )]  # fmt: skip


def _place(entry: _Entry, centre: Direction) -> tuple[float, float]:
    """l and m of ``offset`` or ``direction``; the phase centre itself where neither is given."""
    if "direction" in entry.table:
        if "offset" in entry.table:
            raise DataError(f"{entry.where}: both offset and direction are given")
        l, m = _about(entry, centre)  # noqa: E741
    elif "offset" in entry.table:
        l, m = (math.sin(entry.parsed("offset", text, units.angle_rad)) for text in entry.texts("offset", 2))  # noqa: E741
    else:
        return 0.0, 0.0
    if l * l + m * m >= 1.0:
        raise DataError(f"{entry.where}: it lies 90 degrees or more from the phase centre")
    return l, m


def _about(entry: _Entry, centre: Direction) -> tuple[float, float]:
    try:
        there = units.parse_direction(str(entry.table["direction"]))
    except UsageError as error:
        raise DataError(f"{entry.where}: direction: {error}") from None
    if there.frame != centre.frame:
        raise DataError(f"{entry.where}: direction is in {there.frame}, the phase centre in {centre.frame}")
    delta = there.ra_rad - centre.ra_rad
    sin_dec, cos_dec = math.sin(there.dec_rad), math.cos(there.dec_rad)
    sin_dec0, cos_dec0 = math.sin(centre.dec_rad), math.cos(centre.dec_rad)
    if sin_dec * sin_dec0 + cos_dec * cos_dec0 * math.cos(delta) <= 0.0:
        return 1.0, 1.0
    return cos_dec * math.sin(delta), sin_dec * cos_dec0 - cos_dec * sin_dec0 * math.cos(delta)


def _fluxes(entry: _Entry, nchan: int) -> tuple[float, ...]:
    value = entry.table.get("flux")
    if not isinstance(value, list):
        return ()
    if len(value) != nchan:
        raise DataError(f"{entry.where}: flux has {len(value)} values for {nchan} channels")
    return tuple(entry.parsed("flux", item, units.flux_density_jy) for item in value)


def _size(entry: _Entry) -> tuple[float, float, float]:
    major, minor, pa = (entry.parsed("size", text, units.angle_rad) for text in entry.texts("size", 3))
    if not 0.0 <= minor <= major:
        raise DataError(f"{entry.where}: size: the minor axis isn't between 0 and the major axis")
    return major, minor, pa


def _line(where: str, table: Any, restfreq_hz: float) -> Line:
    if not isinstance(table, dict):
        raise DataError(f"{where}: line is not a table such as {{peak = '1Jy', velocity = '0km/s', fwhm = '5km/s'}}")
    entry = _Entry(f"{where}: line", table, _LINE_KEYS)
    return Line(
        entry.quantity("peak", units.flux_density_jy), entry.quantity("velocity", units.velocity_m_s),
        entry.positive("fwhm", units.velocity_m_s), _restfreq_hz(entry, restfreq_hz),
    )  # fmt: skip


def _restfreq_hz(entry: _Entry, default_hz: float) -> float:
    if "restfreq" not in entry.table and default_hz <= 0.0:
        raise DataError(f"{entry.where}: restfreq is missing, here and on the command line")
    return entry.positive("restfreq", units.frequency_hz, default_hz)


def _disc(entry: _Entry, l: float, m: float, restfreq_hz: float) -> Disc:  # noqa: E741
    radius = entry.positive("radius", units.angle_rad)
    npoint = entry.table.get("points", 400)
    if isinstance(npoint, bool) or not isinstance(npoint, int) or not 1 <= npoint <= _MOST_POINTS:
        raise DataError(f"{entry.where}: points: {npoint!r} is not a number from 1 to {_MOST_POINTS}")
    has_line = "line_flux" in entry.table
    return Disc(
        l=l, m=m, radius_rad=radius, scale_rad=entry.positive("scale", units.angle_rad, radius / 3.0),
        turnover_rad=entry.positive("turnover", units.angle_rad, radius / 5.0),
        inclination_rad=entry.quantity("inclination", units.angle_rad, 0.0), pa_rad=entry.quantity("pa", units.angle_rad, 0.0),
        rotation_m_s=entry.quantity("rotation", units.velocity_m_s, 0.0),
        velocity_m_s=entry.quantity("velocity", units.velocity_m_s, 0.0),
        fwhm_m_s=entry.positive("fwhm", units.velocity_m_s, None if has_line else 1.0),
        line_flux_jy_m_s=1e3 * entry.quantity("line_flux", _number, 0.0),
        flux_jy=entry.quantity("flux", units.flux_density_jy, 0.0),
        restfreq_hz=_restfreq_hz(entry, restfreq_hz) if has_line else 0.0, npoint=npoint,
    )  # fmt: skip


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is not a number")
    return value
