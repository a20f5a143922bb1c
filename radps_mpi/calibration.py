"""``radps plan --calibrate``: measures the constants of this machine by what the program itself does with simulated data.

Small jobs run from beginning to end with the timeline on, and the constants are fitted to its spans; so they hold what kernels
cost where they are used, with the other ranks of the node beside them. Disk, memory and network are measured apart.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from radps_mpi.config import RunConfig
from radps_mpi.constants import MJD_OF_UNIX_EPOCH_S
from radps_mpi.decomposition import FACTOR_BLOCK, LANES
from radps_mpi.errors import StorageError, printable
from radps_mpi.io.durable import naming
from radps_mpi.io.run_status import now_text, read_provenance
from radps_mpi.journey.plan import run_of_entry, with_host
from radps_mpi.parallel import largest, on_root, ranks_on_node
from radps_mpi.parallel.types import Comm
from radps_mpi.planning import machine as host
from radps_mpi.planning.fitting import MeasuredRun, fit_fixed, fit_machine, fit_rows, quickest
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.simulation.config import SimulationConfig
from radps_mpi.streams import tell

_REPEATS = 3
_MB = 1 << 20
_DISK_MB, _DISK_ENOUGH_S = 1024, 10.0
_SKY = '[[component]]\noffset = ["2arcsec", "-1arcsec"]\nflux = "1Jy"\n'

_TINY, _DATA, _ROWS = (8, 8, 3), (32, 43, 24), (4, 43, 100)
"""Channels (more for several ranks), antennas, integrations. The last has next to no data but many rows: what they cost is the
difference of two jobs, and has to be more than the noise of either."""

_NOT_ALONE = "start-up, fixed costs and an idle rank's memory are built-in values, since a job of one rank failed"

_ROUNDS = 3
"""Of fitting what is computed and what is fixed in turn: each needs the other."""

_OF_THE_JOB = (
    "PMIX_", "OMPI_", "PRTE_", "PMI_", "MPI4PY_RC", "SLURM_STEP", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID",
    "SLURM_TASK_PID",
)
"""Variables by which a process belongs to an MPI job, or to the step of a batch job that started its ranks: a job of its own
would miss the others. What the batch job has of memory and time stays."""


def calibrate(comm: Comm, folder: Path) -> Machine:
    """Measure this machine; collective. Scratch data lie in ``folder``, whose disk is measured, and are removed.

    Raises
    ------
    StorageError
        If the folder can't be written.
    """
    scratch = Path(on_root(comm, f"making scratch space in {folder}", lambda: _scratch(folder)))
    try:
        with _ended_by_signals():
            processor = host.cpu_model()
            machine = Machine(calibrated=f"{now_text()} on {processor}, {comm.size} ranks", processor=processor)
            measured = _disk(comm, scratch) | _network(comm) | _frames(comm)
            machine = replace(machine, memory_bytes_s=_memory_bytes_s(comm), **measured)
            machine = _measure_runs(comm, scratch, machine)
        comm.Barrier()  # nobody is at work on the files any more
        return machine
    finally:
        if comm.rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, with which a launcher ends its ranks, raises: scratch data, a gigabyte of them, aren't left behind."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _scratch(folder: Path) -> str:
    try:
        return tempfile.mkdtemp(prefix="radps-calibration-", dir=folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror} while making scratch space for the calibration") from error


# Memory, disk, network -----------------------------------------------------------------------------------------------


def _memory_bytes_s(comm: Comm) -> float:
    """What all ranks of a node move together, copying at once: read and written."""
    source, target = np.ones(8 * _MB), np.zeros(8 * _MB)
    quickest_s = float("inf")
    for _ in range(8):
        comm.Barrier()
        began = time.perf_counter()
        np.copyto(target, source)
        quickest_s = min(quickest_s, float(largest(comm, time.perf_counter() - began)))
    return ranks_on_node(comm) * 2 * source.nbytes / quickest_s


def _disk(comm: Comm, scratch: Path) -> dict[str, Any]:
    """One rank writes, flushes, and reads what the system has been told to forget: the quickest of some times, since the first
    also pays for memory that the system has to find; of one where that takes long, since a slow disk hides it."""
    data, path = np.random.default_rng(1).bytes(_MB), scratch / "disk"

    def measure() -> tuple[float, float]:
        with open(path, "wb", buffering=0) as file:
            began = time.perf_counter()
            for _ in range(_DISK_MB):
                file.write(data)
            os.fsync(file.fileno())
            write_s = time.perf_counter() - began
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            while file.read(8 * _MB):
                pass
        read_s = time.perf_counter() - began
        path.unlink()
        return write_s, read_s

    def quickest_times() -> dict[str, Any]:
        with naming(scratch, "measuring the disk", _DISK_MB * _MB):
            times = [measure()]
            while len(times) < _REPEATS and sum(map(sum, times)) < _DISK_ENOUGH_S:
                times.append(measure())
            write_s, read_s = np.min(times, axis=0).tolist()
        return {"disk_write_bytes_s": _DISK_MB * _MB / write_s, "disk_read_bytes_s": _DISK_MB * _MB / read_s}

    rates: dict[str, Any] = on_root(comm, f"measuring the disk of {scratch}", quickest_times)
    return rates


def _frames(comm: Comm) -> dict[str, Any]:
    """A block of integrations, by casacore's measures, which every set that is ingested asks for."""

    def measure() -> dict[str, Any]:
        from radps_mpi.io.measurement_set_frames import frame_factors, observatory_itrf_m

        times_s = MJD_OF_UNIX_EPOCH_S + 30.0 * np.arange(FACTOR_BLOCK, dtype=np.float64)
        place, quickest_s = observatory_itrf_m("ALMA", np.zeros(3)), float("inf")
        for _ in range(_REPEATS):
            began = time.perf_counter()
            frame_factors(
                times_s, time_scale="UTC", frame="TOPO", direction_rad=(1.0, -0.5), direction_frame="J2000",
                observatory_m=place,
            )  # fmt: skip
            quickest_s = min(quickest_s, time.perf_counter() - began)
        return {"frames_us_per_time": 1e6 * quickest_s / FACTOR_BLOCK}

    measured: dict[str, Any] = on_root(comm, "measuring conversions between frames", measure)
    return measured


