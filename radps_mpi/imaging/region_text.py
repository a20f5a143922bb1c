"""Reading CASA region text (CRTF): what tclean's ``mask`` accepts as a string.

Shapes: circle, annulus, ellipse, box, centerbox, rotbox, poly. Positions in pix, deg, rad, arcmin, arcsec, or
sexagesimal (``12h34m56.7s``, ``12:34:56.7`` for right ascension; ``-12d34m56s``, ``-12.34.56.7`` for declination).
Ellipses are given by *semi*-axes, as in CASA. Keywords: ``coord``, ``range=[a chan, b chan]`` and, without effect,
those of annotation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.errors import UsageError

SYNTAX = {
    "circle": "circle[[x, y], r]",
    "annulus": "annulus[[x, y], [r1, r2]]",
    "ellipse": "ellipse[[x, y], [semi1, semi2], pa]",
    "box": "box[[x1, y1], [x2, y2]]",
    "centerbox": "centerbox[[x, y], [width, height]]",
    "rotbox": "rotbox[[x, y], [width, height], pa]",
    "poly": "poly[[x1, y1], [x2, y2], [x3, y3], ...]",
}
FRAMES = {
    "J2000": "J2000",
    "FK5": "J2000",
    "ICRS": "ICRS",
    "B1950": "B1950",
    "FK4": "B1950",
    "GALACTIC": "GALACTIC",
    "GAL": "GALACTIC",
}
_WITHOUT_EFFECT = re.compile(
    r"frame|corr|veltype|restfreq|linewidth|linestyle|symsize|symthick|color|font(size|style)?|usetex|label(color|pos|off)?"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_UNIT_RAD = {
    "deg": DEG_RAD,
    "rad": 1.0,
    "arcmin": 60.0 * ARCSEC_RAD,
    "'": 60.0 * ARCSEC_RAD,
    "arcsec": ARCSEC_RAD,
    '"': ARCSEC_RAD,
}
_QUANTITY = re.compile(rf"({_NUMBER})\s*([a-z'\"]+)")
_HOURS = re.compile(r"([-+]?)(\d+)(?::|h)(\d+)(?::|m)(\d+(?:\.\d*)?)s?")
_DEGREES = re.compile(r"([-+]?)(\d+)(?:d|\.)(\d+)(?:m|\.)(\d+(?:\.\d*)?)s?")
_HEAD = re.compile(r"([-+])?\s*(ann\s+)?([A-Za-z]+)\s*(?=\[)")
_KEYWORD = re.compile(r"[\s,]*(\w+)\s*=\s*(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[^,\s]+)")
_CHANNEL_RANGE = re.compile(r"\[\s*(\d+)\s*chan\s*,\s*(\d+)\s*chan\s*\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A position or a length: in pixels, or an angle in radians."""

    value: float
    in_pixels: bool


@dataclass(frozen=True, slots=True)
class Region:
    """One region line. ``points`` are (x, y) pairs, ``lengths`` what follows the first point, ``angle_rad`` from
    north through east; ``channels`` the first and last channel (both included) or None for all; ``frame`` None for
    the image's own."""

    text: str
    shape: str
    points: tuple[tuple[Quantity, Quantity], ...]
    lengths: tuple[Quantity, ...]
    angle_rad: float
    exclude: bool
    frame: str | None
    channels: tuple[int, int] | None


def parse_regions(text: str | Sequence[str]) -> tuple[Region, ...]:
    """Regions of one string (one region a line) or of several strings, in order.

    Accepts the lines of a region file: ``#`` comments, ``global`` defaults, annotations (left out).

    Raises
    ------
    UsageError
        Naming the piece that can't be read and what was expected.
    """
    defaults: dict[str, str] = {}
    regions: list[Region] = []
    for line in _lines(text):
        if re.match(r"global\b", line, re.IGNORECASE):
            defaults |= _keywords(line, line[len("global") :])
            continue
        region = _parse_line(line, defaults)
        if region is not None:
            regions.append(region)
    if not regions:
        raise UsageError(f"mask {text!r}: holds no region; expected e.g. '{SYNTAX['circle']}'")
    return tuple(regions)


def _lines(text: str | Sequence[str]) -> Iterator[str]:
    for piece in [text] if isinstance(text, str) else text:
        for line in piece.splitlines():
            stripped = line.strip()
            if stripped and not stripped.startswith("#"):
                yield stripped


def _parse_line(line: str, defaults: dict[str, str]) -> Region | None:
    head = _HEAD.match(line)
    if head is None:
        raise _unreadable(line, line, f"one of {', '.join(SYNTAX)} followed by '['")
    shape = head[3].lower()
    if head[2]:
        return None
    if shape not in SYNTAX:
        raise _unreadable(line, head[3], f"one of {', '.join(SYNTAX)}")
    arguments, end = _brackets(line, head.end())
    points, lengths, angle = _shape_arguments(line, shape, arguments)
    keywords = defaults | _keywords(line, line[end:])
    return Region(
        text=line,
        shape=shape,
        points=points,
        lengths=lengths,
        angle_rad=angle,
        exclude=head[1] == "-",
        frame=_frame(line, keywords.get("coord")),
        channels=_channels(line, keywords.get("range")),
    )


