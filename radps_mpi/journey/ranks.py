"""Which rank has which blocks in this part of the run, and a loop over them that commits on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi import alarm, timeline
from radps_mpi.decomposition import ChannelBlock, ChosenBlocks, Team, settle_teams
from radps_mpi.journey.describe import Description
from radps_mpi.parallel import all_or_none, any_rank, split
from radps_mpi.parallel.stints import WallTime, work_in_stints
from radps_mpi.parallel.types import Comm


@dataclass(slots=True)
class Assignment:
    """This rank's share: its blocks, and the team it works them with (itself alone, or several ranks on one block).

    ``team`` is None for a rank without work. ``owner`` (nchan,) is the rank that holds each channel's images, -1 where its
    block is not being worked on.
    """

    team: Comm | None
    blocks: Sequence[ChannelBlock]
    owner: NDArray[np.int32]
    rounds: int
    """Largest number of blocks of any rank."""
    teams: list[Team]
    """Everybody's."""

    def free(self) -> None:
        """Give the team's communicator back."""
        if self.team is not None:
            self.team.Free()
            self.team = None


def assign(
    comm: Comm, description: Description, blocks: Sequence[ChannelBlock], costs: Sequence[float], before: Sequence[Team] = ()
) -> Assignment:
    """Share the ``blocks`` with cost > 0 among the ranks, as ``before`` if that is nearly as good. Collective; the same
    arithmetic on all ranks, so ``costs`` must be the same on all."""
    teams = settle_teams(costs, comm.size, len(description.leaves), before)
    owner = np.full(description.axis.nchan, -1, np.int32)
    mine: tuple[int, ...] = ()
    colour = None
    for number, team in enumerate(teams):
        for block in team.blocks:
            owner[blocks[block].start : blocks[block].stop] = team.first
        if team.first <= comm.rank < team.stop:
            colour, mine = number, team.blocks
    rounds = max((len(team.blocks) for team in teams), default=0)
    return Assignment(split(comm, colour), ChosenBlocks(blocks, mine), owner, rounds, teams)


def work_through(
    limit: WallTime, share: Assignment, what: str, work: Callable[[Comm, ChannelBlock], None],
    commit: Callable[[], object], progress: Callable[[int], None],
) -> None:
    """Do ``work`` on each of this rank's blocks, committing on the way and at the end. Collective.

    Raises
    ------
    OutOfTimeError
        On all ranks when the job is to stop; the blocks that are finished are committed.
    """
    team, blocks = share.team, share.blocks

    def step(number: int) -> None:
        if team is not None and number < len(blocks):
            with all_or_none(team, what):  # else the team would wait for one that failed alone, in the question below
                work(team, blocks[number])

    def stopping() -> bool:
        asked = bool(alarm.asked())
        return asked if team is None else any_rank(team, asked)

    def timed_commit() -> None:
        with timeline.span("commit"):
            commit()

    work_in_stints(limit, share.rounds, what, step, timed_commit, progress, stopping=stopping)
