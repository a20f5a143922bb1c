"""Who owns what: blocks, teams and leaves, for up to ten thousand ranks in one process."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from radps_mpi.decomposition import (
    LANES,
    MAX_LEAVES,
    ChannelBlocks,
    ChosenBlocks,
    Leaf,
    Team,
    assign_teams,
    balanced_bounds,
    block_width,
    continuum_leaves,
    cube_leaves,
    deal_channels,
    settle_teams,
)
from radps_mpi.parallel import leaf_owner

RANKS = st.one_of(st.integers(1, 80), st.integers(1, 10_000))
COSTS = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 7.0, 16.0]) | st.floats(1e-3, 1e6), max_size=60)


@given(nchan=st.integers(0, 80_000), width=st.integers(1, LANES))
def test_blocks_tile_the_channels_once_and_start_at_multiples_of_their_width(nchan: int, width: int) -> None:
    blocks = ChannelBlocks(nchan, width)
    assert [b.index for b in blocks] == list(range(-(-nchan // width)))
    assert [b.start for b in blocks] == [width * b.index for b in blocks]
    assert [b.stop for b in blocks] == [*[b.start for b in blocks[1:]], *[nchan][: len(blocks)]]
    assert all(0 < b.nchan <= width for b in blocks)
    assert blocks[:] == list(blocks) and blocks[-1:] == list(blocks)[-1:]
    with pytest.raises(IndexError):
        _ = blocks[len(blocks)]


@given(nchan=st.integers(1, 80_000), data=st.data())
def test_chosen_blocks_are_those_of_the_cube_in_the_order_chosen(nchan: int, data: st.DataObject) -> None:
    blocks = ChannelBlocks(nchan, LANES)
    numbers = tuple(data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=20)))
    chosen = ChosenBlocks(blocks, numbers)
    assert list(chosen) == chosen[:] == [blocks[number] for number in numbers]
    assert [b.index for b in chosen[1:]] == list(numbers[1:]) and len(chosen) == len(numbers)
    with pytest.raises(IndexError):
        _ = chosen[len(numbers)]


@given(nx=st.integers(1, 40_000), ny=st.integers(1, 40_000), nchan=st.integers(1, 100_000))
@example(nx=2048, ny=2048, nchan=16)
@example(nx=2048, ny=2049, nchan=16)
@example(nx=2048, ny=2048, nchan=15)
@example(nx=2048, ny=2048, nchan=7)
def test_blocks_are_as_wide_as_their_pixels_allow_and_channels_fill(nx: int, ny: int, nchan: int) -> None:
    width, most = block_width(nx, ny, nchan), 16 * 2048**2
    allowed = [w for w in (1, 8, 16) if w == 1 or (w * nx * ny <= most and w <= nchan)]
    assert width == allowed[-1]


def test_wide_channels_are_gridded_one_by_one_where_rows_outnumber_what_transforms_take() -> None:
    assert block_width(512, 512, 64, 50_000, 0.14) == 1
    assert block_width(1024, 1024, 64, 50_000, 0.28) == LANES  # transforms count for more
    assert block_width(512, 512, 64, 50_000, 0.05) == LANES  # most rows share their cells
    assert block_width(512, 512, 12, 5_000, 0.14) == LANES // 2


@settings(deadline=None)
@given(costs=COSTS, later=st.lists(st.floats(0.0, 1e3), max_size=60), nrank=RANKS, nleaf=st.integers(1, MAX_LEAVES))
def test_blocks_stay_where_they_are_unless_moving_them_pays(
    costs: list[float], later: list[float], nrank: int, nleaf: int
) -> None:
    later = [*later, *costs][: len(costs)]

    def slowest(teams: list[Team]) -> float:
        return max((sum(later[b] for b in team.blocks) / team.size for team in teams), default=0.0)

    before, fresh = assign_teams(costs, nrank, nleaf), assign_teams(later, nrank, nleaf)
    settled = settle_teams(later, nrank, nleaf, before)
    assert [b for team in settled for b in team.blocks] == [b for b, cost in enumerate(later) if cost > 0]
    assert slowest(settled) * 0.9 <= slowest(fresh) * (1 + 1e-9)
    assert settle_teams(costs, nrank, nleaf, before) == before
    assert settle_teams(later, nrank, nleaf) == fresh


def test_a_block_that_got_slow_makes_its_neighbours_move() -> None:
    before = assign_teams([1.0] * 8, 2, 1)
    assert settle_teams([1.0, 1.1, 1.0, 1.0, 1.0, 1.0, 0.9, 1.0], 2, 1, before) == before
    moved = settle_teams([9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2, 1, before)
    assert [team.blocks for team in moved] == [(0,), (1, 2, 3, 4, 5, 6, 7)]
    fewer = settle_teams([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2, 1, before)
    assert [team.blocks for team in fewer] == [(0, 2), (4, 6)]


@settings(deadline=None)
@given(costs=COSTS, nrank=RANKS, nleaf=st.integers(1, MAX_LEAVES))
@example(costs=[], nrank=5, nleaf=3)
@example(costs=[0.0, 0.0], nrank=5, nleaf=3)
@example(costs=[1.0] * 7, nrank=7, nleaf=64)
def test_teams_cover_every_active_block_once_and_no_rank_is_in_two(costs: list[float], nrank: int, nleaf: int) -> None:
    teams = assign_teams(costs, nrank, nleaf)
    assert [block for team in teams for block in team.blocks] == [b for b, cost in enumerate(costs) if cost > 0]
    assert all(team.blocks for team in teams)
    bounds = [bound for team in teams for bound in (team.first, team.stop)]
    assert all(team.size >= 1 for team in teams)
    assert bounds == sorted(bounds) and all(0 <= bound <= nrank for bound in bounds)
    for team in teams:
        assert team.size <= nleaf
        assert team.size == 1 or len(team.blocks) == 1


@settings(deadline=None)
@given(nblock=st.integers(1, 300), nrank=RANKS, nleaf=st.integers(1, MAX_LEAVES))
def test_ranks_idle_only_where_every_leaf_of_every_block_has_its_own(nblock: int, nrank: int, nleaf: int) -> None:
    teams = assign_teams([1.0] * nblock, nrank, nleaf)
    used = sum(team.size for team in teams)
    if nrank >= nblock:
        fair = nrank // nblock
        assert all(min(fair, nleaf) <= team.size <= min(fair + 1, nleaf) for team in teams)
        assert used == nrank or any(team.size == nleaf for team in teams)
    else:
        assert max(len(team.blocks) for team in teams) == -(-nblock // nrank)


def test_every_rank_of_ten_thousand_comes_to_the_same_owners() -> None:
    costs = [float(block % 5) for block in range(5000)]
    teams = assign_teams(costs, 10_000, 8)
    owner = np.full(len(costs), -1)
    for rank in range(10_000):
        mine = [team for team in teams if team.first <= rank < team.stop]
        assert len(mine) <= 1
        for team in mine:
            if rank == team.first:
                assert (owner[list(team.blocks)] == -1).all()
                owner[list(team.blocks)] = rank
    np.testing.assert_array_equal(owner >= 0, np.array(costs) > 0)
    assert (np.diff(owner[owner >= 0]) > 0).all()


def least_largest_cost(costs: list[float], nparts: int) -> float:
    """By trying every way to cut."""
    n = len(costs)
    ways = combinations(range(1, n), min(nparts, n) - 1)
    return min(max(sum(costs[a:b]) for a, b in zip((0, *cuts), (*cuts, n), strict=True)) for cuts in ways)


@settings(deadline=None)
@given(
    costs=st.lists(st.integers(1, 20).map(float) | st.floats(1e-6, 1e3), min_size=1, max_size=9),
    nparts=st.integers(1, 12),
)
@example(costs=[1.0, 1.0, 1.0, 1.0, 1.0], nparts=4)
@example(costs=[1e-9, 1.0, 1e-9], nparts=3)
def test_no_other_way_to_cut_has_a_smaller_largest_cost(costs: list[float], nparts: int) -> None:
    bounds = balanced_bounds(costs, nparts)
    assert len(bounds) == nparts + 1
    assert bounds == sorted(bounds) and (bounds[0], bounds[-1]) == (0, len(costs))
    largest = max(sum(costs[a:b]) for a, b in pairwise(bounds))
    assert largest == pytest.approx(least_largest_cost(costs, nparts), rel=1e-11)


def test_nothing_to_cut_gives_empty_parts() -> None:
    assert balanced_bounds([], 3) == [0, 0, 0, 0]


CHUNKS = st.lists(st.integers(0, 40), max_size=5)


def atoms_of_cube(leaves: list[Leaf]) -> list[tuple[int, int]]:
    assert all(piece[3:] == (0, -1) for leaf in leaves for piece in leaf.pieces)
    return [(obs, chunk) for leaf in leaves for obs, first, stop, *_ in leaf.pieces for chunk in range(first, stop)]


@given(chunks=CHUNKS, rows_per_chunk=st.integers(1, 1 << 17), requested=st.integers(0, 200))
@example(chunks=[], rows_per_chunk=1, requested=0)
@example(chunks=[0, 0], rows_per_chunk=1, requested=9)
@example(chunks=[40] * 5, rows_per_chunk=1 << 17, requested=0)
def test_leaves_of_a_cube_cover_each_row_chunk_once_in_order(
    chunks: list[int], rows_per_chunk: int, requested: int
) -> None:
    leaves = cube_leaves(chunks, sum(chunks) * rows_per_chunk, requested)
    assert atoms_of_cube(leaves) == [(obs, chunk) for obs, n in enumerate(chunks) for chunk in range(n)]
    assert [leaf.index for leaf in leaves] == list(range(len(leaves)))
    assert 1 <= len(leaves) <= MAX_LEAVES
    assert all(leaf.pieces for leaf in leaves) or sum(chunks) == 0
    if requested:
        assert len(leaves) == max(1, min(requested, sum(chunks), MAX_LEAVES))


@settings(deadline=None)
@given(
    observations=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100), st.integers(1, 1 << 15)), max_size=4),
    requested=st.integers(0, 200),
)
@example(observations=[], requested=0)
@example(observations=[(20, 100, 1 << 15)], requested=0)
def test_leaves_of_a_continuum_image_cover_each_chunk_and_channel_once_in_order(
    observations: list[tuple[int, int, int]], requested: int
) -> None:
    nchunk, nchan = [o[0] for o in observations], [o[1] for o in observations]
    leaves = continuum_leaves(nchunk, [o[0] * o[2] for o in observations], nchan, requested)
    found = [
        (obs, chan, chunk)
        for leaf in leaves for obs, first, stop, chan0, chan1 in leaf.pieces
        for chunk in range(first, stop) for chan in range(chan0, chan1)
    ]  # fmt: skip
    expected = [(obs, chan, k) for obs in range(len(nchunk)) for k in range(nchunk[obs]) for chan in range(nchan[obs])]
    assert len(found) == len(set(found)) and set(found) == set(expected)
    pieces = [piece for leaf in leaves for piece in leaf.pieces]
    assert all(stop - first == 1 and 0 < chan1 - chan0 <= LANES for _, first, stop, chan0, chan1 in pieces)
    assert pieces == sorted(pieces, key=lambda p: (p[0], p[3], p[1]))
    assert 1 <= len(leaves) <= MAX_LEAVES


def test_small_data_are_one_leaf_and_large_data_sixty_four() -> None:
    assert len(cube_leaves([1], 12_852)) == 1
    assert len(cube_leaves([32_768], 1 << 30)) == MAX_LEAVES
    assert len(continuum_leaves([1], [20], [64])) == 1
    assert len(continuum_leaves([100], [3_276_800], [4000])) == MAX_LEAVES


@given(nleaf=st.integers(1, MAX_LEAVES), nrank=st.integers(1, MAX_LEAVES))
def test_leaves_are_owned_in_contiguous_runs_that_differ_by_one_at_most(nleaf: int, nrank: int) -> None:
    owner = leaf_owner(nleaf, nrank)
    assert (np.diff(owner) >= 0).all() and owner[0] == 0
    shares = np.bincount(owner, minlength=min(nleaf, nrank))
    assert len(shares) == min(nleaf, nrank) and shares.min() >= 1
    assert shares.max() - shares.min() <= 1


@given(channels=st.lists(st.integers(0, 80_000), unique=True, max_size=50).map(sorted), nrank=st.integers(1, 60))
def test_channels_dealt_out_are_everyones_once_and_shares_differ_by_one_at_most(channels: list[int], nrank: int) -> None:
    shares = [deal_channels(np.array(channels, np.int64), rank, nrank).tolist() for rank in range(nrank)]
    assert sorted(chan for share in shares for chan in share) == channels
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("nrank", [2, 3, 4, 7])
@pytest.mark.parametrize("first", [224, 232, 237])
def test_thirty_line_channels_of_480_are_shared_evenly(first: int, nrank: int) -> None:
    line = np.arange(first, first + 30)
    shares = [deal_channels(line, rank, nrank) for rank in range(nrank)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), line)
    assert max(map(len, shares)) == -(-30 // nrank), "minor cycles: by channel"
    halves = ChannelBlocks(480, LANES // 2)
    costs = [float(any(b.start <= chan < b.stop for chan in line)) for b in halves]
    assert sum(costs) in (4, 5), "half blocks of a line that begins and ends within a block"
    teams = assign_teams(costs, nrank, 1)
    assert max(len(team.blocks) for team in teams) == -(-sum(costs) // nrank), "major cycles: by half block"
