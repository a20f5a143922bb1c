"""Which ranks, threads and nodes to take, what more of them give, and what holds a very large job up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.model import NO_CORRECTIONS, Corrections, Layout, Prediction, predict
from radps_mpi.planning.work import Work

WORTH_PAYING = 1.5
"""Core-hours that a quicker job may cost, in units of the cheapest one's."""

_SMALL_BLOCK = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to cut the work, and what it would take."""

    name: str
    prediction: Prediction


def fits(work: Work, prediction: Prediction, machine: Machine) -> bool:
    """Does every node hold its ranks, and what each is given where the user says so?"""
    return _of_node_bytes(work, prediction) <= machine.memory_per_node_bytes


def _of_node_bytes(work: Work, prediction: Prediction) -> float:
    return max(prediction.memory.peak_bytes, work.memory_per_rank_bytes) * prediction.layout.ranks_per_node


def best_on(
    work: Work, machine: Machine, nodes: int, corrections: Corrections = NO_CORRECTIONS, *, threads: int = 0,
    resumed: bool = False,
) -> Prediction:
    """The quickest job on so many nodes, whole ones: ranks and threads share out the cores. Of jobs that fit into memory; where
    none does, the one that needs least. ``threads`` of a rank, at most the cores, where they are chosen already; ``resumed`` as
    of :func:`~radps_mpi.planning.model.predict`."""
    cores = machine.cores_per_node
    most = cores // max(1, threads)
    per_node = sorted({max(1, most >> k) for k in range(most.bit_length())}, reverse=True)
    layouts = [Layout(ranks * nodes, threads or cores // ranks, nodes) for ranks in per_node]
    made = [predict(work, machine, layout, corrections, resumed=resumed) for layout in layouts]
    fitting = [p for p in made if fits(work, p, machine)]
    if not fitting:
        return min(made, key=lambda p: _of_node_bytes(work, p))
    return min(fitting, key=lambda p: p.seconds)


def cost_curve(
    work: Work, machine: Machine, most_nodes: int, corrections: Corrections = NO_CORRECTIONS, *, threads: int = 0
) -> list[Prediction]:
    """The best job on 1, 2, 4, ... cores of one node, where it fits into their part of the memory, on 1, 2, 4, ... whole nodes,
    and on ``most_nodes``; ``threads`` as of :func:`best_on`."""
    cores = machine.cores_per_node
    parts = [_part_of_node(machine, 1 << k) for k in range(cores.bit_length()) if threads <= 1 << k < cores]
    on_parts = [(best_on(work, part, 1, corrections, threads=threads), part) for part in parts]
    whole = [best_on(work, machine, nodes, corrections, threads=threads) for nodes in rank_counts(most_nodes)]
    return [*(prediction for prediction, part in on_parts if fits(work, prediction, part)), *whole]


def _part_of_node(machine: Machine, cores: int) -> Machine:
    """Some cores of a node as if they were one, with as large a part of its memory."""
    memory = machine.memory_per_node_bytes * cores // machine.cores_per_node
    return replace(machine, cores_per_node=cores, memory_per_node_bytes=memory)


def recommended(work: Work, curve: Sequence[Prediction], machine: Machine) -> Prediction:
    """Of a cost curve the quickest job that fits and costs at most WORTH_PAYING times the cheapest."""
    choice = [p for p in curve if fits(work, p, machine)] or list(curve)
    cheapest = min(p.core_hours for p in choice)
    return min((p for p in choice if p.core_hours <= WORTH_PAYING * cheapest), key=lambda p: p.seconds)


def rank_counts(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return sorted({min(1 << k, most) for k in range(most.bit_length() + 1)})


def _one_per_core(work: Work, machine: Machine, ranks: int, corrections: Corrections) -> Prediction:
    return predict(work, machine, Layout(ranks, 1, -(-ranks // machine.cores_per_node)), corrections)


def strong_scaling(
    work: Work, machine: Machine, most_ranks: int, corrections: Corrections = NO_CORRECTIONS
) -> list[Prediction]:
    """The whole work on more and more ranks, one per core."""
    return [_one_per_core(work, machine, ranks, corrections) for ranks in rank_counts(most_ranks)]


def weak_scaling(
    work: Work, machine: Machine, most_ranks: int, corrections: Corrections = NO_CORRECTIONS
) -> list[Prediction]:
    """As many channels per rank as the work has on ``most_ranks``, on more and more ranks."""
    return [
        _one_per_core(of_channels(work, max(1, work.channels * ranks // most_ranks)), machine, ranks, corrections)
        for ranks in rank_counts(most_ranks)
    ]


def of_channels(work: Work, channels: int) -> Work:
    """The same observation and image with fewer channels, everything that goes by channel scaled along."""
    share = channels / work.channels
    line = max(1, round(share * work.line_channels)) if work.cycles else 0
    scaled = {
        name: round(share * getattr(work, name))
        for name in ("store_bytes", "state_bytes", "product_bytes", "iterations", "native_channels")
    }
    blocks, halves = (-(-line // width) for width in (work.block_channels, work.half_channels))
    return replace(work, channels=channels, line_channels=line, line_blocks=blocks, line_halves=halves, **scaled)


def of_blocks(work: Work, channels: int) -> Work:
    """The same work cut into blocks of so many channels."""
    return work.in_blocks_of(channels, -(-work.line_channels // channels))


def variants(work: Work, machine: Machine, ranks: int, corrections: Corrections = NO_CORRECTIONS) -> list[Variant]:
    """What other ways to cut the work give on so many ranks: the first is the program's own."""
    groups = max(1, min(64, -(-work.rows // work.row_chunk)))
    small = min(_SMALL_BLOCK, work.block_channels)
    cuts = {
        "as it is": work,
        f"blocks of {small} channels": of_blocks(work, small),
        "blocks of 1 channel": of_blocks(work, 1),
        f"{groups} row groups": replace(work, groups=groups),
        f"blocks of {small} channels, {groups} row groups": replace(of_blocks(work, small), groups=groups),
    }
    made = [Variant(name, _one_per_core(cut, machine, ranks, corrections)) for name, cut in cuts.items()]
    layout = Layout(ranks, 1, -(-ranks // machine.cores_per_node))
    by_block = predict(work, machine, layout, corrections, minor_by_block=True)
    return [made[0], Variant("minor cycles by block, not by channel", by_block), *made[1:]]
