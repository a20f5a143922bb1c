"""Running whole programs, ours and others', and the simulated observations that they are given."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import REPOSITORY, Timing, require

from radps_mpi.io.run_lock import read_holder
from radps_mpi.io.run_status import read_provenance

CASA_WORKER = Path(__file__).with_name("casa_worker.py")

SKY = """
[[component]]
offset = ["3arcsec", "-2arcsec"]
flux = "1Jy"
line = {peak = "0.5Jy", velocity = "0km/s", fwhm = "20km/s"}

[[component]]
offset = ["-6arcsec", "4arcsec"]
flux = "0.3Jy"

[[component]]
kind = "gaussian"
size = ["3arcsec", "1.5arcsec", "30deg"]
flux = "0.5Jy"
"""

_OF_THIS_PROCESS = ("PMIX_", "OMPI_COMM_WORLD")


@dataclass(frozen=True)
class Finished:
    """A program that has ended well: what it took, memory of its largest process (NaN where nobody tells), its lines with the
    second of each, iterations of CLEAN in all channels together."""

    timing: Timing
    peak_gb: float
    lines: list[tuple[float, str]]
    iterations: int = 0

    def seconds_of(self, text: str) -> list[float]:
        """When lines with this text came, from the start."""
        return [at for at, line in self.lines if text in line]


def run(
    command: Sequence[object], *, threads: int = 1, folder: Path | None = None, on_line: Callable[[str], object] | None = None,
    statuses: Collection[int] = (0,),
) -> Finished:
    """Run a program, and ``on_line`` on each line that it prints; SystemExit with its last lines if it ends with another status
    than one of ``statuses``; what ``on_line`` raises ends the program. Processor time and memory count all processes that it
    waits for (mpirun's ranks on this machine; not those that srun starts)."""
    words = [str(word) for word in command]
    began = time.perf_counter()
    process = subprocess.Popen(
        words, env=_environment(threads), cwd=folder, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: list[tuple[float, str]] = []
    try:
        with process.stdout as out:
            for line in out:
                lines.append((time.perf_counter() - began, line.rstrip()))
                if on_line is not None:
                    on_line(line)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timing = Timing(used.ru_utime + used.ru_stime, time.perf_counter() - began)
    if process.returncode not in statuses:
        last = "\n".join(line for _, line in lines[-15:])
        raise SystemExit(f"exit status {process.returncode}: {shlex.join(words)}\n{last}")
    return Finished(timing, used.ru_maxrss * 1024 / 1e9, lines)


def _environment(threads: int) -> dict[str, str]:
    """This process's, for a job of its own that finds this checkout."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THIS_PROCESS)}
    paths = [str(REPOSITORY), str(REPOSITORY / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**inherited, **limits, "PYTHONPATH": os.pathsep.join(paths)}


def add_launcher(p: argparse.ArgumentParser) -> None:
    """The option that says how ranks are started."""
    p.add_argument("--launcher", default="mpirun -n {ranks}", help="starts the ranks; as 'srun --mpi=pmix -n {ranks}'")


def radps(launcher: str, ranks: int, arguments: Sequence[object], folder: Path | None = None) -> Finished:
    """``radps ARGUMENTS`` on so many ranks. Of an imaging run, whose directory is ``folder``, memory and iterations are what it
    says itself: ranks are no children of launchers such as srun, nor of mpirun on other machines. Other commands don't say."""
    finished = replace(run(_command(launcher, ranks, arguments)), peak_gb=math.nan)
    if folder is None:
        return finished
    last = read_provenance(folder)[-1]
    require(last["event"] == "finished", f"{folder}: the last event is {last['event']}")
    return replace(finished, peak_gb=last["measured"]["peak_memory_bytes"] / 1e9, iterations=int(last["iterations"]))


def radps_killed(launcher: str, ranks: int, arguments: Sequence[object], text: str, folder: Path) -> Finished:
    """``radps ARGUMENTS``, whose first rank is killed when a line with ``text`` comes; ``folder`` is the run's directory.
    Memory is the first rank's until then. SystemExit where that rank runs on another machine, out of this process's reach."""
    peak_gb = math.nan

    def kill(line: str) -> None:
        nonlocal peak_gb
        if text in line:
            pid = _first_rank(folder)
            peak_gb = _peak_gb(pid)
            os.kill(pid, signal.SIGKILL)

    finished = run(_command(launcher, ranks, arguments), on_line=kill, statuses=(128 + signal.SIGKILL,))
    return replace(finished, peak_gb=peak_gb)


def _peak_gb(pid: int) -> float:
    """The most resident memory that a living process of this machine has had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e9


def _first_rank(folder: Path) -> int:
    """Process id of a run's first rank, which is on this machine."""
    holder, _ = read_holder(folder)
    if holder is None:
        raise SystemExit(f"{folder}: nobody holds the lock of a run that is under way")
    here = socket.gethostname()
    if holder.host != here:
        raise SystemExit(f"the first rank runs on {holder.host}, where this benchmark can't kill it: start it on {here}")
    return holder.pid


def _command(launcher: str, ranks: int, arguments: Sequence[object]) -> list[object]:
    start = shlex.split(launcher.replace("{ranks}", str(ranks)))
    return [*start, sys.executable, "-m", "mpi4py", "-m", "radps_mpi", *arguments]


def hashes(imagename: Path) -> dict[str, str]:
    """Product -> hash of its pixels."""
    from radps_mpi.io.product_hash import hash_product

    paths = sorted(imagename.parent.glob(f"{imagename.name}.*.fits"))
    return {path.name.removeprefix(f"{imagename.name}."): hash_product(path).digest for path in paths}


# Simulated observations ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """An ALMA-like observation: baselines x integrations rows, narrow channels, two polarisations."""

    nchan: int
    nantenna: int = 43
    nintegration: int = 56

    @property
    def nrow(self) -> int:
        """Rows."""
        return self.nantenna * (self.nantenna - 1) // 2 * self.nintegration

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"sim-{self.nchan}x{self.nrow}"


def simulate(
    launcher: str, folder: Path, observation: Observation, *, ms: bool = False, ranks: int = 1
) -> tuple[Path, Path]:
    """(visibility store, MeasurementSet if ``ms``) of an observation; made once, by so many ranks, kept in ``folder``.
    Where one of the two is there only the other is made: the same options give the same data, whatever else is written."""
    folder.mkdir(parents=True, exist_ok=True)
    store, table = folder / f"{observation.name}.vis.h5", folder / f"{observation.name}.ms"
    wanted = {"-o": store, "--ms": table} if ms else {"-o": store}
    missing = [word for option, path in wanted.items() if not path.exists() for word in (option, path)]
    if not missing:
        return store, table
    sky = folder / "sky.toml"
    sky.write_text(SKY, encoding="utf-8")
    print(f"simulating {observation.nchan} channels x {observation.nrow} rows x 2 polarisations", flush=True)
    radps(launcher, ranks, [
        "simulate", sky, *missing, "--nchan", observation.nchan, "--nantenna", observation.nantenna,
        "--nintegration", observation.nintegration, "--restfreq", "230.538GHz", "--noise", "50mJy",
    ])  # fmt: skip
    return store, table


# CASA ----------------------------------------------------------------------------------------------------------------


def add_casa(p: argparse.ArgumentParser) -> None:
    """The option that names CASA's python."""
    p.add_argument("--casa-python", help="a python with casatools, casatasks, casadata, casaconfig and six")


@dataclass(frozen=True)
class CasaRun:
    """A process of CASA that has ended well, the version of casatasks, and of each task its ``seconds`` and ``iterations``."""

    finished: Finished
    version: str
    tasks: list[dict[str, Any]]


def casa(python: str, folder: Path, requests: Sequence[dict[str, Any]]) -> CasaRun:
    """Run tasks of CASA, [{"task": ..., "arguments": {...}}, ...], in a process of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    request.write_text(json.dumps(list(requests)), encoding="utf-8")
    finished = run([python, CASA_WORKER, request], folder=folder)
    done = json.loads(Path(f"{request}.done").read_text(encoding="utf-8"))
    return CasaRun(finished, done["version"], done["tasks"])
