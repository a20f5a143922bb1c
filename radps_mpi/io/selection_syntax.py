"""The little languages of tclean's selection options: each parser turns one option's text into masks or ranges.

Common to all: a comma separates alternatives, ``a~b`` is an inclusive range of ids, ``<a`` and ``>a`` are open
ranges, and ``*`` and ``?`` in names are wild cards. Names that hold a separator go in double quotes.
"""

from __future__ import annotations

import datetime
import fnmatch
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import SECONDS_PER_DAY
from radps_mpi.errors import UsageError
from radps_mpi.units import did_you_mean, frequency_hz

Mask = NDArray[np.bool_]
NumberRanges = tuple[tuple[float, float], ...]
TimeRanges = tuple[tuple[float, float], ...]
UvLimits = tuple[tuple[float, float, bool], ...]
"""(least, most, whether in wavelengths instead of metres)."""

_IDS = re.compile(r"(\d+)(?:\s*~\s*(\d+))?|([<>])\s*(\d+)")
_FREQUENCIES = re.compile(r"([0-9.eE+]+)\s*([kMGT]?Hz)?\s*(?:~\s*([0-9.eE+]+)\s*)?([kMGT]?Hz)", re.IGNORECASE)
_UV = re.compile(
    r"([<>])?\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*(?:~\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*))?"
)
_UV_UNITS = {"": (1.0, False), "m": (1.0, False), "km": (1e3, False), "lambda": (1.0, True), "klambda": (1e3, True),
             "Mlambda": (1e6, True), "Glambda": (1e9, True)}  # fmt: skip
_TIME = re.compile(r"(?:(\d{4})/(\d{1,2})/(\d{1,2}))?/?(?:(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?)?")
_MJD_EPOCH = datetime.date(1858, 11, 17)


def split(text: str, separator: str) -> list[str]:
    """Pieces between separators outside double quotes, stripped; an empty piece is an error."""
    pieces, quoted = [""], False
    for letter in text:
        quoted ^= letter == '"'
        if letter == separator and not quoted:
            pieces.append("")
        else:
            pieces[-1] += letter
    pieces = [piece.strip() for piece in pieces]
    if not all(pieces):
        raise UsageError(f"there is nothing between two {separator!r}" if len(pieces) > 1 else "it is empty")
    return pieces


def _id_range(token: str) -> tuple[float, float] | None:
    match = _IDS.fullmatch(token)
    if not match:
        return None
    first, last, sign, bound = match.groups()
    if sign:
        return (-math.inf, int(bound) - 1) if sign == "<" else (int(bound) + 1, math.inf)
    low, high = int(first), int(last or first)
    if low > high:
        raise UsageError(f"the range {token} runs backwards")
    return low, high


def number_ranges(text: str) -> NumberRanges:
    """'3~6,9,>20' -> inclusive ranges of numbers (scans)."""
    ranges = []
    for token in split(text, ","):
        found = _id_range(token)
        if found is None:
            raise UsageError(f"{token!r} is not a number or a range such as 3~6, <5 or >5")
        ranges.append(found)
    return tuple(ranges)


def _by_id(token: str, count: int) -> Mask | None:
    found = _id_range(token)
    if found is None:
        return None
    ids = np.arange(count)
    mask: Mask = (ids >= found[0]) & (ids <= found[1])
    if not mask.any():
        raise UsageError(f"{token} selects nothing: ids are 0 to {count - 1}")
    return mask


def _by_name(token: str, names: Sequence[str]) -> Mask:
    pattern = token.strip('"') if token.startswith('"') else token
    mask = np.array([name == pattern for name in names], dtype=bool)
    if not mask.any() and not token.startswith('"'):
        mask = np.array([fnmatch.fnmatchcase(name, pattern) for name in names], dtype=bool)
    if not mask.any():
        raise UsageError(f"nothing is called {pattern!r}{did_you_mean(pattern, names)}")
    return mask


def _merge(masks: Sequence[Mask]) -> Mask:
    return np.logical_or.reduce(masks)


def ids_or_names(text: str, names: Sequence[str]) -> Mask:
    """'0', '2~4', 'N5921*', '"a,b"': (len(names),) bool. A number is an id before it is a name. Empty text takes
    all."""
    if text in ("", "*"):
        return np.ones(len(names), dtype=bool)
    masks = []
    for token in split(text, ","):
        by_id = _by_id(token, len(names)) if token not in names or token.isdigit() else None
        masks.append(_by_name(token, names) if by_id is None else by_id)
    return _merge(masks)


