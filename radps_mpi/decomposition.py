"""Who computes what: channel blocks, row groups and their owners, as arithmetic on plain values.

Nothing here knows MPI, so ten thousand ranks can be tested in one process. What is summed, and in which order, follows from
the data and the image alone (block width, groups, leaves); the number of ranks only decides *where* it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Widest block: one AVX-512 register of float32, one lane per channel."""

_BLOCK_PIXELS = 1 << 26
"""A block's planes together hold at most this many pixels (2048^2 at 16 lanes): bounds a rank's memory."""

_SPREAD_CELLS = 1.5
"""Between the first and the last lane of the longest baseline: with more a third of the rows, or fewer, share one footprint."""

_ROWS_PER_PIXEL = 0.05
"""With more rows than that wide channels are quicker one by one: a residual pass of 50,000 rows took 8.1 ms per channel instead
of 13.8 at 512 x 512, but 26 instead of 20 at 1024 x 1024, where transforms of several channels at once count for more."""

FACTOR_BLOCK = 256
"""Integrations whose Doppler factors are computed in one go, by one rank."""

MAX_LEAVES = 64
"""Most leaves of one reduction tree; each costs an addition of whole grids."""

_ROWS_PER_GROUP = 1 << 18
"""Fewest rows worth a grid of their own: below, adding the grids costs more than gridding the rows."""

_VISIBILITIES_PER_LEAF = 1 << 18
"""The same for a continuum image, whose leaves span channels too."""

