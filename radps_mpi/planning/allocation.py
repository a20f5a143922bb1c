"""From a plan to what is asked of a batch system: partition, nodes, memory and time, with margins and within limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from radps_mpi.errors import UsageError
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.model import NO_CORRECTIONS, Corrections, Prediction
from radps_mpi.planning.resources import CACHE_SHARE, human_bytes
from radps_mpi.planning.scaling import cost_curve, fits, recommended
from radps_mpi.planning.work import Work

_MINUTE_S = 60.0

COMPILING_BYTES = 170e6
"""More than the plan's for a rank that has to compile kernels first, where nobody has yet: measured."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes of one kind that a batch system gives out, and the longest time that it gives them for (inf for any)."""

    name: str
    cores_per_node: int
    memory_per_node_bytes: int
    most_nodes: int
    longest_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Margins:
    """What is asked for beyond the plan: factors of memory and time, the seconds before its end at which a job is told to stop,
    and the shortest time that is asked for."""

    memory: float
    time: float
    stop_before_s: float
    least_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to ask for."""

    pool: Pool
    prediction: Prediction
    memory_per_node_bytes: int
    time_s: float
    """Limit of one job, whole minutes."""
    jobs: int
    """One after the other until all is done: more than 1 where the limit is shorter than the work."""


def allocate(
    work: Work, machine: Machine, pools: Sequence[Pool], margins: Margins, corrections: Corrections = NO_CORRECTIONS, *,
    threads: int = 0,
) -> Allocation:
    """The best job in the first of ``pools`` that lets it finish in one go; where none does, in that with the longest limit.

    Parameters
    ----------
    machine : what its nodes do in a second; cores and memory are the pools'.
    threads : of a rank, where the user has chosen them; 0 for the best.

    Raises
    ------
    UsageError
        If the job fits into the memory of no pool's nodes, or a rank's threads into their cores.
    """
    most_cores = max(pool.cores_per_node for pool in pools)
    if threads > most_cores:
        raise UsageError(f"threads: {threads} of a rank are more than the {most_cores} cores of a node")
    found = [
        a for pool in pools if (a := _in_pool(work, machine, pool, margins, corrections, threads))
    ]
    if not found:
        largest = max(pools, key=lambda pool: pool.memory_per_node_bytes)
        raise UsageError(f"no way to spread the job fits into the memory of a node, at most "
                         f"{human_bytes(largest.memory_per_node_bytes)} ({largest.name}); radps plan shows what it needs")
    in_one_go = [allocation for allocation in found if allocation.jobs == 1]
    return in_one_go[0] if in_one_go else max(found, key=lambda allocation: allocation.pool.longest_s)


def _in_pool(
    work: Work, machine: Machine, pool: Pool, margins: Margins, corrections: Corrections, threads: int
) -> Allocation | None:
    if threads > pool.cores_per_node:
        return None
    node = replace(machine, cores_per_node=pool.cores_per_node, memory_per_node_bytes=pool.memory_per_node_bytes)
    curve = cost_curve(work, node, pool.most_nodes, corrections, threads=threads)
    holding = [p for p in curve if fits(work, p, node)]
    if not holding:
        return None
    best = recommended(work, holding, node)
    told_bytes = work.memory_per_rank_bytes  # what a rank may use it is given
    memory_bytes = max(told_bytes, memory_of_rank_bytes(best, margins)) * best.layout.ranks_per_node
    time_s, jobs = time_of_job_s(best.seconds, pool.longest_s, margins)
    return Allocation(pool, best, min(pool.memory_per_node_bytes, memory_bytes), time_s, jobs)


def memory_of_rank_bytes(prediction: Prediction, margins: Margins) -> int:
    """Memory to ask for: the plan's peak with its margin, at least enough to compile kernels in, and to keep as many
    visibilities between cycles as was planned (a rank gives them a fixed share of what it has)."""
    peak_bytes = prediction.memory.peak_bytes
    with_margin = max(margins.memory * peak_bytes, peak_bytes + COMPILING_BYTES)
    return math.ceil(max(with_margin, prediction.memory.cache_bytes / CACHE_SHARE))


def time_of_job_s(planned_s: float, longest_s: float, margins: Margins) -> tuple[float, int]:
    """(seconds of one job, jobs) for a run that is planned to take ``planned_s`` in all."""
    work_s = margins.time * planned_s
    wanted_s = _MINUTE_S * math.ceil(max(work_s + margins.stop_before_s, margins.least_s) / _MINUTE_S)
    if wanted_s <= longest_s:
        return wanted_s, 1
    limit_s = _MINUTE_S * (longest_s // _MINUTE_S)
    return limit_s, math.ceil(work_s / (limit_s - margins.stop_before_s))
