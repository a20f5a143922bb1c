"""``radps doctor``: what this installation and this machine offer, what is wrong with them, and what to do about it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from radps_mpi import parallel
from radps_mpi.errors import EXIT_FAILURE, EXIT_OK, RadpsError
from radps_mpi.parallel.types import Comm
from radps_mpi.planning import machine
from radps_mpi.streams import say

Level = Literal["ok", "warning", "problem"]

OLDEST_HDF5 = (1, 10, 7)
LEAST_MEMORY_PER_RANK_BYTES = 1 << 30
LEAST_DISK_BYTES = 10 << 30
_SETUP = "run bash jobs/setup.sh"
_MJD_OF_UNIX_EPOCH = 40587.0


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; ``remedy`` says what to do when ``level`` isn't "ok"."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


def _ok(subject: str, text: str) -> Finding:
    return Finding(subject, "ok", text)


def _warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject, "warning", text, remedy)


def _problem(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject, "problem", text, remedy)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


@dataclass(frozen=True)
class _RankFacts:
    """What each rank knows of itself; gathered, so kept small."""

    host: str
    cores: tuple[int, ...]
    cpu: str
    versions: tuple[tuple[str, str], ...]
    threads: int


def diagnose(comm: Comm, folder: str | os.PathLike[str] = ".") -> list[Finding]:
    """Look at everything; collective, and all ranks get the same list.

    ``folder`` is where products and state would be written: its free space, file locks and a small parallel write are
    tested, and nothing stays there.
    """
    facts: list[_RankFacts] = comm.allgather(_facts_of_this_rank())
    written = _parallel_write(comm, Path(folder))
    findings: list[Finding] | None = None
    if comm.rank == 0:
        checks: dict[str, Callable[[], Finding]] = {
            "Python": _python,
            "MPI": _mpi4py,
            "launcher": lambda: _launcher(facts),
            "HDF5": _h5py,
            "parallel write": lambda: written,
            "FFTW": _fftw,
            "numba": _numba,
            "casacore": _casacore,
            "measures data": _measures,
            "processor": _cpu,
            "cores": lambda: _cores(facts),
            "affinity": lambda: _affinity(facts),
            "all ranks": lambda: _same_everywhere(facts),
            "memory": lambda: _memory(facts),
            "disk": lambda: _disk(Path(folder)),
            "file locks": lambda: _locks(Path(folder)),
        }
        findings = [_guarded(subject, check) for subject, check in checks.items()]
    shared: list[Finding] = comm.bcast(findings, root=0)
    return shared


def report(findings: Iterable[Finding], out: TextIO | None = None) -> int:
    """Print one line per finding, to standard output if ``out`` is None; exit status 1 if there is a problem."""
    findings, lines = list(findings), []
    for f in findings:
        lines.append(f"{f.level:<8} {f.subject:<14} {f.text}")
        if f.level != "ok" and f.remedy:
            lines.append(f"{'':<8} {'':<14} -> {f.remedy}")
    problems = sum(f.level == "problem" for f in findings)
    warnings = sum(f.level == "warning" for f in findings)
    lines.append(f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    text = "\n".join(lines)
    say(text) if out is None else print(text, file=out)
    return EXIT_FAILURE if problems else EXIT_OK


def _guarded(subject: str, check: Callable[[], Finding]) -> Finding:
    """A package that is missing or broken is a finding, not the end of the diagnosis."""
    try:
        return check()
    except (ImportError, metadata.PackageNotFoundError) as error:
        return _problem(subject, f"can't be imported: {error}", _SETUP)
    except (RadpsError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return _problem(subject, f"{type(error).__name__}: {error}", _SETUP)


# --- packages ---------------------------------------------------------------------------------------------------------


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"{version} ({sys.executable}), numpy {np.__version__}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return _ok("Python", text)
    return _problem("Python", text, f"use Python 3.11 to 3.13: {_SETUP} with RADPS_PYTHON set to one")


def _mpi4py() -> Finding:
    libraries = _loaded_libmpi()
    library = parallel.library_version().split(", package")[0]
    text = f"mpi4py {metadata.version('mpi4py')}, {library}, {', '.join(sorted(libraries)) or 'linked statically'}"
    if len(libraries) > 1:
        return _problem("MPI", f"two MPI libraries in one process: {text}", f"remove .venv, load one MPI, {_SETUP}")
    return _ok("MPI", text)


def _loaded_libmpi() -> set[str]:
    """Real paths of the MPI libraries that this process has loaded, by mpi4py and by HDF5."""
    try:
        import h5py  # noqa: F401 - loads HDF5 and the MPI library that it was linked with

        maps = Path("/proc/self/maps").read_text().splitlines()
    except (ImportError, OSError):
        return set()
    paths = (line.split()[-1] for line in maps)
    return {os.path.realpath(p) for p in paths if re.match(r"libmpi(ch)?\.so", os.path.basename(p))}


def _launcher(facts: list[_RankFacts]) -> Finding:
    try:
        parallel.world()
    except RadpsError as error:
        return _problem("launcher", str(error), "start with the mpirun that belongs to this MPI library")
    hosts = len({f.host for f in facts})
    text = f"{_count(len(facts), 'rank')} on {_count(hosts, 'host')}"
    command = shutil.which("mpirun") or shutil.which("mpiexec")
    if command is None:
        if shutil.which("srun"):
            return _ok("launcher", f"{text}; srun (no mpirun)")
        return _warning(
            "launcher",
            f"{text}; no mpirun, mpiexec or srun in PATH",
            "load the MPI module, or add its bin folder to PATH",
        )
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=20, check=False)
    version = next((line.strip() for line in answer.stdout.splitlines() if line.strip()), "of unknown version")
    if _family(version) and _family(parallel.library_version()) not in ("", _family(version)):
        return _problem(
            "launcher",
            f"{text}; {command} is {version}, the library {parallel.library_version()}",
            "put the mpirun of this MPI library first in PATH: another one starts N separate runs",
        )
    return _ok("launcher", f"{text}; {command}, {version}")


def _family(version: str) -> str:
    for family, pattern in (("Open MPI", r"Open MPI|OpenRTE|prte"), ("MPICH", r"MPICH|HYDRA|Intel|MVAPICH|CRAY")):
        if re.search(pattern, version, re.IGNORECASE):
            return family
    return ""


def _h5py() -> Finding:
    import h5py

    text = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, mpi={h5py.get_config().mpi}"
    if not h5py.get_config().mpi:
        return _problem("HDF5", f"{text}: built without MPI", f"{_SETUP}, which builds h5py against parallel HDF5")
    if h5py.version.hdf5_version_tuple[:3] < OLDEST_HDF5:
        return _problem(
            "HDF5", f"{text}: too old", f"load HDF5 {'.'.join(map(str, OLDEST_HDF5))} or newer and {_SETUP}"
        )
    return _ok("HDF5", text)


def _parallel_write(comm: Comm, folder: Path) -> Finding:
    """Each rank writes its part of a small file and reads its neighbour's; collective."""
    name = comm.bcast(f".radps-doctor-{os.getpid()}.h5" if comm.rank == 0 else None, root=0)
    path, problem = folder / name, ""
    started = time.perf_counter()
    try:
        import h5py

        if not h5py.get_config().mpi:
            raise RadpsError("h5py has no MPI")
        _write_and_read(comm, path)
    except Exception as error:  # any failure at all is what this check looks for
        problem = f"rank {comm.rank}: {type(error).__name__}: {error}"
    problems = [p for p in comm.allgather(problem) if p]
    if comm.rank == 0:
        path.unlink(missing_ok=True)
    if problems:
        return _problem(
            "parallel write",
            f"in {folder}: {problems[0]}",
            f"choose a folder that is writable on all nodes, or {_SETUP}",
        )
    return _ok(
        "parallel write",
        f"{_count(comm.size, 'rank')} into one file in {folder.resolve()}, {time.perf_counter() - started:.2f} s",
    )