def intents(text: str, modes: Sequence[str]) -> Mask:
    """'*TARGET*' or 'OBSERVE_TARGET#ON_SOURCE': (len(modes),) bool over the STATE table.

    A row's mode is a comma-separated list of intents; a pattern may match the whole list or one of them.
    """
    if not modes:
        raise UsageError("the STATE table is empty, so no intents are known")
    masks = []
    for token in split(text, ","):
        pattern = token.strip('"')
        mask = [any(fnmatch.fnmatchcase(m, pattern) for m in (mode, *mode.split(","))) for mode in modes]
        if not any(mask):
            single = sorted({intent for mode in modes for intent in mode.split(",")})
            raise UsageError(f"no intent matches {pattern!r}{did_you_mean(pattern, single)}")
        masks.append(np.array(mask, dtype=bool))
    return _merge(masks)


def channels(text: str, windows: Sequence[tuple[str, NDArray[np.float64]]]) -> dict[int, Mask]:
    """'0:5~50', '0:1412~1413MHz;1420MHz', 'band*', '1412~1413MHz', ',' between windows: window id -> (nchan,) bool.

    ``windows`` are (name, channel frequencies in Hz). A frequency range takes the channels whose centres lie inside it,
    a single frequency takes the nearest channel; frequencies are in the frame that the window is declared in.
    """
    chosen: dict[int, Mask] = {}
    for token in split(text, ",") if text else ["*"]:
        window_text, _, channel_text = token.partition(":")
        named = np.flatnonzero(_windows(window_text.strip() or "*", windows)).tolist()
        found, complaint = False, None
        for window in named:
            try:
                mask = _window_channels(channel_text.strip(), windows[window][1], window)
            except UsageError as error:
                complaint = error  # one of several windows may well lie outside a frequency range
                continue
            found = True
            chosen[window] = chosen[window] | mask if window in chosen else mask
        if complaint and not found:
            raise complaint
    return chosen


def _windows(token: str, windows: Sequence[tuple[str, NDArray[np.float64]]]) -> Mask:
    if token == "*":
        return np.ones(len(windows), dtype=bool)
    names = [name for name, _ in windows]
    if _FREQUENCIES.fullmatch(token) and token not in names:
        low, high = _frequency_range(token)
        mask = np.array([((freq >= low) & (freq <= high)).any() for _, freq in windows], dtype=bool)
        if not mask.any():
            raise UsageError(f"no spectral window has a channel in {token}")
        return mask
    by_id = _by_id(token, len(windows))
    return _by_name(token, names) if by_id is None else by_id


def _window_channels(text: str, freq_hz: NDArray[np.float64], window: int) -> Mask:
    nchan = len(freq_hz)
    if text in ("", "*"):
        return np.ones(nchan, dtype=bool)
    return _merge([_channel_term(term, freq_hz, window) for term in split(text, ";")])


def _channel_term(term: str, freq_hz: NDArray[np.float64], window: int) -> Mask:
    index = np.arange(len(freq_hz))
    span, _, stride = term.partition("^")
    if _FREQUENCIES.fullmatch(span.strip()):
        low, high = _frequency_range(span.strip())
        nearest = int(np.argmin(np.abs(freq_hz - low)))
        mask = index == nearest if low == high else (freq_hz >= low) & (freq_hz <= high)
        if not mask.any():
            reach = f"{freq_hz.min() / 1e6:.6f}~{freq_hz.max() / 1e6:.6f}MHz"
            raise UsageError(f"window {window} has no channel in {span.strip()}; it covers {reach}")
    elif re.search(r"m/s$", span.strip()):
        raise UsageError(f"velocities ({span.strip()}) can't select channels; give channel numbers or frequencies")
    else:
        found = _id_range(span.strip())
        if found is None:
            raise UsageError(
                f"{term!r} is not a channel, a range such as 5~50, or a frequency range such as 1412~1413MHz"
            )
        mask = (index >= found[0]) & (index <= found[1])
        if not mask.any():
            raise UsageError(f"window {window} has no channel {span.strip()}; it has 0 to {len(freq_hz) - 1}")
    if stride:
        if not stride.strip().isdigit() or int(stride) < 1:
            raise UsageError(f"the step in {term!r} must be a positive number")
        mask &= (index - int(np.argmax(mask))) % int(stride) == 0
    return mask


def _frequency_range(token: str) -> tuple[float, float]:
    match = _FREQUENCIES.fullmatch(token)
    if match is None:
        raise UsageError(f"{token!r} is not a frequency range such as 1412~1413MHz")
    first, first_unit, last, unit = match.groups()
    low = frequency_hz(f"{first}{first_unit or unit}")
    high = low if last is None else frequency_hz(f"{last}{unit}")
    if low > high:
        raise UsageError(f"the range {token} runs backwards")
    return low, high


