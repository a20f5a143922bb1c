"""Running whole programs, ours and others', and the simulated observations that they are given."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import REPOSITORY, Timing

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
    """A program that has ended well: what it took, memory of its largest process, its lines with the second of each."""

    timing: Timing
    peak_gb: float
    lines: list[tuple[float, str]]

    def seconds_of(self, text: str) -> list[float]:
        """When lines with this text came, from the start."""
        return [at for at, line in self.lines if text in line]


def run(
    command: Sequence[object], *, threads: int = 1, folder: Path | None = None, on_line: Callable[[str], object] | None = None,
    statuses: Collection[int] = (0,),
) -> Finished:
    """Run a program, and ``on_line`` on each line that it prints; SystemExit with its last lines if it ends with another status
    than one of ``statuses``. Processor time and memory count all processes that it waits for (mpirun's ranks; not those that
    srun starts)."""
    words = [str(word) for word in command]
    began = time.perf_counter()
    process = subprocess.Popen(
        words, env=_environment(threads), cwd=folder, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: list[tuple[float, str]] = []
    with process.stdout as out:
        for line in out:
            lines.append((time.perf_counter() - began, line.rstrip()))
            if on_line is not None:
                on_line(line)
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


def radps(launcher: str, ranks: int, arguments: Sequence[object]) -> Finished:
    """``radps ARGUMENTS`` on so many ranks."""
    start = shlex.split(launcher.replace("{ranks}", str(ranks)))
    return run([*start, sys.executable, "-m", "mpi4py", "-m", "radps_mpi", *arguments])


def radps_killed(launcher: str, ranks: int, arguments: Sequence[object], text: str, folder: Path) -> Finished:
    """``radps ARGUMENTS``, whose first rank is killed when a line with ``text`` comes; ``folder`` is the run's directory."""

    def kill(line: str) -> None:
        if text in line:
            os.kill(json.loads((folder / "lock").read_text(encoding="utf-8"))["pid"], signal.SIGKILL)

    start = shlex.split(launcher.replace("{ranks}", str(ranks)))
    command = [*start, sys.executable, "-m", "mpi4py", "-m", "radps_mpi", *arguments]
    return run(command, on_line=kill, statuses=(128 + signal.SIGKILL,))


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
    """(visibility store, MeasurementSet if ``ms``) of an observation; made once, by so many ranks, kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    store, table = folder / f"{observation.name}.vis.h5", folder / f"{observation.name}.ms"
    if store.exists() and (table.exists() or not ms):
        return store, table
    sky = folder / "sky.toml"
    sky.write_text(SKY, encoding="utf-8")
    print(f"simulating {observation.nchan} channels x {observation.nrow} rows x 2 polarisations", flush=True)
    for old in (store, *([table] if ms else [])):
        if old.exists():
            raise SystemExit(f"{old} is half of a pair: remove it")
    radps(launcher, ranks, [
        "simulate", sky, "-o", store, *(["--ms", table] if ms else []), "--nchan", observation.nchan,
        "--nantenna", observation.nantenna, "--nintegration", observation.nintegration, "--restfreq", "230.538GHz",
        "--noise", "50mJy",
    ])  # fmt: skip
    return store, table


# CASA ----------------------------------------------------------------------------------------------------------------


def add_casa(p: argparse.ArgumentParser) -> None:
    """The option that names CASA's python."""
    p.add_argument("--casa-python", help="a python with casatools, casatasks, casadata, casaconfig and six")


def casa(python: str, folder: Path, requests: Sequence[dict[str, Any]]) -> tuple[Finished, list[dict[str, Any]]]:
    """Run tasks of CASA, [{"task": ..., "arguments": {...}}, ...], in a process of their own: what it took, and each."""
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    request.write_text(json.dumps(list(requests)), encoding="utf-8")
    finished = run([python, CASA_WORKER, request], folder=folder)
    return finished, json.loads(Path(f"{request}.done").read_text(encoding="utf-8"))