def _write_and_read(comm: Comm, path: Path) -> None:
    import h5py

    with h5py.File(path, "w", driver="mpio", comm=comm) as f:
        f.create_dataset("rank", (comm.size,), "i4")[comm.rank] = comm.rank
    neighbour = (comm.rank + 1) % comm.size
    with h5py.File(path, "r", driver="mpio", comm=comm) as f:
        value = int(f["rank"][neighbour])
    if value != neighbour:
        raise RadpsError(f"read {value} where rank {neighbour} wrote {neighbour}")


def _fftw() -> Finding:
    import pyfftw

    image = pyfftw.zeros_aligned((16, 16), dtype="complex64")
    image[0, 0] = 1
    pyfftw.FFTW(image, image, axes=(0, 1), flags=("FFTW_ESTIMATE",))()
    text = f"pyfftw {metadata.version('pyfftw')}, FFTW {pyfftw.fftw_version}"
    if not np.all(image == 1):
        return _problem("FFTW", f"{text}: the transform of a delta is not flat", _SETUP)
    return _ok("FFTW", text)


def _numba() -> Finding:
    import numba
    from radps_kernels.vectors import register_bytes

    config: Any = numba.config
    cache = config.CACHE_DIR
    folder = Path(cache) if cache else Path(__file__).parent
    text = (
        f"numba {numba.__version__}, vectors of {register_bytes()} bytes, {_count(_threads(), 'thread')}, "
        f"cache in {cache or 'the package folders'}"
    )
    if not _is_writable(folder):
        return _warning(
            "numba",
            f"{text}, not writable: every rank compiles at every start (a minute)",
            "set NUMBA_CACHE_DIR to a folder that you can write",
        )
    return _ok("numba", text)


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in ``folder``, or, if that isn't there yet, the folder itself."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _casacore() -> Finding:
    from radps_mpi.io.measurement_set_measures import casacore_folder

    return _ok("casacore", f"python-casacore {metadata.version('python-casacore')} ({casacore_folder()})")


