"""The corner turn moves every sample to its place, bit for bit, and blanks and counts what can't be used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radps_kernels import corner_turn, corner_turn_reference

ODD_VALUES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-42, 3e38], np.float32)


def some(rng: np.random.Generator, shape: tuple[int, ...], odd: float) -> np.ndarray:
    """Random float32 of which a share is NaN, infinite, zero, negative, subnormal or huge."""
    values = rng.uniform(0.5, 2.0, shape).astype(np.float32)
    return np.where(rng.random(shape) < odd, rng.choice(ODD_VALUES, shape), values)


def problem(rng: np.random.Generator, nrow: int, nchan: int, npol: int, *, spectral: bool, odd: float) -> list:
    vis = (some(rng, (nrow, nchan, npol), odd) - 0j).astype(np.complex64)
    vis.imag = some(rng, vis.shape, odd)
    partner = np.arange(npol) if npol != 4 else np.array([0, 2, 1, 3])
    return [
        vis, rng.random(vis.shape) < odd, some(rng, (nrow, nchan if spectral else 1, npol), odd), spectral,
        rng.random(nrow) < 0.5 * odd, rng.random(nchan) < 0.5 * odd, rng.random(nrow) < 0.5, partner.astype(np.int64),
        rng.permutation(nrow),
    ]  # fmt: skip


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint32)


def turned(given_: list, descending: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    nrow, nchan, npol = given_[0].shape
    shape = (nchan, npol, nrow)
    out = (np.empty(shape, np.complex64), np.empty(shape if given_[3] else (0, 0, 0), np.float32),
           np.zeros(5, np.int64), np.zeros((nchan, npol), np.int64))  # fmt: skip
    corner_turn.turn_rows(*given_, descending, *out)
    return out


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), nrow=st.integers(0, 300), nchan=st.integers(1, 40) | st.integers(120, 300),
    npol=st.sampled_from([1, 2, 3, 4]), spectral=st.booleans(), descending=st.booleans(), odd=st.sampled_from([0.0, 0.05, 0.4]),
)  # fmt: skip
def test_turned_rows_have_the_bits_and_counts_of_the_readable_twin(
    seed: int, nrow: int, nchan: int, npol: int, spectral: bool, descending: bool, odd: float
) -> None:
    asked = problem(np.random.default_rng(seed), nrow, nchan, npol, spectral=spectral, odd=odd)
    before = [np.copy(array) for array in asked]
    vis, weight, counts, good = turned(asked, descending)
    expected_vis, expected_weight, expected_counts, expected_good = corner_turn_reference.turn_rows(*asked, descending)
    np.testing.assert_array_equal(bits(vis), bits(expected_vis))
    if spectral:
        np.testing.assert_array_equal(bits(weight), bits(expected_weight))
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(good, expected_good)
    assert counts.sum() + good.sum() == nrow * nchan * npol
    for array, kept in zip(asked, before, strict=True):
        np.testing.assert_array_equal(array, kept, "an input was changed")


@pytest.mark.parametrize(
    ("weight", "flag", "vis", "reason"),
    [
        (np.nan, True, np.nan, corner_turn.FLAG),
        (np.nan, False, np.nan, corner_turn.BAD_WEIGHT),
        (np.inf, False, 1.0, corner_turn.BAD_WEIGHT),
        (-1.0, False, 1.0, corner_turn.BAD_WEIGHT),
        (0.0, False, np.nan, corner_turn.ZERO_WEIGHT),
        (-0.0, False, 1.0, corner_turn.ZERO_WEIGHT),
        (1.0, False, np.nan, corner_turn.NONFINITE),
        (1.0, False, complex(0.0, -np.inf), corner_turn.NONFINITE),
        (1.0, False, 2.0, None),
    ],
)
def test_a_sample_is_blank_for_the_first_reason_that_holds(
    weight: float, flag: bool, vis: complex, reason: int | None
) -> None:
    one = np.full((1, 1, 1), vis, np.complex64), np.full((1, 1, 1), flag), np.full((1, 1, 1), weight, np.float32)
    no, first = np.zeros(1, dtype=bool), np.zeros(1, np.int64)
    out_vis, out_weight, counts, good = turned([*one, True, no, no, no, first, first], False)
    assert np.flatnonzero(counts).tolist() == ([] if reason is None else [reason])
    assert good[0, 0] == (reason is None)
    if reason is None:
        assert (out_vis[0, 0, 0], out_weight[0, 0, 0]) == (vis, weight)
    else:
        assert bits(out_vis).tolist() == [[[0x7FC00000, 0x7FC00000]]] and bits(out_weight).tolist() == [[[0]]]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), nrow=st.integers(0, 60), more=st.integers(0, 20), dtype=st.sampled_from(["<c8", "<f4"]))
def test_rows_are_put_in_their_places_and_others_are_left_alone(seed: int, nrow: int, more: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    lines = some(rng, (3, nrow), 0.2).astype(dtype)
    place = rng.permutation(nrow + more)[:nrow].astype(np.int64)
    out = np.full((3, nrow + more), 7.0, dtype)
    expected = corner_turn_reference.place_rows(lines, place, out)
    corner_turn.place_rows(lines, place, out)
    np.testing.assert_array_equal(bits(out), bits(expected))
