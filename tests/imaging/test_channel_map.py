"""Which native channels make an image channel: by hand for small axes, by conservation for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from radps_mpi.data.axis import SpectralAxis
from radps_mpi.imaging.channel_map import ChannelMap, map_channels, width_ratio
from radps_mpi.imaging.spectral_axis import NativeChannels

STEP_HZ = 1e4
FREQ_HZ = 1.4e9 + STEP_HZ * np.arange(20)


def native(factor: float | list[float] = 1.0) -> NativeChannels:
    factors = np.atleast_1d(np.asarray(factor, np.float64))
    return NativeChannels(FREQ_HZ, np.full(20, STEP_HZ), factors, factors)


def axis(channels: list[float] | NDArray[np.float64], width: float = 1.0) -> SpectralAxis:
    """Image channels at native channel numbers, ``width`` native channels wide."""
    centres = 1.4e9 + STEP_HZ * np.asarray(channels, np.float64)
    return SpectralAxis(centres, np.full(len(centres), width * STEP_HZ), "LSRK", 0.0)


def mapped(a: SpectralAxis, n: NativeChannels, *, interpolation: str = "linear", binning: str = "overlap") -> ChannelMap:
    return part(a, 0, a.nchan, n, interpolation=interpolation, binning=binning)


def part(
    a: SpectralAxis, start: int, stop: int, n: NativeChannels, *, interpolation: str = "linear", binning: str = "overlap"
) -> ChannelMap:  # fmt: skip
    return map_channels(a, start, stop, n, ratio=width_ratio(a, n), interpolation=interpolation, binning=binning)


def shares(m: ChannelMap, nnative: int = 20) -> NDArray[np.float64]:
    """(nimage, nnative) at the first integration: share of each native channel in each image channel."""
    table = np.zeros((m.passes[0].lower.shape[1], nnative))
    for p in m.passes:
        for chan, (lower, share) in enumerate(zip(p.lower[0], p.share[0], strict=True)):
            if lower >= 0:
                table[chan, lower] += share
    return table


def test_one_native_channel_counts_wherever_it_drifts_within_the_image_channel() -> None:
    """It has no neighbour to interpolate with: a continuum window, or ALMA's averaged channels."""
    factors = 1.0 + np.array([0.0, 1e-6, 3e-6, 1e-5])  # 0, 0.14, 0.42 and 1.4 channels at 1.4 GHz
    alone = NativeChannels(FREQ_HZ[:1], np.full(1, STEP_HZ), factors, factors)
    (only,) = mapped(axis([0.0]), alone).passes
    assert only.lower[:, 0].tolist() == [0, 0, 0, -1]


def test_aligned_channels_take_their_own_native_channel_alone() -> None:
    m = mapped(axis([4, 5, 6]), native())
    (only,) = m.passes
    assert only.lower[0].tolist() == [4, 5, 6]
    assert only.fraction[0].tolist() == [0.0, 0.0, 0.0]
    assert (m.first, m.stop) == (4, 7)


def test_channel_between_two_native_ones_is_interpolated_and_weighted_by_the_nearer() -> None:
    m = mapped(axis([4.25, 7.8]), native())
    (only,) = m.passes
    assert only.lower[0].tolist() == [4, 7]
    assert only.fraction[0] == pytest.approx([0.25, 0.8], abs=1e-5)
    assert only.nearest[0].tolist() == [4, 8]
    assert only.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.array([4.25, 7.8]))
    assert only.row_scale.tolist() == [1.0]
    assert (m.first, m.stop) == (4, 9)


def test_linear_interpolation_ends_at_the_outermost_centres_and_nearest_at_their_edges() -> None:
    at = [-0.4, 0.0, 19.0, 19.4, 19.6]
    assert mapped(axis(at), native()).passes[0].lower[0].tolist() == [-1, 0, 19, -1, -1]
    assert mapped(axis(at), native(), interpolation="nearest").passes[0].lower[0].tolist() == [0, 0, 19, 19, -1]


def test_observation_elsewhere_gives_an_empty_map() -> None:
    assert mapped(axis([40.0, 41.0]), native()).is_empty
    assert mapped(axis([40.0, 44.0], 4.0), native()).is_empty


def test_each_integration_has_its_own_channels_as_the_earth_moves() -> None:
    m = mapped(axis([8.0]), native([1.0, 1.0 - 2 * STEP_HZ / 1.4e9, 1.0 + 2 * STEP_HZ / 1.4e9]), interpolation="nearest")
    assert m.passes[0].lower[:, 0].tolist() == [8, 10, 6]
    assert (m.first, m.stop) == (6, 11)


def test_wide_channels_take_native_ones_by_overlap() -> None:
    table = shares(mapped(axis([5.0, 7.5], 2.5), native()))
    assert table[0, 3:8] == pytest.approx([0.0, 0.75, 1.0, 0.75, 0.0], abs=1e-5)
    assert table[1, 5:10] == pytest.approx([0.0, 0.25, 1.0, 1.0, 0.25], abs=1e-5)


def test_wide_channels_are_gridded_at_the_native_frequencies_in_the_output_frame() -> None:
    factor = 1.0 + 0.25 * STEP_HZ / 1.4e9
    m = mapped(axis([5.0], 3.0), native([factor]))
    for p in m.passes:
        if p.lower[0, 0] >= 0:
            assert p.freq_hz[0] * p.row_scale[0] == pytest.approx(FREQ_HZ[p.lower[0, 0]] * factor, rel=1e-14)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(width=st.floats(1.01, 6.0), phase=st.floats(0.0, 1.0), drift=st.floats(-1.5, 1.5))
