"""What is asked of a batch system: margins, limits, and which partition a job goes to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.planned_work import work

from radps_mpi.errors import UsageError
from radps_mpi.planning.allocation import COMPILING_BYTES, Margins, Pool, allocate, memory_of_rank_bytes, time_of_job_s
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.memory import RankMemory
from radps_mpi.planning.model import Layout, predict

GB = 10**9
MARGINS = Margins(memory=1.25, time=1.5, stop_before_s=300.0)
SHORT = Pool("short", 64, 512 * GB, 4, 2 * 3600.0)
LONG = Pool("long", 64, 512 * GB, 2, 24 * 3600.0)
SMALL = work(channels=16, ny=64, nx=64, rows=500, cycles=0, iterations=0, line_channels=0, line_blocks=0)
SLOW = Machine(grid_ns_per_tap=100.0, degrid_ns_per_tap=100.0)
"""A thousand times slower at gridding than what is built in."""


def test_a_larger_job_is_given_more_cores_memory_and_time() -> None:
    small, large = (allocate(w, SLOW, [LONG], MARGINS) for w in (SMALL, work(rows=500_000)))
    assert small.prediction.cores < large.prediction.cores
    assert small.memory_per_node_bytes < large.memory_per_node_bytes
    assert small.time_s < large.time_s


def test_time_is_the_plan_with_its_margin_and_the_time_to_stop_in_whole_minutes() -> None:
    assert time_of_job_s(1000.0, math.inf, MARGINS) == (1800.0, 1)
    assert time_of_job_s(1001.0, math.inf, MARGINS) == (1860.0, 1)


def test_a_job_that_is_longer_than_the_limit_is_one_of_several() -> None:
    assert time_of_job_s(7200.0, 3600.0, MARGINS) == (3600.0, math.ceil(10_800 / 3300))
    assert time_of_job_s(2201.0, 3630.0, MARGINS) == (3600.0, 2)


def test_no_shorter_time_is_asked_for_than_the_least_unless_the_limit_is_shorter() -> None:
    patient = replace(MARGINS, least_s=1200.0)
    assert time_of_job_s(1.0, math.inf, patient) == (1200.0, 1)
    assert time_of_job_s(1000.0, math.inf, patient) == (1800.0, 1)
    assert time_of_job_s(1.0, 600.0, patient) == (600.0, 1)


def test_memory_has_its_margin_and_keeps_the_visibilities_that_the_plan_keeps() -> None:
    prediction = predict(work(), replace(Machine(), cores_per_node=64, memory_per_node_bytes=GB), Layout(1))
    lean, caching = (replace(prediction, memory=RankMemory(GB / 4, kept, {"residual": kept + GB / 4})) for kept in (0, GB))
    assert memory_of_rank_bytes(lean, MARGINS) == GB / 2 + COMPILING_BYTES
    assert memory_of_rank_bytes(lean, replace(MARGINS, memory=2.0)) == GB
    assert memory_of_rank_bytes(caching, MARGINS) == 4 * GB  # a quarter of a rank's memory is for visibilities


def test_memory_that_is_asked_for_gives_the_cache_that_was_planned() -> None:
    asked = allocate(work(), Machine(), [LONG], MARGINS)
    ranks = asked.prediction.layout.ranks_per_node
    node = replace(Machine(), cores_per_node=64, memory_per_node_bytes=asked.memory_per_node_bytes)
    again = predict(work(), node, replace(asked.prediction.layout, ranks=ranks, nodes=1))
    assert again.memory.cache_bytes == pytest.approx(asked.prediction.memory.cache_bytes, rel=1e-6)
    assert MARGINS.memory * again.memory.peak_bytes * ranks <= asked.memory_per_node_bytes * 1.000001


def test_the_first_partition_in_which_a_job_ends_in_one_go_is_taken() -> None:
    assert allocate(SMALL, Machine(), [SHORT, LONG], MARGINS).pool is SHORT
    assert allocate(work(rows=10_000_000), SLOW, [SHORT, LONG], MARGINS).pool is LONG


def test_a_job_longer_than_any_limit_goes_where_the_limit_is_longest() -> None:
    endless = allocate(work(rows=10_000_000), replace(SLOW, grid_ns_per_tap=1e4), [SHORT, LONG, SHORT], MARGINS)
    assert endless.pool is LONG and endless.time_s == LONG.longest_s and endless.jobs > 1


def test_a_partition_whose_nodes_are_too_small_is_passed_by() -> None:
    tiny = Pool("tiny", 8, GB // 4, 1)
    assert allocate(SMALL, Machine(), [tiny, LONG], MARGINS).pool is LONG
    with pytest.raises(UsageError, match=r"fits into the memory of a node, at most 250.0 MB \(tiny\)"):
        allocate(SMALL, Machine(), [tiny], MARGINS)


def test_never_more_than_a_node_has_is_asked_for() -> None:
    needs = memory_of_rank_bytes(allocate(SMALL, Machine(), [LONG], MARGINS).prediction, MARGINS)
    tight = Pool("tight", 1, int(needs / 1.1), 1)
    assert allocate(SMALL, Machine(), [tight], MARGINS).memory_per_node_bytes == tight.memory_per_node_bytes


def test_what_the_user_chose_for_a_rank_is_kept() -> None:
    asked = allocate(replace(SMALL, memory_per_rank_bytes=20 * GB), Machine(), [LONG], MARGINS, threads=2)
    assert asked.prediction.layout.threads == 2
    assert asked.memory_per_node_bytes == 20 * GB * asked.prediction.layout.ranks
    with pytest.raises(UsageError, match="threads: 65 of a rank are more than the 64 cores of a node"):
        allocate(SMALL, Machine(), [LONG], MARGINS, threads=65)
    with pytest.raises(UsageError, match="fits into the memory"):
        allocate(replace(SMALL, memory_per_rank_bytes=513 * GB), Machine(), [LONG], MARGINS)
