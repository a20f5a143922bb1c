"""What is left of a resumed run, predicted for the ranks and nodes that it finds: perhaps others than it began on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from radps_mpi.decomposition import half_width
from radps_mpi.errors import RadpsError
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.imaging.stopping import CyclePlan
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import PENDING
from radps_mpi.journey.describe import Description
from radps_mpi.journey.plan import GUESSED_CYCLES, measured_runs, with_host
from radps_mpi.journey.plan_report import spread
from radps_mpi.journey.workload import work_of
from radps_mpi.parallel import gathered_on_node, on_root, ranks_on_node
from radps_mpi.parallel.stints import WallTime
from radps_mpi.parallel.types import Comm
from radps_mpi.planning import machine as host
from radps_mpi.planning.learning import corrections_from
from radps_mpi.planning.machine_constants import Machine, default_path, read_machine
from radps_mpi.planning.model import FIRST, MAJOR, MINOR, PRODUCTS, Corrections, Layout, Prediction, predict
from radps_mpi.planning.resources import human_bytes
from radps_mpi.planning.scaling import best_on
from radps_mpi.planning.work import Work
from radps_mpi.units import format_duration

WORTH_SAYING = 0.8
"""Of the time of the ranks that were found, what others have to undercut to be spoken of."""


def replan(
    comm: Comm, d: Description, gridder: Gridder, state: Checkpoint, upcoming: CyclePlan | None, limit: WallTime
) -> str:
    """One line: how long what is left should take on these ranks, and on the best ones of these nodes if they are quicker.
    Collective. ``upcoming``: the next minor cycles, None where CLEAN is done."""
    cores = len(set[int]().union(*gathered_on_node(comm, host.cores_allowed())))  # a rank may be bound to one of them
    machine, corrections, source = on_root(comm, "reading the machine file", lambda: _constants(state, cores))
    nodes = -(-comm.size // ranks_on_node(comm))
    layout = Layout(comm.size, d.config.parallel.threads, nodes)
    work, first_share = work_left(d, gridder, state, upcoming)
    found = predict(work, machine, layout, corrections, resumed=True)
    left_s, parts = _left(found, first_share)
    memory = human_bytes(found.memory.peak_bytes)
    text = f"plan: some {format_duration(left_s)} more on {spread(layout)} ({parts}; {source}), {memory} of memory per rank"
    best = best_on(work, machine, nodes, corrections, resumed=True)
    best_s, _ = _left(best, first_share)
    if best_s < WORTH_SAYING * left_s:
        text += f"; {spread(best.layout)} would take {format_duration(best_s)}"
    if left_s > (time_s := limit.remaining_s()):
        text += f"; this job has {format_duration(max(0.0, time_s))}, then the next one goes on"
    return text


def work_left(d: Description, gridder: Gridder, state: Checkpoint, upcoming: CyclePlan | None) -> tuple[Work, float]:
    """The work of the cycles that are likely to come, and the share of channels without first images. How many cycles only the
    sky knows: as many as a plan guesses, less those that are done, one at least."""
    table, clean = state.table, d.config.deconvolution
    pending = table["status"] == PENDING
    active = pending if upcoming is None else upcoming.active | pending
    done = int((state.header.get("control") or {"cycle": 0})["cycle"])
    cycles = max(1, GUESSED_CYCLES - done)
    if clean.nmajor >= 0:
        cycles = min(cycles, clean.nmajor - done)
    if clean.niter == 0 or not active.any() or cycles < 1:
        cycles, active = 0, np.zeros_like(active)
    line = np.flatnonzero(active)
    so_far = int(table["iterations"].sum())
    iterations = so_far * cycles // done if done else clean.niter * (len(line) if clean.control == "plane" else 1)
    masks = table["mask_pixels"][~pending]
    work = work_of(
        d, gridder, line_channels=len(line), line_blocks=len(np.unique(line // d.nlane)),
        line_halves=len(np.unique(line // half_width(d.nlane))), mask_pixels=int(np.median(masks)) if masks.size else 0,
        iterations=iterations if cycles else 0, cycles=cycles,
    )  # fmt: skip
    return work, float(pending.mean())


def _left(prediction: Prediction, first_share: float) -> tuple[float, str]:
    """Seconds from now on, in all and in words."""
    shares = {FIRST: first_share, MINOR: 1.0, MAJOR: 1.0, PRODUCTS: 1.0}
    seconds = {name: share * prediction.part(name).seconds for name, share in shares.items()}
    parts = ", ".join(f"{name} {format_duration(spent)}" for name, spent in seconds.items() if spent > 0.0)
    return sum(seconds.values()), parts


def _constants(state: Checkpoint, cores: int) -> tuple[Machine, Corrections, str]:
    """The machine's constants, its nodes with ``cores`` where the file doesn't say, what finished runs of the name teach, and
    where the first are from. News, not state: files that can't be read end no run."""
    machine, source, runs = Machine(), "built-in constants", []
    try:
        if (path := default_path()).exists():
            machine, source = read_machine(path), f"constants of {path}"
        runs = measured_runs(state.directory)
    except (RadpsError, OSError) as error:
        source += f"; {error}"
    here = with_host(replace(machine, cores_per_node=machine.cores_per_node or cores))
    return here, corrections_from(runs, here), source