WORTH_MOVING = 0.9
"""Of the time that the present owners would take, what new ones must undercut."""


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """Image channels ``start <= c < stop``; ``index`` counts blocks from the start of the cube."""

    index: int
    start: int
    stop: int

    @property
    def nchan(self) -> int:
        """Channels in the block."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Leaf:
    """Data that one leaf of a reduction tree sums: row chunks of some observations, all or some native channels.

    ``pieces`` are (observation, first chunk, last chunk + 1, first native channel, last native channel + 1); a native range
    of (0, -1) stands for whichever channels the image block needs.
    """

    index: int
    pieces: tuple[tuple[int, int, int, int, int], ...]


def block_width(nx: int, ny: int, nchan: int, nrow: int = 0, cells_apart: float = 0.0) -> int:
    """Channels per block for a cube of nchan images of nx by ny pixels from nrow visibilities per channel.

    16, or 8 where there are fewer or more pixels would be too many, or 1 for larger images, for cubes of fewer channels than
    fill 8 lanes, and where lanes don't pay: neighbouring channels of the longest baseline lie ``cells_apart`` uv cells apart,
    so that most rows have to be gridded lane by lane, and rows are what takes the time. The same on all ranks.
    """
    wide = (LANES - 1) * cells_apart > _SPREAD_CELLS
    if wide and nrow > _ROWS_PER_PIXEL * nx * ny:
        return 1
    for width in (LANES, LANES // 2):
        if width <= nchan and width * nx * ny <= _BLOCK_PIXELS:
            return width
    return 1


@dataclass(frozen=True, slots=True)
class ChannelBlocks(Sequence[ChannelBlock]):
    """The channels of a cube in blocks of ``width``, aligned to channel 0; the last may be shorter. Made when they are asked
    for: every rank knows all of them, and thousands of objects would take megabytes."""

    channels: int
    width: int

    def __len__(self) -> int:
        return len(range(0, self.channels, self.width))

    @overload
    def __getitem__(self, index: SupportsIndex) -> ChannelBlock: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChannelBlock]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> ChannelBlock | list[ChannelBlock]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return ChannelBlock(numbers, numbers * self.width, min((numbers + 1) * self.width, self.channels))


@dataclass(frozen=True, slots=True)
class ChosenBlocks(Sequence[ChannelBlock]):
    """Those of ``blocks`` with these ``numbers``, in their order; made when they are asked for, as those are."""

    blocks: Sequence[ChannelBlock]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> ChannelBlock: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChannelBlock]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> ChannelBlock | list[ChannelBlock]:
        places = range(len(self.numbers))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return self.blocks[self.numbers[places]]


def half_width(width: int) -> int:
    """Channels of half a block; blocks that are narrower than a vector aren't cut, and it is a whole one's."""
    return width // 2 if width == LANES else width


def cube_leaves(chunks_of: Sequence[int], nrow: int, requested: int = 0) -> list[Leaf]:
    """Leaves of each block of a cube: contiguous groups of row chunks.

    Parameters
    ----------
    chunks_of : number of row chunks of each observation.
    nrow : rows of all observations together.
    requested : number of groups if the user fixed it, else 0.
    """
    chunks = [(obs, chunk) for obs, n in enumerate(chunks_of) for chunk in range(n)]
    ngroup = requested or nrow // _ROWS_PER_GROUP
    ngroup = max(1, min(ngroup, len(chunks), MAX_LEAVES))
    leaves = []
    for group in range(ngroup):
        mine = chunks[group * len(chunks) // ngroup : (group + 1) * len(chunks) // ngroup]
        leaves.append(Leaf(group, _merge_chunks(mine)))
    return leaves


def _merge_chunks(chunks: Sequence[tuple[int, int]]) -> tuple[tuple[int, int, int, int, int], ...]:
    pieces: list[tuple[int, int, int, int, int]] = []
    for obs, chunk in chunks:
        if pieces and pieces[-1][0] == obs and pieces[-1][2] == chunk:
            pieces[-1] = (obs, pieces[-1][1], chunk + 1, 0, -1)
        else:
            pieces.append((obs, chunk, chunk + 1, 0, -1))
    return tuple(pieces)


def continuum_leaves(
    chunks_of: Sequence[int], nrow_of: Sequence[int], nchan_of: Sequence[int], requested: int = 0
) -> list[Leaf]:
    """Leaves of a continuum image: contiguous runs of atoms (observation, 16 native channels, row chunk).

    Parameters
    ----------
    chunks_of, nrow_of, nchan_of : row chunks, rows and native channels of each observation.
    requested : number of leaves if the user fixed it, else 0.
    """
    atoms = [
        (obs, chunk, chunk + 1, start, min(start + LANES, nchan))
        for obs, (nchunk, nchan) in enumerate(zip(chunks_of, nchan_of, strict=True))
        for start in range(0, nchan, LANES)
        for chunk in range(nchunk)
    ]
    visibilities = sum(rows * nchan for rows, nchan in zip(nrow_of, nchan_of, strict=True))
    nleaf = requested or visibilities // _VISIBILITIES_PER_LEAF
    nleaf = max(1, min(nleaf, len(atoms), MAX_LEAVES))
    return [
        Leaf(leaf, tuple(atoms[leaf * len(atoms) // nleaf : (leaf + 1) * len(atoms) // nleaf])) for leaf in range(nleaf)
    ]


@dataclass(frozen=True, slots=True)
class Team:
    """The ranks ``first <= r < stop`` that share ``blocks``; the first one holds the blocks' images.

    A team has several ranks only where there are more ranks than blocks, and then just one block. Ranks beyond
    blocks x leaves are in no team.
    """

    blocks: tuple[int, ...]
    first: int
    stop: int

    @property
    def size(self) -> int:
        """Ranks in the team."""
        return self.stop - self.first


def assign_teams(costs: Sequence[float], nrank: int, nleaf: int) -> list[Team]:
    """Share blocks among ranks: contiguous runs of equal cost, or several ranks per block where ranks abound.

    Parameters
    ----------
    costs : expected cost of each block to be computed (any unit); the blocks are those with ``cost > 0``.
    nrank : ranks of the job.
    nleaf : leaves per block, the most ranks that can share one.
    """
    active = [block for block, cost in enumerate(costs) if cost > 0]
    if not active:
        return []
    if nrank >= len(active):
        size = [(nrank * (i + 1)) // len(active) - (nrank * i) // len(active) for i in range(len(active))]
        starts = np.concatenate([[0], np.cumsum(size)])
        return [
            Team((block,), int(starts[i]), int(starts[i]) + min(size[i], nleaf)) for i, block in enumerate(active)
        ]
    bounds = balanced_bounds([costs[b] for b in active], nrank)
    return [
        Team(tuple(active[bounds[rank] : bounds[rank + 1]]), rank, rank + 1)
        for rank in range(nrank)
        if bounds[rank + 1] > bounds[rank]
    ]


def settle_teams(costs: Sequence[float], nrank: int, nleaf: int, before: Sequence[Team] = ()) -> list[Team]:
    """``assign_teams``, but those of ``before`` with the blocks still active, unless new ones would be done in less than
    WORTH_MOVING of their time: a block that moves takes its visibilities out of a cache, and measured costs are noisy."""
    fresh = assign_teams(costs, nrank, nleaf)
    kept = [replace(team, blocks=tuple(b for b in team.blocks if costs[b] > 0)) for team in before]
    kept = [team for team in kept if team.blocks]
    if [b for team in kept for b in team.blocks] != [b for team in fresh for b in team.blocks]:
        return fresh
    return fresh if slowest_team(costs, fresh) < WORTH_MOVING * slowest_team(costs, kept) else kept


def slowest_team(costs: Sequence[float], teams: Sequence[Team]) -> float:
    """When the last team is done, in the unit of ``costs``; the ranks of a team share its work evenly."""
    return max((sum(costs[b] for b in team.blocks) / team.size for team in teams), default=0.0)


def balanced_bounds(costs: Sequence[float], nparts: int) -> list[int]:
    """Cut a sequence into contiguous parts whose largest cost is as small as possible.

    Returns ``nparts + 1`` ascending bounds; deterministic. Bisection on the largest cost, then greedy filling.
    """
    values = np.asarray(costs, dtype=np.float64)
    low, high = float(values.max(initial=0.0)), float(values.sum())
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _parts_needed(values, middle) <= nparts:
            high = middle
        else:
            low = middle
    bounds, load = [0], 0.0
    for i, cost in enumerate(values):
        remaining_parts = nparts - len(bounds)
        if i > bounds[-1] and load + cost > high * (1 + 1e-12) and remaining_parts > 0:
            bounds.append(i)
            load = 0.0
        load += cost
    return bounds + [len(values)] * (nparts + 1 - len(bounds))


def _parts_needed(values: NDArray[np.float64], limit: float) -> int:
    parts, load = 1, 0.0
    for cost in values:
        if load + cost > limit * (1 + 1e-12) and load > 0:
            parts, load = parts + 1, 0.0
        load += cost
    return parts


def deal_channels(channels: NDArray[np.int64], rank: int, nrank: int) -> NDArray[np.int64]:
    """Minor cycles are dealt out by single channel, round robin: neighbours cost alike, so the shares do too."""
    return channels[rank::nrank]