def _measures() -> Finding:
    from radps_mpi.io.measurement_set_measures import earth_rotation_until_mjd

    measured, predicted = earth_rotation_until_mjd()
    today = time.time() / 86400 + _MJD_OF_UNIX_EPOCH
    text = f"Earth rotation measured until {_date(measured)}, predicted until {_date(predicted)}"
    if predicted < today:
        return _warning(
            "measures data",
            f"{text}: later observations are converted with UT1 = UTC (shifts velocities by up to 0.04 m/s)",
            "pip install -U python-casacore",
        )
    return _ok("measures data", text)


def _date(mjd: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime((mjd - _MJD_OF_UNIX_EPOCH) * 86400))


# --- machine ----------------------------------------------------------------------------------------------------------


def _facts_of_this_rank() -> _RankFacts:
    versions = tuple(machine.package_versions().items())
    return _RankFacts(os.uname().nodename, machine.cores_allowed(), machine.cpu_model(), versions, _threads())


def _threads() -> int:
    """Threads that the kernels of this rank would use."""
    try:
        import numba
    except ImportError:
        return 1
    config: Any = numba.config
    return int(config.NUMBA_NUM_THREADS)


def _cpu() -> Finding:
    features = machine.cpu_features()
    text = f"{machine.cpu_model()}; {' '.join(features) or 'no vector features known here'}"
    if not {"avx2", "asimd"} & set(features):
        return _warning(
            "processor", f"{text}: no AVX2, kernels run several times slower", "choose newer nodes if there are any"
        )
    return _ok("processor", text)


def _cores(facts: list[_RankFacts]) -> Finding:
    mine = [f for f in facts if f.host == facts[0].host]
    allowed = set().union(*(f.cores for f in mine))
    wanted = sum(min(f.threads, len(f.cores)) for f in mine)
    text = (
        f"{machine.cores_of_host()} on this host, {len(allowed)} allowed; {_count(len(mine), 'rank')} here x "
        f"{max(f.threads for f in mine)} threads"
    )
    if len(mine) > len(allowed):
        return _warning("cores", f"{text}: more ranks than cores take turns", "start one rank per core")
    if wanted > len(allowed):
        return _warning("cores", f"{text}: threads take turns", "set NUMBA_NUM_THREADS to cores / ranks")
    return _ok("cores", text)


