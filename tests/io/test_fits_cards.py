"""Header text: what goes in comes out, through astropy, whatever the characters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from radps_mpi.errors import DataError
from radps_mpi.io.fits_cards import (
    BLOCK_BYTES,
    card,
    encode_checksum,
    escape,
    fold,
    header_block,
    history_cards,
    history_lines,
    unescape,
    with_checksums,
    word_sum,
)

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def parse(cards: list[str]) -> fits.Header:
    return fits.Header.fromstring(header_block(cards).decode("ascii"))


@settings(max_examples=200, deadline=None)
@given(st.lists(anything, max_size=5))
def test_history_lines_of_any_text_survive_wrapping_and_escaping(lines: list[str]) -> None:
    cards = history_cards(lines)
    assert all(len(text) == 80 and all(32 <= ord(c) <= 126 for c in text) for text in cards)
    header = parse(cards)
    assert history_lines(header.get("HISTORY", [])) == lines


@settings(max_examples=200, deadline=None)
@given(anything)
def test_string_values_of_any_text_survive_long_string_cards(text: str) -> None:
    cards = card("OBSERVER", text)
    assert all(len(line) == 80 for line in cards)
    assert unescape(parse(cards)["OBSERVER"]) == text.rstrip(" ")


@pytest.mark.parametrize("quotes", range(60, 75))
def test_a_quote_at_the_end_of_a_card_is_not_torn(quotes: int) -> None:
    text = "x" * quotes + "''" + "y" * 70
    assert parse(card("OBJECT", text))["OBJECT"] == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_reals_keep_13_digits_in_the_20_characters_of_fixed_format(value: float) -> None:
    (text,) = card("CRVAL1", value)
    assert text[10:30].strip() == text[10:].strip()
    assert float(text[10:30]) == pytest.approx(value, rel=1e-12, abs=0.0)
    assert "." in text


@given(st.floats(1e7, 1e12))
def test_frequencies_keep_every_bit(freq_hz: float) -> None:
    assert parse(card("CRVAL3", freq_hz))["CRVAL3"] == freq_hz


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_no_header_can_hold_is_refused_by_name(value: float) -> None:
    with pytest.raises(DataError, match="RESTFRQ"):
        card("RESTFRQ", value)


def test_control_characters_and_other_alphabets_become_escapes() -> None:
    assert escape("é\tλ\n\\ \x7f") == "\\xe9\\t\\u03bb\\n\\\\ \\x7f"


@given(st.binary(min_size=4, max_size=400).map(lambda b: b[: len(b) // 4 * 4]))
def test_word_sum_is_the_ones_complement_sum(data: bytes) -> None:
    words = [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]
    total = 0
    for word in words:
        total += word
        total = (total & 0xFFFFFFFF) + (total >> 32)
    assert word_sum(data) == total


@given(st.integers(0, 0xFFFFFFFF))
def test_an_encoded_checksum_is_alphanumeric_and_brings_the_sum_to_all_ones(total: int) -> None:
    encoded = encode_checksum(total)
    assert encoded.isalnum()
    assert len(encoded) == 16
    # The value starts at byte 11 of its card, hence the rotation by one; each character replaces a "0".
    words = np.frombuffer((encoded[1:] + encoded[:1]).encode(), ">u4").astype(np.uint64)
    zeros = 4 * 0x30303030
    assert fold(int(words.sum()) - zeros + total + 0xFFFFFFFF) in (0xFFFFFFFF, 0)


def test_the_length_of_a_header_does_not_depend_on_its_checksums() -> None:
    cards = card("SIMPLE", True) + history_cards(["line"] * 33)
    assert len(with_checksums(cards, 0)) == len(with_checksums(cards, 0xFFFFFFFF)) == 2 * BLOCK_BYTES