def _network(comm: Comm) -> dict[str, Any]:
    """Between the first rank and the last; nothing where there is one."""
    if comm.size == 1:
        return {}
    small_s, large_s = (_ping_pong(comm, np.zeros(size, np.uint8), times) for size, times in ((8, 200), (32 * _MB, 4)))
    return {"network_latency_us": 1e6 * small_s, "network_bytes_s": 32 * _MB / large_s}


def _ping_pong(comm: Comm, message: Any, times: int) -> float:
    """Seconds of one message one way."""
    last = comm.size - 1
    comm.Barrier()
    began = time.perf_counter()
    for _ in range(times):
        if comm.rank == 0:
            comm.Send(message, dest=last)
            comm.Recv(message, source=last)
        elif comm.rank == last:
            comm.Recv(message, source=0)
            comm.Send(message, dest=0)
    return float(comm.bcast((time.perf_counter() - began) / (2 * times), root=0))


# Runs ----------------------------------------------------------------------------------------------------------------


def _measure_runs(comm: Comm, scratch: Path, machine: Machine) -> Machine:
    """The rest, from jobs of several sizes, and from jobs with next to no data for what every job costs anyhow."""
    nchan = LANES * comm.size  # a block for every rank, so that all are at work beside each other
    tiny = _simulated(comm, scratch / "tiny", _TINY)
    data = _simulated(comm, scratch / "data", (max(_DATA[0], nchan), *_DATA[1:]))
    rows = _simulated(comm, scratch / "rows", _ROWS)
    jobs: tuple[tuple[Path, dict[str, Any]], ...] = (
        (data[1], {"imsize": 256, "weighting": "briggs", "niter": 6000}),
        (data[0], {"imsize": 768, "nchan": nchan, "weighting": "briggs", "niter": 1000, "nmajor": 1}),
        (data[0], {"imsize": 384, "niter": 40_000, "mask": ("circle[[192pix,192pix],20pix]",)}),
        (data[0], {"imsize": 256, "specmode": "mfs"}),
    )
    runs = [quickest([_run(comm, scratch, path, parameters) for _ in range(_REPEATS)]) for path, parameters in jobs]
    alone, why_not = on_root(
        comm, "measuring jobs of one rank", lambda: _jobs_of_one_rank(scratch, (*tiny, rows[1]))
    )
    here = with_host(machine)
    for _ in range(_ROUNDS):
        here = fit_machine(here, runs)
        if alone:
            from_store, from_set, of_rows = alone
            here = fit_rows(fit_fixed(here, from_store, from_set), of_rows)
    if why_not:
        here = replace(here, calibrated=f"{here.calibrated}; {_NOT_ALONE}: {why_not}")
        if comm.rank == 0:
            tell(f"radps: warning: {_NOT_ALONE}: {why_not}\n")
    return replace(here, cores_per_node=0, memory_per_node_bytes=0)