def _brackets(line: str, start: int) -> tuple[list[object], int]:
    """The nested list of strings that opens at ``start``, and the index after its closing bracket."""
    stack: list[list[object]] = [[]]
    word = ""
    for i in range(start, len(line)):
        c = line[i]
        if c not in "[],":
            word += c
            continue
        if word.strip():
            stack[-1].append(word.strip())
        word = ""
        if c == "[":
            inner: list[object] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif c == "]":
            stack.pop()
            if len(stack) == 1:
                outer = stack[0][0]
                return list(outer) if isinstance(outer, list) else [], i + 1
    raise _unreadable(line, line[start:], "as many ']' as '['")


def _shape_arguments(
    line: str, shape: str, arguments: list[object]
) -> tuple[tuple[tuple[Quantity, Quantity], ...], tuple[Quantity, ...], float]:
    pairs = [a for a in arguments if isinstance(a, list)]
    words = [a for a in arguments if isinstance(a, str)]
    npair, nword = {"circle": (1, 1), "ellipse": (2, 1), "rotbox": (2, 1)}.get(shape, (2, 0))
    count_fits = len(pairs) >= 3 and not words if shape == "poly" else (len(pairs), len(words)) == (npair, nword)
    pairs_fit = all(len(p) == 2 and all(isinstance(q, str) for q in p) for p in pairs)
    if not (count_fits and pairs_fit and arguments[: len(pairs)] == pairs):
        raise _unreadable(line, line, SYNTAX[shape])
    if shape in ("box", "poly"):
        return tuple(_position(line, p) for p in pairs), (), 0.0
    centre = (_position(line, pairs[0]),)
    if shape == "circle":
        return centre, (_length(line, words[0]),), 0.0
    lengths = tuple(_length(line, q) for q in pairs[1])
    if lengths[0].in_pixels != lengths[1].in_pixels:
        raise _unreadable(line, ", ".join(pairs[1]), "both lengths in pix or both in angular units")
    if shape == "annulus" and not lengths[0].value < lengths[1].value:
        raise _unreadable(line, ", ".join(pairs[1]), "an inner radius smaller than the outer")
    return centre, lengths, _angle(line, words[0]) if nword else 0.0


def _quantity(word: str) -> Quantity | None:
    match = _QUANTITY.fullmatch(word.lower())
    if match is None:
        return None
    if match[2] in ("pix", "pixel", "pixels"):
        return Quantity(float(match[1]), True)
    return Quantity(float(match[1]) * _UNIT_RAD[match[2]], False) if match[2] in _UNIT_RAD else None


def _position(line: str, pair: list[str]) -> tuple[Quantity, Quantity]:
    x = _quantity(pair[0]) or _sexagesimal(_HOURS, pair[0], 15.0 * DEG_RAD) or _sexagesimal(_DEGREES, pair[0], DEG_RAD)
    if x is None:
        raise _unreadable(line, pair[0], "a position such as 128pix, 230.5deg or 15h22m00.0s")
    y = _quantity(pair[1]) or _sexagesimal(_DEGREES, pair[1], DEG_RAD)
    if y is None:
        expected = "a position such as 128pix, 5.07deg, +5d04m12s or +05.04.12.0 (CASA reads colons as hours)"
        raise _unreadable(line, pair[1], expected)
    if x.in_pixels != y.in_pixels:
        raise _unreadable(line, ", ".join(pair), "both coordinates in pix or both on the sky")
    return x, y


def _sexagesimal(pattern: re.Pattern[str], word: str, unit_rad: float) -> Quantity | None:
    match = pattern.fullmatch(word.lower())
    if match is None or int(match[3]) >= 60 or float(match[4]) >= 60.0:
        return None
    value = int(match[2]) + int(match[3]) / 60.0 + float(match[4]) / 3600.0
    return Quantity(math.copysign(value * unit_rad, -1.0 if match[1] == "-" else 1.0), False)


def _length(line: str, word: str) -> Quantity:
    length = _quantity(word)
    if length is None or length.value < 0.0:
        raise _unreadable(line, word, "a length such as 80pix, 12.5arcsec, 2arcmin or 0.1deg")
    return length


def _angle(line: str, word: str) -> float:
    angle = _quantity(word)
    if angle is None or angle.in_pixels:
        raise _unreadable(line, word, "a position angle such as 45deg or 0.8rad")
    return angle.value


def _keywords(line: str, rest: str) -> dict[str, str]:
    found: dict[str, str] = {}
    end = 0
    while rest[end:].strip(" ,\t"):
        match = _KEYWORD.match(rest, end)
        if match is None:
            raise _unreadable(
                line, rest[end:].strip(" ,\t"), "keyword=value, such as coord=J2000 or range=[0chan, 5chan]"
            )
        name = match[1].lower()
        if name not in ("coord", "range") and not _WITHOUT_EFFECT.fullmatch(name):
            raise _unreadable(line, match[1], "the keywords coord and range, or those of annotation")
        found[name] = match[2].strip("'\"")
        end = match.end()
    return found


def _frame(line: str, word: str | None) -> str | None:
    if word is None:
        return None
    if word.upper() not in FRAMES:
        raise _unreadable(line, f"coord={word}", f"one of {', '.join(FRAMES)}")
    return FRAMES[word.upper()]


def _channels(line: str, word: str | None) -> tuple[int, int] | None:
    if word is None:
        return None
    match = _CHANNEL_RANGE.fullmatch(word)
    if match is None or int(match[1]) > int(match[2]):
        raise _unreadable(line, f"range={word}", "image channels in ascending order, such as range=[0chan, 5chan]")
    return int(match[1]), int(match[2])


def _unreadable(line: str, piece: str, expected: str) -> UsageError:
    where = "" if piece == line else f" in {line!r}"
    return UsageError(f"mask: can't read {piece!r}{where}; expected {expected}")