def test_overlap_uses_every_native_channel_exactly_once(width: float, phase: float, drift: float) -> None:
    count = int(np.ceil(26 / width)) + 1
    image = axis(-3.0 + phase + width * np.arange(count), width)
    table = shares(mapped(image, native([1.0 + drift * STEP_HZ / 1.4e9])))
    assert table.sum(axis=0) == pytest.approx(np.ones(20), abs=1e-4)
    inside = table.sum(axis=1)[np.all(table[:, [0, -1]] == 0, axis=1) & (table.sum(axis=1) > 0)]
    assert inside == pytest.approx(np.full(len(inside), width), rel=1e-3)


Tables = list[NDArray[np.float64]]


def tables_of(m: ChannelMap) -> tuple[Tables, Tables]:
    """What a map says of each channel, as far as it names one: (ntime, nlane) arrays of its passes and of its density."""
    passes = [
        np.where(p.lower >= 0, value, -1.0) for p in m.passes for value in (p.lower, p.fraction, p.nearest, p.share, p.cell_hz)
    ]
    density = [np.where(d.share > 0, value, -1.0) for d in m.density for value in (d.channel, d.share, d.cell_hz)]
    return passes, density


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    width=st.floats(0.2, 4.0), start=st.floats(-3.0, 6.0), cut=st.integers(1, 5), descending=st.booleans(),
    interpolation=st.sampled_from(["linear", "nearest"]), binning=st.sampled_from(["overlap", "tclean"]),
    uneven=st.floats(0.0, 0.4),
)
def test_blocks_of_an_axis_are_mapped_as_the_whole_axis_is(
    width: float, start: float, cut: int, descending: bool, interpolation: str, binning: str, uneven: float
) -> None:  # fmt: skip
    image = axis((start + width * np.arange(6))[:: -1 if descending else 1], width)
    factors = np.array([1.0, 1.00001])
    wide = STEP_HZ * (1.0 + uneven * np.sin(np.arange(20)))
    n = NativeChannels(1.4e9 + np.cumsum(wide), wide, factors, factors)
    whole = part(image, 0, 6, n, interpolation=interpolation, binning=binning)
    for a, b in ((0, cut), (cut, 6)):
        of_block = tables_of(part(image, a, b, n, interpolation=interpolation, binning=binning))
        for mine, expected in zip(of_block, tables_of(whole), strict=True):
            assert len(mine) <= len(expected)  # a block makes no pass that none of its channels needs
            padded = mine + [np.full((2, b - a), -1.0)] * (len(expected) - len(mine))
            assert np.array_equal(padded, [table[:, a:b] for table in expected])


def test_the_cut_into_blocks_changes_nothing_where_channel_edges_do_not_ascend() -> None:
    """One wrong CHAN_WIDTH is enough: half blocks, which the number of ranks decides on, must have the bits of full ones."""
    random, factors = np.random.default_rng(11), 1.0 + 1e-7 * np.arange(3)
    for draw in range(60):
        wide = np.full(100, STEP_HZ)
        if draw % 2:
            wide[random.integers(20, 80)] *= 5
        else:
            wide *= np.exp(random.normal(0.0, 1.0, 100))
        n = NativeChannels(1.4e9 + STEP_HZ * np.arange(100), wide, factors, factors)
        centres = 1.4e9 + STEP_HZ * (10 + 2.5 * np.arange(32))
        image = SpectralAxis(centres, np.full(32, max(2.5, 1.1 * float(np.median(wide)) / STEP_HZ) * STEP_HZ), "LSRK", 0.0)
        full = tables_of(part(image, 8, 24, n))
        for start in (8, 16):
            for mine, expected in zip(tables_of(part(image, start, start + 8, n)), full, strict=True):
                padded = mine + [np.full((3, 8), -1.0)] * (len(expected) - len(mine))
                assert np.array_equal(padded, [table[:, start - 8 : start] for table in expected])


def test_tcleans_rule_makes_the_floor_of_the_ratio_sub_channels() -> None:
    m = mapped(axis([6.0], 2.9), native(), binning="tclean")
    assert len(m.passes) == 2
    centres = [p.freq_hz[0] for p in m.passes]
    assert centres == pytest.approx(1.4e9 + STEP_HZ * (6.0 + 2.9 * np.array([-0.25, 0.25])))
    assert len(mapped(axis([6.0], 1.99), native(), binning="tclean").passes) == 1


def test_width_is_compared_in_the_output_frame() -> None:
    assert width_ratio(axis([3.0], 2.5), native()) == pytest.approx(2.5)
    assert width_ratio(axis([3.0], 2.5), native([1.25])) == pytest.approx(2.0)


def test_density_counts_each_native_channel_in_its_nearest_image_channel() -> None:
    m = mapped(axis([4.0, 6.0, 8.0], 2.0), native(), binning="tclean")
    counted = [sorted({int(d.channel[0, c]) for d in m.density} - {-1}) for c in range(3)]
    assert [4 in c for c in counted] == [True, False, False]
    assert set().union(*counted) >= set(range(3, 9))


def test_density_of_channels_narrower_than_native_ones_is_never_empty() -> None:
    m = mapped(axis(4.0 + 0.2 * np.arange(10), 0.2), native())
    chosen = np.max([d.channel[0] for d in m.density], axis=0)
    assert chosen.tolist() == np.rint(4.0 + 0.2 * np.arange(10)).astype(int).tolist()


def test_descending_image_axis_is_mapped_channel_by_channel() -> None:
    up, down = mapped(axis([4.3, 5.3, 6.3]), native()), mapped(axis([6.3, 5.3, 4.3]), native())
    assert down.passes[0].lower[0].tolist() == up.passes[0].lower[0].tolist()[::-1]
    assert down.passes[0].fraction[0] == pytest.approx(up.passes[0].fraction[0][::-1])
