"""What the machine gives this process: cores, processor, memory; from Linux's files and Slurm's variables."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 control groups write a huge number where there is no limit."""

VECTOR_FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "asimd", "sve")
"""Processor flags that decide how fast, and with which rounding, the kernels run, unless numba is told to compile for another
processor (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES)."""

PACKAGES = ("radps-mpi", "numpy", "numba", "llvmlite", "pyfftw", "h5py", "mpi4py", "astropy", "python-casacore")
"""Whose version may decide a run's numbers, or whether it runs at all."""


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions by the name of the distribution; "missing" where there is none."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


def cores_of_host() -> int:
    """Logical processors of this host."""
    return os.cpu_count() or 1


def cores_allowed() -> tuple[int, ...]:
    """Logical processors that this process may run on (its affinity), ascending."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(cores_of_host()))


def cpu_model(cpuinfo: Path = _PROC / "cpuinfo") -> str:
    """The processor's name, as the system writes it."""
    return _cpuinfo_value(cpuinfo, "model name") or platform.processor() or platform.machine()


def cpu_features(cpuinfo: Path = _PROC / "cpuinfo") -> tuple[str, ...]:
    """Those of :data:`VECTOR_FEATURES` that the processor has."""
    flags = (_cpuinfo_value(cpuinfo, "flags") or _cpuinfo_value(cpuinfo, "Features")).split()
    return tuple(f for f in VECTOR_FEATURES if f in flags)


def _cpuinfo_value(cpuinfo: Path, key: str) -> str:
    found = re.search(rf"^{key}\s*:\s*(.*)$", _text(cpuinfo), re.MULTILINE)
    return found.group(1).strip() if found else ""


def memory_of_host_bytes(meminfo: Path = _PROC / "meminfo") -> tuple[int, int]:
    """(installed, available now) bytes of this host; zeros where the system doesn't say."""
    text = _text(meminfo)

    def entry(key: str) -> int:
        found = re.search(rf"^{key}:\s*(\d+) kB", text, re.MULTILINE)
        return int(found.group(1)) * 1024 if found else 0

    return entry("MemTotal"), entry("MemAvailable")


def memory_limits_bytes(own_cgroup: Path = _PROC / "self" / "cgroup", root: Path = _CGROUP) -> dict[str, int]:
    """Limits below the host's memory, by who sets them: control groups (versions 1 and 2), Slurm's allocation."""
    limits = {}
    cgroup = [
        limit for path in _cgroup_files(own_cgroup, root) if 0 < (limit := _integer(_text(path))) < _NO_LIMIT_BYTES
    ]
    if cgroup:
        limits["control group"] = min(cgroup)
    per_node_mb = _integer(os.environ.get("SLURM_MEM_PER_NODE", ""))
    if per_node_mb:
        limits["Slurm"] = per_node_mb << 20
    else:
        per_cpu_mb = _integer(os.environ.get("SLURM_MEM_PER_CPU", ""))
        cpus = _integer(os.environ.get("SLURM_CPUS_ON_NODE", ""))
        if per_cpu_mb and cpus:
            limits["Slurm"] = (per_cpu_mb * cpus) << 20
    return limits


def _cgroup_files(own_cgroup: Path, root: Path) -> list[Path]:
    """The files that may hold this process's memory limit, from its own group up to the root of each hierarchy."""
    files = []
    for line in _text(own_cgroup).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base, name = (root, "memory.max") if controllers == "" else (root / "memory", "memory.limit_in_bytes")
        group = base / path.lstrip("/")
        files += [folder / name for folder in (group, *group.parents) if folder == base or base in folder.parents]
    return files


def _integer(text: str) -> int:
    """The number that a limit's file or variable holds; 0 for 'max', nothing, or anything else."""
    text = text.strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