def baselines(text: str, names: Sequence[str]) -> Mask:
    """(nantenna, nantenna) bool, symmetric, from terms between semicolons.

    'A' every baseline of antenna A; 'A&B' the one between them; 'A,B&' those inside the list; 'A&*' as 'A'; a '!' in
    front takes the term's baselines away. A number is an antenna's name where there is one so called, else its id.
    """
    count = len(names)
    terms = split(text, ";")
    mask = np.full((count, count), all(term.startswith("!") for term in terms))
    for term in (t for t in terms if not t.startswith("!")):
        mask |= _baseline_term(term, names)
    for term in (t for t in terms if t.startswith("!")):
        mask &= ~_baseline_term(term[1:].strip(), names)
    off_diagonal = ~np.eye(count, dtype=bool)
    if not (mask & off_diagonal).any():
        raise UsageError("it leaves no baseline")
    return mask


def _baseline_term(term: str, names: Sequence[str]) -> Mask:
    if "&&&" in term:
        raise UsageError(f"{term!r} asks for autocorrelations, which are never imaged")
    left_text, ampersand, right_text = term.replace("&&", "&").partition("&")
    left = _antennas(left_text.strip(), names)
    if not ampersand:
        right = np.ones(len(names), dtype=bool)
    else:
        right = _antennas(right_text.strip(), names) if right_text.strip() else left
    return np.outer(left, right) | np.outer(right, left)


def _antennas(text: str, names: Sequence[str]) -> Mask:
    if text == "*":
        return np.ones(len(names), dtype=bool)
    masks = []
    for token in split(text, ","):
        by_id = None if token in names else _by_id(token, len(names))
        masks.append(_by_name(token, names) if by_id is None else by_id)
    return _merge(masks)


def time_ranges(text: str, first_time_s: float) -> TimeRanges:
    """'1995/04/13/09:30:00~09:50:00', '>10:00:00', 'T0+00:10:00': inclusive ranges of MJD in seconds.

    A time without date has the date of the start of its range, and that one the date of ``first_time_s``.
    """
    day = math.floor(first_time_s / SECONDS_PER_DAY)
    return tuple(_time_range(token, day) for token in split(text, ","))


def _time_range(token: str, day: int) -> tuple[float, float]:
    if token[0] in "<>":
        time = _time(token[1:].strip(), day)
        return (
            (-math.inf, np.nextafter(time, -math.inf)) if token[0] == "<" else (np.nextafter(time, math.inf), math.inf)
        )
    start_text, plus, length = token.partition("+")
    first, tilde, last = start_text.partition("~")
    start = _time(first.strip(), day)
    if plus:
        stop = start + _time(length.strip(), 0)
    elif tilde:
        stop = _time(last.strip(), math.floor(start / SECONDS_PER_DAY))
    else:
        raise UsageError(f"{token!r} is a single instant; give a range such as {token}~{token} or {token}+00:00:10")
    if stop < start:
        raise UsageError(f"the range {token} runs backwards")
    return start, stop


def _time(text: str, day: int) -> float:
    match = _TIME.fullmatch(text)
    if not match or not text:
        raise UsageError(f"{text!r} is not a time such as 1995/04/13/09:30:00 or 09:30:00")
    year, month, date, hours, minutes, seconds = match.groups()
    if year:
        try:
            day = (datetime.date(int(year), int(month), int(date)) - _MJD_EPOCH).days
        except ValueError:
            raise UsageError(f"{text!r}: there is no such date") from None
    return day * SECONDS_PER_DAY + int(hours or 0) * 3600.0 + int(minutes or 0) * 60.0 + float(seconds or 0.0)


def uv_limits(text: str) -> UvLimits:
    """'0~500m', '>5klambda', '100~400klambda,<50m': inclusive limits on sqrt(u^2 + v^2)."""
    return tuple(_uv_limit(token) for token in split(text, ","))


def _uv_limit(token: str) -> tuple[float, float, bool]:
    match = _UV.fullmatch(token)
    if not match or (match[1] and match[4]) or not (match[1] or match[4]):
        raise UsageError(f"{token!r} is not a uv range such as 0~500m, <500m or >5klambda")
    sign, first, first_unit, last, last_unit = match.groups()
    unit = last_unit or first_unit
    for name in (unit, first_unit):
        if name not in _UV_UNITS:
            raise UsageError(f"{token!r} has an unknown unit {name!r}{did_you_mean(name, [u for u in _UV_UNITS if u])}")
    factor, in_wavelengths = _UV_UNITS[unit]
    low = float(first) * _UV_UNITS[first_unit or unit][0]
    if _UV_UNITS[first_unit or unit][1] != in_wavelengths:
        raise UsageError(f"{token!r} mixes metres and wavelengths")
    if sign:
        return (0.0, low, in_wavelengths) if sign == "<" else (low, math.inf, in_wavelengths)
    if low > float(last) * factor:
        raise UsageError(f"the range {token} runs backwards")
    return low, float(last) * factor, in_wavelengths
