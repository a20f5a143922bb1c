"""Which rank has which blocks in this part of the run, and a loop over them that commits on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi import timeline
from radps_mpi.decomposition import ChannelBlock, Team, settle_teams
from radps_mpi.journey.describe import Description
from radps_mpi.parallel import all_or_none, largest, split
from radps_mpi.parallel.types import Comm

COMMIT_INTERVAL_S = 60.0
"""Finished blocks are committed about this often within a cycle: a kill loses no more than a minute."""


@dataclass(slots=True)
class Assignment:
    """This rank's share: its blocks, and the team it works them with (itself alone, or several ranks on one block).

    ``team`` is None for a rank without work. ``owner`` (nchan,) is the rank that holds each channel's images, -1 where its
    block is not being worked on.
    """

    team: Comm | None
    blocks: list[ChannelBlock]
    owner: NDArray[np.int64]
    rounds: int
    """Largest number of blocks of any rank."""
    teams: list[Team]
    """Everybody's."""

    def free(self) -> None:
        """Give the team's communicator back."""
        if self.team is not None:
            self.team.Free()
            self.team = None


def assign(comm: Comm, description: Description, costs: Sequence[float], before: Sequence[Team] = ()) -> Assignment:
    """Share the blocks with cost > 0 among the ranks, as ``before`` if that is nearly as good. Collective; the same
    arithmetic on all ranks, so ``costs`` must be the same on all."""
    teams = settle_teams(costs, comm.size, len(description.leaves), before)
    owner = np.full(description.axis.nchan, -1, np.int64)
    mine: tuple[int, ...] = ()
    colour = None
    for number, team in enumerate(teams):
        for block in team.blocks:
            owner[description.blocks[block].start : description.blocks[block].stop] = team.first
        if team.first <= comm.rank < team.stop:
            colour, mine = number, team.blocks
    rounds = max((len(team.blocks) for team in teams), default=0)
    return Assignment(split(comm, colour), [description.blocks[b] for b in mine], owner, rounds, teams)


def work_through(
    comm: Comm, share: Assignment, what: str, work: Callable[[Comm, ChannelBlock], None],
    commit: Callable[[], object], progress: Callable[[int], None],
) -> None:
    """Do ``work`` on each of this rank's blocks, committing about every COMMIT_INTERVAL_S and at the end. Collective.

    How many blocks lie between commits is agreed from the slowest rank's pace, so that all ranks meet there.
    """
    done, stride = 0, 1
    while done < share.rounds:
        began = time.monotonic()
        with all_or_none(comm, what):
            for block in share.blocks[done : done + stride]:
                if share.team is not None:
                    work(share.team, block)
        done += stride
        with timeline.span("commit"):
            commit()
        progress(min(done, share.rounds))
        pace = largest(comm, time.monotonic() - began) / stride
        stride = max(1, int(COMMIT_INTERVAL_S / max(pace, 1e-3)))