def _affinity(facts: list[_RankFacts]) -> Finding:
    """Which cores the ranks of rank 0's host are bound to; every host has its own numbers, and one is told."""
    mine = [f for f in facts if f.host == facts[0].host]
    all_cores = set().union(*(f.cores for f in mine))
    if all(set(f.cores) == all_cores for f in mine):
        text = f"ranks of {facts[0].host} may run on each of its cores {_ranges(all_cores)}"
    else:
        text = f"on {facts[0].host}: " + ", ".join(f"{i} on {_ranges(f.cores)}" for i, f in enumerate(mine[:_TOLD]))
        text += f", and {len(mine) - _TOLD} more" if len(mine) > _TOLD else ""
        if sum(len(f.cores) for f in mine) > len(all_cores):
            remedy = "bind each rank to cores of its own (srun --cpu-bind, mpirun --bind-to)"
            return _warning("affinity", f"{text}: ranks are bound to the same cores", remedy)
    asked = int(os.environ.get("SLURM_CPUS_PER_TASK") or 1)
    if len(facts[0].cores) < asked:
        return _warning("affinity", f"{text}: fewer than the {asked} that the job asked for, for each rank",
                        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK: since Slurm 22.05 srun doesn't take it from the job")
    return _ok("affinity", text)


_TOLD = 8
"""Ranks whose cores are told."""


def _ranges(numbers: Iterable[int]) -> str:
    """0-3,8: ascending numbers as taskset writes them."""
    ordered = sorted(numbers)
    starts = [n for i, n in enumerate(ordered) if i == 0 or n != ordered[i - 1] + 1]
    ends = [n for i, n in enumerate(ordered) if i == len(ordered) - 1 or n != ordered[i + 1] - 1]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _same_everywhere(facts: list[_RankFacts]) -> Finding:
    """Bits agree between ranks only where processor and versions do."""
    for rank, f in enumerate(facts):
        differing = [f"{n} {v} and {w}" for (n, v), (_, w) in zip(facts[0].versions, f.versions, strict=True) if v != w]
        if differing:
            return _problem(
                "all ranks",
                f"{facts[0].host} and {f.host} (rank {rank}) have {', '.join(differing)}",
                "install once, in a folder that all nodes see",
            )
    models = sorted({f.cpu for f in facts})
    if len(models) > 1:
        return _warning(
            "all ranks",
            f"processors differ: {'; '.join(models)}: results may differ in the last bits from other runs",
            "ask the batch system for one kind of node (--constraint)",
        )
    return _ok("all ranks", "same versions and processor")


def _memory(facts: list[_RankFacts]) -> Finding:
    installed, available = machine.memory_of_host_bytes()
    limits = machine.memory_limits_bytes()
    ranks = sum(f.host == facts[0].host for f in facts)
    usable = min([installed, *limits.values()])
    text = f"{_gib(installed)} installed, {_gib(available)} available"
    text += "".join(f", {who} allows {_gib(limit)}" for who, limit in limits.items())
    text += f"; {_gib(usable / ranks)} per rank"
    if installed and usable / ranks < LEAST_MEMORY_PER_RANK_BYTES:
        return _warning("memory", text, "start fewer ranks per node or ask for more memory (--mem)")
    return _ok("memory", text)


def _gib(nbytes: float) -> str:
    return f"{nbytes / 2**30:.1f} GiB"


def _disk(folder: Path) -> Finding:
    if not _is_writable(folder):
        return _problem(
            "disk", f"{folder.resolve()} is not writable", "run in a folder that is, or choose another --imagename"
        )
    free = shutil.disk_usage(folder).free
    text = f"{_gib(free)} free in {folder.resolve()} ({_file_system(folder)})"
    if free < LEAST_DISK_BYTES:
        return _warning("disk", text, "`radps image --dry-run` prints what a run needs")
    return _ok("disk", text)


def _file_system(folder: Path) -> str:
    """Type of the file system that holds ``folder``, from the longest mount point above it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    path = str(folder.resolve())
    above = [(len(point), kind) for point, kind in mounts if (path + "/").startswith(point.rstrip("/") + "/")]
    return max(above, default=(0, "unknown file system"))[1]


def _locks(folder: Path) -> Finding:
    setting = os.environ.get("HDF5_USE_FILE_LOCKING", "unset")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".radps-doctor-") as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        text = f"none in {folder.resolve()} ({error.strerror}); HDF5_USE_FILE_LOCKING {setting}"
        if setting in ("FALSE", "0", "BEST_EFFORT"):
            return _warning(
                "file locks",
                f"{text}: nothing keeps two runs from writing the same products",
                "never start two runs with one --imagename",
            )
        return _problem("file locks", f"{text}: HDF5 refuses to open files", "export HDF5_USE_FILE_LOCKING=BEST_EFFORT")
    return _ok("file locks", f"work; HDF5_USE_FILE_LOCKING {setting}")
