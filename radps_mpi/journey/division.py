"""How the channels are cut into blocks for a major cycle: in full ones, or in halves where few channels are still at work.

A channel's bits depend neither on its neighbours nor on how many lanes are computed together (``radps_kernels.lanes``), so the
cut may follow the number of ranks and what blocks have taken. Halves leave out lanes without active channels at the ends of a
line, and are more pieces to share; each of them costs more than half of a full block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from radps_mpi.decomposition import ChannelBlock, ChannelBlocks, Team, half_width, settle_teams, slowest_team
from radps_mpi.journey.blocks import BlockImager
from radps_mpi.journey.describe import Description
from radps_mpi.planning.model import HALF_COSTS, HALVES_GAIN


class Division:
    """The cube in blocks of one width: an imager for them, what each took when it was worked last, and whose they were."""

    def __init__(self, blocks: Sequence[ChannelBlock], make_imager: Callable[[], BlockImager]) -> None:
        self.blocks, self._make_imager = blocks, make_imager
        self._imager: BlockImager | None = None
        self.seconds = np.zeros(len(blocks))
        """0 for a block that wasn't worked; the same on all ranks."""
        self.teams: Sequence[Team] = ()

    @property
    def imager(self) -> BlockImager:
        """Made when it is needed first: most runs never need one for halves, and it plans transforms."""
        if self._imager is None:
            self._imager = self._make_imager()
        return self._imager

    def rest(self) -> None:
        """Give the imager's memory back."""
        if self._imager is not None:
            self._imager.turn_to([])

    def costs(self, wanted: NDArray[np.bool_], otherwise: NDArray[np.float64] | None = None) -> list[float]:
        """Expected cost of each block's residuals, 0 where none of the ``wanted`` (nchan,) channels is in it: the seconds that
        the block took last, since few of its channels stop from one cycle to the next, and gridding takes all lanes together.
        For a block that hasn't been worked yet ``otherwise`` (nblock,), or else the median of the others."""
        known = self.seconds[self.seconds > 0.0]
        unknown = np.full(len(self.blocks), np.median(known) if known.size else 1.0) if otherwise is None else otherwise
        return [
            float(self.seconds[at] or unknown[at]) if wanted[b.start : b.stop].any() else 0.0
            for at, b in enumerate(self.blocks)
        ]

    def note(self, spent: NDArray[np.float64], teams: Sequence[Team]) -> None:
        """``spent`` (nblock,) seconds, 0 where a block wasn't worked, by these teams."""
        self.seconds = np.where(spent > 0.0, spent, self.seconds)
        self.teams = teams


class Divisions:
    """Both ways to cut one cube; ``halves`` is None where blocks are narrow already."""

    def __init__(self, description: Description, imager: BlockImager) -> None:
        self.nleaf = len(description.leaves)
        self.full = Division(description.blocks, lambda: imager)
        self.halves: Division | None = None
        half = half_width(description.nlane)
        if half < description.nlane:
            self.halves = Division(ChannelBlocks(description.axis.nchan, half), lambda: imager.of_lanes(half))
        self._chosen = self.full

    def choose(self, wanted: NDArray[np.bool_], nrank: int) -> tuple[Division, list[float]]:
        """The division whose slowest rank is expected to have the residuals of the ``wanted`` (nchan,) channels first, and its
        costs. The same arithmetic on all ranks. Visibilities that one division has prepared are of no use to the other, so the
        last choice stays unless the other one is clearly better."""
        offers = [(self.full, self.full.costs(wanted))]
        if self.halves is not None:
            of_full = np.repeat(HALF_COSTS * np.array(offers[0][1]), 2)[: len(self.halves.blocks)]
            offers.append((self.halves, self.halves.costs(wanted, of_full)))

        def time_s(offer: tuple[Division, list[float]]) -> float:
            division, costs = offer
            slowest_s = slowest_team(costs, settle_teams(costs, nrank, self.nleaf, division.teams))
            return slowest_s if division is self._chosen else HALVES_GAIN * slowest_s

        best = min(offers, key=time_s)
        self._chosen = best[0]
        return best

    def turn_to(self, division: Division, blocks: Sequence[ChannelBlock]) -> None:
        """The rank's next blocks are these of ``division``; the other one's imager gives its memory back."""
        for other in filter(None, (self.full, self.halves)):
            if other is not division:
                other.rest()
        division.imager.turn_to(blocks)
