"""When a major cycle is worked in half blocks: decided by arithmetic on what blocks have taken, the same on all ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from radps_mpi.decomposition import LANES, ChannelBlocks, assign_teams
from radps_mpi.journey.division import Divisions


class Imager:
    """Remembers what it was turned to."""

    def __init__(self) -> None:
        self.blocks: list[Any] = ["something"]
        self.narrow: Imager | None = None

    def of_lanes(self, nlane: int) -> Imager:
        assert nlane == LANES // 2 and self.narrow is None, "made once"
        self.narrow = Imager()
        return self.narrow

    def turn_to(self, blocks: list[Any]) -> None:
        self.blocks = blocks


def divisions(nlane: int = LANES, nleaf: int = 1, nchan: int = 480) -> tuple[Divisions, Imager]:
    imager = Imager()
    description = SimpleNamespace(leaves=(None,) * nleaf, blocks=ChannelBlocks(nchan, nlane), nlane=nlane,
                                  axis=SimpleNamespace(nchan=nchan))  # fmt: skip
    return Divisions(description, imager), imager


def line(first: int, count: int = 30, nchan: int = 480) -> np.ndarray:
    return (np.arange(nchan) >= first) & (np.arange(nchan) < first + count)


@pytest.mark.parametrize(("first", "nrank", "halves"), [
    (232, 1, False), (232, 2, True), (232, 3, False), (232, 4, True), (232, 7, True),
    (224, 2, False), (224, 4, True), (224, 3, False),
])  # fmt: skip
def test_half_blocks_are_taken_where_the_last_rank_is_done_clearly_sooner(first: int, nrank: int, halves: bool) -> None:
    cut, _ = divisions()
    chosen, costs = cut.choose(line(first), nrank)
    assert (chosen is cut.halves) == halves
    worked = [b for b, cost in zip(chosen.blocks, costs, strict=True) if cost > 0]
    assert set(np.flatnonzero(line(first))) <= {chan for b in worked for chan in range(b.start, b.stop)}
    if halves:
        busiest = max(sum(costs[b] for b in team.blocks) for team in assign_teams(costs, nrank, 1))
        full = max(len(team.blocks) for team in assign_teams([float(c > 0) for c in cut.full.costs(line(first))], nrank, 1))
        assert busiest < 0.9 * full


def test_measured_seconds_decide_once_there_are_any() -> None:
    cut, _ = divisions()
    halves, costs = cut.choose(line(232), 2)
    assert halves is cut.halves
    slow = np.where(np.array(costs) > 0, 1.6, 0.0)  # a half that takes longer than a full block is none
    halves.note(slow, [])
    assert cut.choose(line(232), 2)[0] is cut.full


def test_the_choice_stays_where_the_other_is_hardly_better() -> None:
    cut, _ = divisions()
    assert cut.choose(line(232), 2)[0] is cut.halves
    cut.full.note(np.full(30, 1.0), [])
    cut.halves.note(np.full(60, 0.55), [])
    assert cut.choose(line(224), 1)[0] is cut.halves, "2.2 against 2: the visibilities are prepared for halves"
    fresh, _ = divisions()
    fresh.full.note(np.full(30, 1.0), [])
    fresh.halves.note(np.full(60, 0.45), [])
    assert fresh.choose(line(224), 1)[0] is fresh.full, "1.8 against 2: not worth preparing the visibilities again"


def test_blocks_that_are_narrow_already_are_not_cut() -> None:
    cut, _ = divisions(nlane=LANES // 2)
    assert cut.halves is None and cut.choose(line(232), 4)[0] is cut.full


def test_the_imager_that_is_not_at_work_gives_its_memory_back() -> None:
    cut, imager = divisions()
    cut.turn_to(cut.full, [1, 2])
    assert imager.blocks == [1, 2] and imager.narrow is None, "none for halves before they are worked"
    cut.turn_to(cut.halves, [3])
    assert imager.blocks == [] and imager.narrow.blocks == [3]
    cut.turn_to(cut.full, [4])
    assert imager.blocks == [4] and imager.narrow.blocks == []
