"""The text of FITS headers: 80-character cards, escaped text, checksums (FITS standard 4.0, sections 4 and 4.4.2.7)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from radps_mpi.errors import DataError

BLOCK_BYTES = 2880
"""Headers and data units are padded to a multiple of this."""

CARD_BYTES = 80
_STRING_CHARACTERS = 68
_FIXED_CHARACTERS = 20
_HISTORY_CHARACTERS = 72
_CONTINUES = ">"
"""First character of a HISTORY card that goes on with the line before, as casacore writes them."""

FitsValue = str | bool | int | float


def padded(nbytes: int) -> int:
    """``nbytes`` rounded up to whole FITS blocks."""
    return -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES


def card(keyword: str, value: FitsValue, comment: str = "") -> list[str]:
    """Cards of one keyword: one, or several joined by CONTINUE for a string that is too long for one card.

    Reals carry as many digits as the 20 characters of FITS's fixed format hold: at least 13, and all 17 where they
    matter (frequencies in Hz); casacore complains of longer ones. Strings are escaped by :func:`escape`, their trailing
    spaces dropped, which FITS takes to mean nothing; a comment that doesn't fit is cut.

    Raises
    ------
    DataError
        For a NaN or an infinity, which FITS headers can't hold.
    """
    if isinstance(value, str):
        return _string_cards(keyword, value, comment)
    text = _number(keyword, value)
    return [_finished(f"{keyword:<8}= {text:>{_FIXED_CHARACTERS}}", comment)]


def _number(keyword: str, value: bool | int | float) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "T" if value else "F"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if not math.isfinite(value):
        raise DataError(f"FITS header: {keyword} would be {value}, which a header can't hold")
    shortest = repr(float(value)).upper()
    attempts = [shortest if "." in shortest else shortest.replace("E", ".0E")]
    attempts += [f"{value:#.{digits}G}" for digits in range(16, 12, -1)]
    return next(text for text in attempts if len(text) <= _FIXED_CHARACTERS)


def _string_cards(keyword: str, value: str, comment: str) -> list[str]:
    text = escape(value.rstrip(" ")).replace("'", "''")
    if len(text) <= _STRING_CHARACTERS:
        quoted = f"'{text:<8}'"
        return [_finished(f"{keyword:<8}= {quoted:<{_FIXED_CHARACTERS}}", comment)]
    pieces = _pieces(text, _STRING_CHARACTERS - 1)
    heads = [f"{keyword:<8}= "] + ["CONTINUE  "] * (len(pieces) - 1)
    ends = ["&"] * (len(pieces) - 1) + [""]
    return [_finished(f"{head}'{piece}{end}'", "") for head, piece, end in zip(heads, pieces, ends, strict=True)]


def _pieces(text: str, width: int) -> list[str]:
    """Cut at ``width`` or one earlier, so that a doubled quote stays whole."""
    pieces = []
    while text:
        cut = width
        if len(text) > cut and (len(text[:cut]) - len(text[:cut].rstrip("'"))) % 2:
            cut -= 1
        pieces.append(text[:cut])
        text = text[cut:]
    return pieces


def _finished(text: str, comment: str) -> str:
    if comment and len(text) + 4 < CARD_BYTES:
        text = f"{text} / {comment}"
    return f"{text[:CARD_BYTES]:<{CARD_BYTES}}"


def escape(text: str) -> str:
    r"""``text`` in the characters that FITS allows (ASCII 32 to 126).

    Everything else becomes a Python escape (``\n``, ``\xe9``, ``\u03bb``), and a backslash becomes two. Spaces that
    a reader would drop, at the end or in runs longer than a card's worth of indentation, become ``\x20``.
    """
    encoded = text.encode("unicode_escape").decode("ascii").replace("\x7f", "\\x7f")
    return re.sub(r" +$| {16,}", lambda run: "\\x20" * len(run.group()), encoded)


def unescape(text: str) -> str:
    """The inverse of :func:`escape`."""
    return text.encode("ascii").decode("unicode_escape")


def history_cards(lines: Iterable[str]) -> list[str]:
    """HISTORY cards of ``lines``; a line longer than a card goes on in cards that start with ``>``.

    A line that itself starts with ``>`` has it escaped, so :func:`history_lines` gives back exactly what went in.
    """
    cards = []
    for line in lines:
        text = escape(line)
        if text.startswith(_CONTINUES):
            text = f"\\x3e{text[1:]}"
        for piece in _wrapped(text):
            cards.append(f"HISTORY {piece:<{_HISTORY_CHARACTERS}}")
    return cards


def _wrapped(text: str) -> list[str]:
    pieces, mark = [], ""
    while True:
        room = _HISTORY_CHARACTERS - len(mark)
        cut = room if len(text) > room else len(text)
        if cut < len(text):
            cut = len(text[:cut].rstrip(" ")) or cut
        pieces.append(mark + text[:cut])
        text, mark = text[cut:], _CONTINUES
        if not text:
            return pieces


def history_lines(values: Iterable[str]) -> list[str]:
    """The lines that :func:`history_cards` was given, from a header's HISTORY values."""
    joined: list[str] = []
    for value in values:
        if value.startswith(_CONTINUES) and joined:
            joined[-1] += value[1:]
        else:
            joined.append(value)
    return [unescape(line) for line in joined]


def header_block(cards: Iterable[str]) -> bytes:
    """``cards``, END and padding, as bytes of whole FITS blocks."""
    text = "".join([*cards, f"{'END':<{CARD_BYTES}}"])
    return f"{text:<{padded(len(text))}}".encode("ascii")


def word_sum(data: bytes | memoryview | np.ndarray) -> int:
    """Ones'-complement sum of the big-endian 32-bit words of ``data`` (a multiple of 4 bytes): a FITS DATASUM."""
    words = np.frombuffer(data, dtype=">u4")
    return fold(int(words.sum(dtype=np.uint64)))


def fold(total: int) -> int:
    """Carry everything above 32 bits back in (end-around carry)."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def with_checksums(cards: list[str], datasum: int) -> bytes:
    """The header of ``cards`` with DATASUM and CHECKSUM appended: its length does not depend on their values."""
    cards = [*cards, *card("DATASUM", str(datasum), "data unit checksum")]
    blank = header_block([*cards, *card("CHECKSUM", "0" * 16, "HDU checksum")])
    encoded = encode_checksum(fold(word_sum(blank) + datasum))
    return header_block([*cards, *card("CHECKSUM", encoded, "HDU checksum")])


def encode_checksum(total: int) -> str:
    """The 16 characters that bring an HDU of word sum ``total`` to all ones (FITS standard 4.0, appendix J)."""
    complement = 0xFFFFFFFF - total
    encoded = [""] * 16
    for i in range(4):
        for j, code in enumerate(_four_characters(complement >> (24 - 8 * i) & 0xFF)):
            encoded[4 * j + i] = chr(code)
    return "".join(encoded[-1:] + encoded[:-1])


def _four_characters(byte: int) -> list[int]:
    """Four alphanumeric codes that sum to ``byte`` + 4 * 48, by moving pairs apart where they hit punctuation."""
    codes = [byte // 4 + 48] * 4
    codes[0] += byte % 4
    while not all(chr(code).isalnum() for code in codes):
        for j in (0, 2):
            if not (chr(codes[j]).isalnum() and chr(codes[j + 1]).isalnum()):
                codes[j] += 1
                codes[j + 1] -= 1
    return codes
