"""``radps plan``: from metadata and parameters to what a run will take, how to spread it, and what was guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from radps_mpi.config import RunConfig
from radps_mpi.decomposition import half_width
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io.run_status import SUFFIX as RUN_SUFFIX
from radps_mpi.io.run_status import read_provenance
from radps_mpi.journey.blocks import gridder_of
from radps_mpi.journey.describe import Description, Observations, describe
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.plan_inputs import Imagined, ImaginedObservations, observations_of, propose_pixels
from radps_mpi.journey.provenance import IMAGING
from radps_mpi.journey.workload import work_of
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm
from radps_mpi.planning import machine as host
from radps_mpi.planning import scaling
from radps_mpi.planning.fitting import MeasuredRun
from radps_mpi.planning.learning import corrections_from
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.model import Corrections, Layout, Prediction
from radps_mpi.planning.resources import human_bytes
from radps_mpi.planning.work import Work

GUESSED_CYCLES = 3
"""Major cycles of a CLEAN about which nothing is known."""

NAME = "plan"
"""Imagename of a plan that isn't given one."""

_MOST = 1e18
"""Of a run's seconds, ranks or bytes: beyond it something is damaged."""


@dataclass(frozen=True, slots=True)
class Request:
    """What ``radps plan`` is asked, beside parameters of images: None where the data or a guess decide."""

    most_nodes: int
    imagined: Imagined | None = None
    line_channels: int | None = None
    cycles: int | None = None
    scaling_ranks: int = 0
    """Predict strong and weak scaling to so many; 0 for not."""
    measured: tuple[str, ...] = ()
    """Run directories to learn from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is said of a planned run."""

    config: RunConfig
    proposed: dict[str, Any]
    """Parameters that were left out, and what they would be."""
    channels_hz: tuple[float, float]
    visibilities_per_channel: float
    """Rows x parallel hands of the median channel, without flagged ones where that is known."""
    work: Work
    machine: Machine
    corrections: Corrections
    learned_from: tuple[str, ...]
    curve: tuple[Prediction, ...]
    best: Prediction
    strong: tuple[Prediction, ...]
    weak: tuple[Prediction, ...]
    variants: tuple[scaling.Variant, ...]
    notes: tuple[str, ...]


def make_plan(
    comm: Comm, flat: Mapping[str, Any], labels: Mapping[str, str], request: Request, machine: Machine
) -> Plan:
    """Plan a run; collective. Reads metadata only and writes nothing.

    Parameters
    ----------
    flat, labels : parameters by name, as :meth:`RunConfig.from_flat` takes them; ``imagename``, ``cell`` and ``imsize`` may be
        missing.
    machine : its cores and memory per node are this machine's where they are 0.

    Raises
    ------
    UsageError, DataError
        Whatever ``radps image`` would refuse.
    """
    observations: Observations = (
        ImaginedObservations(request.imagined) if request.imagined else observations_of(comm, flat, labels)
    )
    proposed = propose_pixels(observations.observations, flat)
    config = RunConfig.from_flat({"imagename": NAME, **flat, **proposed}, labels)
    with all_or_none(comm, "planning the image"):
        description = describe(config, observations)
    runs = on_root(comm, "looking for earlier runs", lambda: _runs_to_learn_from(config, request))
    work, notes = _work(comm, description, request, [run for _, run in runs])
    here = with_host(machine)
    corrections = corrections_from([run for _, run in runs], here)
    notes += _of_other_processors(runs, here)
    threads = config.parallel.threads if "threads" in flat else 0
    if threads > here.cores_per_node:
        raise UsageError(f"threads: {threads} of a rank are more than the {here.cores_per_node} cores of a node")
    curve = scaling.cost_curve(work, here, request.most_nodes, corrections, threads=threads)
    best = scaling.recommended(work, curve, here)
    if not scaling.fits(work, best, here):
        each = f", {human_bytes(work.memory_per_rank_bytes)} for each rank," if work.memory_per_rank_bytes else ""
        notes.append(f"warning: no way to spread the job{each} fits into the memory of these nodes")
    ranks = request.scaling_ranks
    freq_hz = description.axis.freq_hz
    return Plan(
        config, proposed, (float(freq_hz.min()), float(freq_hz.max())), _visibilities_per_channel(description), work, here,
        corrections, tuple(name for name, _ in runs), tuple(curve), best,
        tuple(scaling.strong_scaling(work, here, ranks, corrections)) if ranks else (),
        tuple(scaling.weak_scaling(work, here, ranks, corrections)) if ranks else (),
        tuple(scaling.variants(work, here, ranks, corrections)) if ranks else (), (*notes, *description.notes),
    )


def with_host(machine: Machine) -> Machine:
    """With this machine's cores, memory and processor where the file doesn't say."""
    installed, available = host.memory_of_host_bytes()
    limits = [limit for limit in (available or installed, *host.memory_limits_bytes().values()) if limit]
    return replace(
        machine, cores_per_node=machine.cores_per_node or len(host.cores_allowed()),
        memory_per_node_bytes=machine.memory_per_node_bytes or min(limits, default=1 << 30),
        processor=machine.processor or host.cpu_model(),
    )