def _simulated(comm: Comm, stem: Path, shape: tuple[int, int, int]) -> tuple[Path, Path]:
    """(visibility store, MeasurementSet) of a point source: channels, antennas, integrations."""
    from radps_mpi.io.simulation_outputs import simulate

    sky, store, table = stem.with_suffix(".toml"), Path(f"{stem}.vis.h5"), Path(f"{stem}.ms")
    on_root(comm, f"writing {sky}", lambda: sky.write_text(_SKY, encoding="utf-8"))
    nchan, nantenna, nintegration = shape
    given = {"nchan": nchan, "nantenna": nantenna, "nintegration": nintegration, "noise": "50mJy"}
    simulate(comm, SimulationConfig.from_flat(given), sky, store, table)
    return store, table


def _parameters(path: Path, imagename: Path, more: dict[str, Any]) -> dict[str, Any]:
    return {"vis": (str(path),), "imagename": str(imagename), "cell": "0.15arcsec", "pblimit": -0.2, "overwrite": True, **more}


def _run(comm: Comm, scratch: Path, path: Path, parameters: dict[str, Any]) -> MeasuredRun:
    """One job on all ranks, and its timeline."""
    from radps_mpi import pipeline

    imagename = scratch / "cube"
    config = RunConfig.from_flat(_parameters(path, imagename, {**parameters, "timeline": True}))
    with contextlib.redirect_stderr(io.StringIO()):  # the log of a job that nobody has asked for
        pipeline.make_cube(config, config.selection.vis, comm)
    measured: MeasuredRun = on_root(comm, "reading what a job took", lambda: _read_run(imagename, timeline=True))
    return measured


def _jobs_of_one_rank(scratch: Path, paths: Sequence[Path]) -> tuple[list[MeasuredRun], str]:
    """The jobs, and ""; or none, and why one failed."""
    try:
        _alone(scratch, paths[-1], 1)  # the first may compile
        return [_alone(scratch, path, _REPEATS) for path in paths], ""
    except _FailedAloneError as error:
        return [], str(error)


class _FailedAloneError(Exception):
    """A process couldn't be a job by itself: here ends what can be measured in that way, but not the calibration."""


def _alone(scratch: Path, path: Path, repeats: int) -> MeasuredRun:
    """The quickest of some jobs of one rank in processes of their own, which pay for imports and the loading of kernels.

    Raises
    ------
    _FailedAloneError
        With the last line of what it wrote.
    """
    imagename = scratch / "alone"
    config = scratch / "alone.toml"
    more = {"imsize": 64, "niter": 10}
    config.write_text(RunConfig.from_flat(_parameters(path, imagename, more)).to_toml(), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OF_THE_JOB)}
    runs = []
    for _ in range(repeats):
        command = [sys.executable, "-m", "radps_mpi", "image", "--config", str(config)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            raise _FailedAloneError(f"exit status {done.returncode}, {printable(last[:200])}")
        runs.append(_read_run(imagename, timeline=False))
    return quickest(runs)


def _read_run(imagename: Path, *, timeline: bool) -> MeasuredRun:
    entry = read_provenance(Path(f"{imagename}.radps"))[-1]["measured"]
    spans: dict[str, float] = {}
    if timeline:
        for event in json.loads(Path(f"{imagename}.timeline.json").read_text(encoding="utf-8"))["traceEvents"]:
            if event["ph"] == "X":
                spans[event["name"]] = spans.get(event["name"], 0.0) + 1e-6 * event["dur"]
    return run_of_entry(entry, spans)
