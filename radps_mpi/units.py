"""Quantities as people type them ('15arcsec', '8 mJy', '1400km/s', 'J2000 10h00m00 -30d00m00') and as people read them.

Conversions are exact in decimal and rounded once, so that '0.25arcmin' and '15arcsec' give the same float64.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.errors import UsageError

_PI = Fraction(Decimal("3.14159265358979323846264338327950288419716939937510"))
_DEG = _PI / 180
_ARCMIN = _DEG / 60
_ARCSEC = _DEG / 3600

_UNITS: dict[str, dict[str, Fraction]] = {
    "angle": {
        "rad": Fraction(1), "deg": _DEG, "arcmin": _ARCMIN, "arcsec": _ARCSEC, "mas": _ARCSEC / 1000,
        "'": _ARCMIN, '"': _ARCSEC, "''": _ARCSEC,
    },
    "frequency": {"Hz": Fraction(1), "kHz": Fraction(10**3), "MHz": Fraction(10**6), "GHz": Fraction(10**9),
                  "THz": Fraction(10**12)},
    "velocity": {"m/s": Fraction(1), "km/s": Fraction(10**3)},
    "flux density": {
        unit + per: Fraction(factor)
        for per in ("", "/beam")
        for unit, factor in (("Jy", "1"), ("mJy", "0.001"), ("uJy", "0.000001"), ("nJy", "0.000000001"))
    },
    "size": {
        "B": Fraction(1), "kB": Fraction(10**3), "MB": Fraction(10**6), "GB": Fraction(10**9), "TB": Fraction(10**12),
        "KiB": Fraction(2**10), "MiB": Fraction(2**20), "GiB": Fraction(2**30), "TiB": Fraction(2**40),
    },
    "length": {"m": Fraction(1), "km": Fraction(1000)},
    "time": {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)},
}
_EXAMPLE = {"angle": "arcsec", "frequency": "MHz", "velocity": "km/s", "flux density": "mJy", "size": "GB", "length": "m",
            "time": "s"}
_SI = {"angle": "rad", "frequency": "Hz", "velocity": "m/s", "flux density": "Jy", "size": "B", "length": "m",
       "time": "s"}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*(\D.*?)?\s*", re.DOTALL)
_FRAMES = ("J2000", "ICRS")
_FRAMES_REFUSED = ("B1950", "GALACTIC", "SUPERGAL", "ECLIPTIC", "AZEL", "APP", "JMEAN", "JTRUE", "JNAT", "HADEC")


class UnitError(UsageError, ValueError):
    """A text isn't a quantity of the kind asked for. A ValueError too, so that validators can add the option."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A parsed quantity: ``value`` in the SI unit of its ``kind`` (flux densities: Jy), and the user's own ``text``."""

    value: float
    kind: str
    text: str

    @property
    def unit(self) -> str:
        """Unit of ``value``."""
        return _SI[self.kind]


@dataclass(frozen=True, slots=True)
class Direction:
    """A direction: right ascension in [0, 2 pi) and declination, radians, in ``frame`` J2000 (FK5) or ICRS."""

    ra_rad: float
    dec_rad: float
    frame: str = "J2000"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``: equal but for case, or a likely slip; None if there is none."""
    names = list(known)
    for candidate in names:
        if candidate.lower() == name.lower():
            return candidate
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return lowered[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """" (did you mean 'x'?)" for the nearest known name, or nothing."""
    found = nearest(name, known)
    return f" (did you mean {found!r}?)" if found else ""


def parse_quantity(text: str, *kinds: str, default_unit: str | None = None) -> Quantity:
    """Parse a number with a unit of ``kinds`` ("angle", "frequency", "velocity", "flux density", "size", "length",
    "time").

    ``default_unit`` is taken where the text has none. White space is free: '8mJy' and '8 mJy' are the same.

    Raises
    ------
    UnitError
        If the text has no number, no unit or an unknown one; the message names the nearest unit.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise UnitError(f"{text!r} is not a number with a unit of {_kinds(kinds)} ({_known(kinds)})")
    number, unit = match[1], match[2] or default_unit
    if unit is None:
        raise UnitError(f"{text!r} has no unit: write one of {_known(kinds)}, as in '{number}{_EXAMPLE[kinds[0]]}'")
    unit = unit.replace("µ", "u").replace("μ", "u")
    for kind in kinds:
        if unit in _UNITS[kind]:
            return Quantity(_si_value(number, _UNITS[kind][unit], text), kind, text)
    spelt = [name for kind in kinds for name in _UNITS[kind]]
    raise UnitError(f"{text!r} has an unknown unit {unit!r} of {_kinds(kinds)}{did_you_mean(unit, spelt)}; "
                    f"known are {_known(kinds)}")


def _si_value(number: str, factor: Fraction, text: str) -> float:
    try:
        return float(Fraction(number) * factor)
    except OverflowError:
        raise UnitError(f"{text!r} is too large") from None


def _kinds(kinds: tuple[str, ...]) -> str:
    return " or ".join(kinds)


def _known(kinds: tuple[str, ...]) -> str:
    return ", ".join(name for kind in kinds for name in _UNITS[kind] if name not in ("'", '"', "''"))


def angle_rad(text: str) -> float:
    """Radians of '15arcsec', '0.2 deg', '3mas', ..."""
    return parse_quantity(text, "angle").value


def frequency_hz(text: str) -> float:
    """Hz of '1.420405752GHz', '24.4 kHz', ..."""
    return parse_quantity(text, "frequency").value


def velocity_m_s(text: str) -> float:
    """m/s of '1400km/s', '250 m/s'."""
    return parse_quantity(text, "velocity").value


def flux_density_jy(text: str) -> float:
    """Jy (or Jy/beam) of '8mJy', '0.2 Jy/beam', ...; a bare number is in Jy, as in tclean."""
    return parse_quantity(text, "flux density", default_unit="Jy").value


def size_bytes(text: str) -> int:
    """Bytes of '2GB' (10^9) or '2GiB' (2^30)."""
    return int(parse_quantity(text, "size").value)


def duration_s(text: str) -> float:
    """Seconds of '90s', '1.5 h', ..."""
    return parse_quantity(text, "time").value


def length_m(text: str) -> float:
    """Metres of '500m', '16.2 km', ..."""
    return parse_quantity(text, "length").value


# Directions ---------------------------------------------------------------------------------------------------------

_HOURS = re.compile(r"([+-]?)(\d+)h(\d+)m(\d+\.?\d*|\.\d+)?s?|([+-]?)(\d+):(\d+)(?::(\d+\.?\d*))?")
_DEGREES = re.compile(r"([+-]?)(\d+)d(\d+)m(\d+\.?\d*|\.\d+)?s?|([+-]?)(\d+)\.(\d+)\.(\d+\.?\d*)")
_COLONS = re.compile(r"[+-]?\d+:\d+(:\d+\.?\d*)?")


def parse_direction(text: str) -> Direction:
    """Parse '[J2000|ICRS] <right ascension> <declination>', as tclean writes them; J2000 where no frame is named.

    Raises
    ------
    UnitError
        If a part can't be read, lies outside its range, or the frame is one that images can't be made in.
    """
    words = text.replace(",", " ").split()
    frame = "J2000"
    if len(words) == 3:
        frame = _frame(words.pop(0))
    if len(words) != 2:
        raise UnitError(f"{text!r} is not a direction: write 'J2000 10h00m00 -30d00m00' or 'ICRS 150.0deg -30deg'")
    return Direction(parse_right_ascension(words[0]), parse_declination(words[1]), frame)


def _frame(word: str) -> str:
    if word.upper() in _FRAMES:
        return word.upper()
    if word.upper() in _FRAMES_REFUSED:
        raise UnitError(f"directions in {word.upper()} are not supported: give them in J2000 or ICRS")
    raise UnitError(f"unknown direction frame {word!r}{did_you_mean(word, _FRAMES)}; known are J2000, ICRS")


def parse_right_ascension(text: str) -> float:
    """Radians in [0, 2 pi) of '10h00m00.5', '10:00:00.5' (hours) or an angle such as '150deg'."""
    match = _HOURS.fullmatch(text)
    if not match:
        turned = _angle(text, "right ascension, such as 10h00m00, 10:00:00 or 150deg") % (2.0 * math.pi)
        return turned if turned < 2.0 * math.pi else 0.0  # what % makes of a tiny negative angle
    hours = _sexagesimal(match, text)
    if abs(hours) >= 24:
        raise UnitError(f"right ascension {text!r} is outside 0h to 24h")
    return float(hours % 24 * 15 * _DEG)


def parse_declination(text: str) -> float:
    """Radians in [-pi/2, pi/2] of '-30d00m00.5', '-30.00.00.5' (degrees) or an angle such as '-30deg'."""
    if _COLONS.fullmatch(text):
        raise UnitError(f"declination {text!r} is ambiguous (casacore reads colons as hours): "
                        f"write {text.replace(':', 'd', 1).replace(':', 'm', 1)} or {text.replace(':', '.')}")
    match = _DEGREES.fullmatch(text)
    if match:
        value = float(_sexagesimal(match, text) * _DEG)
    else:
        value = _angle(text, "declination, such as -30d00m00, -30.00.00 or -30deg")
    if abs(value) > math.pi / 2:
        raise UnitError(f"declination {text!r} is outside -90deg to 90deg")
    return value


def _angle(text: str, what: str) -> float:
    try:
        return angle_rad(text)
    except UnitError as error:
        raise UnitError(f"{error}; or a {what}") from None


def _sexagesimal(match: re.Match[str], text: str) -> Fraction:
    groups = match.groups()
    sign, whole, minutes, seconds = groups[:4] if groups[1] is not None else groups[4:]
    parts = Fraction(minutes), Fraction(seconds or 0)
    if max(parts) >= 60:
        raise UnitError(f"{text!r} has minutes or seconds of 60 or more")
    value = Fraction(whole) + parts[0] / 60 + parts[1] / 3600
    return -value if sign == "-" else value


# For people to read -------------------------------------------------------------------------------------------------

def _scaled(value: float, steps: Iterable[tuple[float, str]], digits: int) -> str:
    """``value`` in the largest unit that leaves at least 1 of it, else in the smallest."""
    ladder = sorted(steps, reverse=True)
    size, unit = next(((s, u) for s, u in ladder if abs(value) >= s * (1.0 - 1e-12)), ladder[-1])
    return f"{value / size:.{digits}g} {unit}"


def format_angle(value_rad: float, digits: int = 6) -> str:
    """'15 arcsec', '2.5 deg', ... of radians."""
    steps = ((DEG_RAD, "deg"), (ARCSEC_RAD, "arcsec"), (ARCSEC_RAD / 1000.0, "mas"))
    return _scaled(value_rad, steps, digits)


def format_frequency(value_hz: float, digits: int = 10) -> str:
    """'1.420405752 GHz', '24.4140625 kHz', ... of Hz."""
    return _scaled(value_hz, ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (1.0, "Hz")), digits)


def format_velocity(value_m_s: float, digits: int = 6) -> str:
    """'1400 km/s', '250 m/s' of m/s."""
    return _scaled(value_m_s, ((1e3, "km/s"), (1.0, "m/s")), digits)


def format_flux_density(value_jy: float, digits: int = 4) -> str:
    """'8 mJy', '1.5 Jy', ... of Jy."""
    return _scaled(value_jy, ((1.0, "Jy"), (1e-3, "mJy"), (1e-6, "uJy")), digits)


def format_bytes(value: float, digits: int = 3) -> str:
    """'1.5 GB', ... of bytes, in powers of 1000."""
    return _scaled(value, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")), digits)


def format_duration(value_s: float) -> str:
    """'0.52 s', '75 s', '12 min 30 s', '3 h 05 min' of seconds."""
    if value_s < 120.0:
        return f"{value_s:.3g} s"
    minutes, seconds = divmod(round(value_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_direction(direction: Direction) -> str:
    """'J2000 10h00m00.000 -30d00m00.00', which :func:`parse_direction` reads back to 1 ms of time and 10 mas."""
    milliseconds = round(direction.ra_rad / (15.0 * ARCSEC_RAD) * 1000.0) % 86_400_000
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    centiseconds = round(abs(direction.dec_rad) / ARCSEC_RAD * 100.0)
    degrees, remainder = divmod(centiseconds, 360_000)
    arcmin, remainder = divmod(remainder, 6_000)
    sign = "-" if direction.dec_rad < 0 else "+"
    return (f"{direction.frame} {hours:02d}h{minutes:02d}m{rest / 1000:06.3f} "
            f"{sign}{degrees:02d}d{arcmin:02d}m{remainder / 100:05.2f}")