def _of_other_processors(runs: Sequence[tuple[str, MeasuredRun]], machine: Machine) -> list[str]:
    """A note where times of measured runs aren't used."""
    others = sorted({run.processor or "an unknown one" for _, run in runs if run.processor != machine.processor})
    if not others:
        return []
    return [f"times measured on another processor ({', '.join(others)}) aren't used, their memory is: the plan is for "
            f"{machine.processor} (processor in the machine file says for which)"]


def _visibilities_per_channel(d: Description) -> float:
    hands = [sorted({o.hands.first, o.hands.second}) for o in d.observations]
    good = [o.meta.samples[:, which].sum(axis=1) for o, which in zip(d.observations, hands, strict=True)]
    return float(sum(np.median(counts) for counts in good))


def _work(comm: Comm, d: Description, request: Request, runs: Sequence[MeasuredRun]) -> tuple[Work, list[str]]:
    """The work, and what of it is a guess."""
    clean, nchan = d.config.deconvolution, d.axis.nchan
    mask_pixels = int(np.count_nonzero(MaskSource(comm, d).of(nchan // 2)))
    if clean.niter == 0 or clean.nmajor == 0:
        return work_of(
            d, gridder_of(d), line_channels=0, line_blocks=0, line_halves=0, mask_pixels=mask_pixels, iterations=0, cycles=0
        ), []
    notes: list[str] = []
    alike = [run.work for run in runs if (run.work.channels, run.work.cycles > 0) == (nchan, True)]
    line, cycles, iterations = request.line_channels, request.cycles, clean.niter
    if alike and line is None and cycles is None:
        known = alike[-1]
        line, cycles, blocks, halves = known.line_channels, known.cycles, known.line_blocks, known.line_halves
        # niter bounds each channel (control plane), or is looked at between cycles (global): every channel may take as many
        iterations = min(iterations * line, known.iterations)
        notes.append(f"as the measured run: {iterations} iterations in {line} channels, {cycles} major cycles")
    else:
        if cycles is None:
            cycles = GUESSED_CYCLES if clean.nmajor < 0 else min(GUESSED_CYCLES, clean.nmajor)
            notes.append(f"a guess: {cycles} major cycles (--cycles says how many)")
        if line is None:
            line = nchan
            notes.append("as if CLEAN worked on every channel (--line-channels says on how many)")
        if not 1 <= line <= nchan:
            raise UsageError(f"--line-channels: {line} is outside 1 to {nchan}, the channels of the image")
        notes.append("as if niter were reached and no more: it is looked at between cycles, and a threshold may stop before")
        blocks, halves = (-(-line // width) for width in (d.nlane, half_width(d.nlane)))
        iterations *= line if clean.control == "plane" else 1
    return work_of(
        d, gridder_of(d), line_channels=line, line_blocks=blocks, line_halves=halves, mask_pixels=mask_pixels,
        iterations=iterations, cycles=cycles,
    ), notes


def _runs_to_learn_from(config: RunConfig, request: Request) -> list[tuple[str, MeasuredRun]]:
    """Measured runs of the directories named and of the imagename, if there is one."""
    own = config.output.imagename + RUN_SUFFIX
    found = []
    for name in request.measured:
        if not Path(name).is_dir():
            raise UsageError(f"{name}: no such run directory")
        runs = measured_runs(Path(name))
        if not runs:
            raise DataError(f"{name}: holds no measured run: no job of it went from beginning to end in one go, "
                            "or another version measured it")
        found += [(name, run) for run in runs]
    if own not in {name.rstrip("/") for name in request.measured} and Path(own).is_dir():
        found += [(own, run) for run in measured_runs(Path(own))]
    return found


def measured_runs(root: Path) -> list[MeasuredRun]:
    """The runs of a run directory that went from beginning to end in one job, and are described as this version does."""
    runs, begun, processor = [], "", ""
    for event in read_provenance(root):
        if not isinstance(event, dict):
            continue  # damaged: of what it says nothing more is known
        entry = event.get("measured") if event.get("event") == "finished" and begun == "started" else None
        if event.get("event") != IMAGING:
            begun = str(event.get("event"))
        if event.get("event") == "started":
            processor = str(event.get("processor", ""))
        if isinstance(entry, dict):
            try:
                runs.append(replace(run_of_entry(entry), processor=processor))
            except (DataError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
                continue  # another version's, or damaged
    return runs


def run_of_entry(entry: Mapping[str, Any], span_seconds: Mapping[str, float] | None = None) -> MeasuredRun:
    """The ``measured`` entry of provenance.json. DataError, or what Python says of nonsense, if it isn't one."""
    layout = Layout(int(entry["ranks"]), int(entry["threads"]), int(entry["nodes"]))
    seconds = {str(name): float(spent) for name, spent in entry["seconds"].items()}
    memory_bytes = int(entry["peak_memory_bytes"])
    counts = (layout.ranks, layout.threads, layout.nodes, memory_bytes)
    if not all(1 <= n <= _MOST for n in counts) or not all(0.0 <= s <= _MOST for s in seconds.values()):
        raise DataError("a measured run took what no run takes")
    return MeasuredRun(Work.from_dict(entry["work"]), layout, seconds, span_seconds or {}, memory_bytes)
