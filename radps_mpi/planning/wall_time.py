"""How long this job may work: what the user said, else when the batch system will end it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from radps_mpi.launcher import launcher_rank

_ASKING_S = 10.0
"""Longest wait for Slurm's answer; a busy controller must not hold up a start."""

_SLURM_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


def wall_time_left_s(max_time_s: float | None, environment: Mapping[str, str] = os.environ) -> float:
    """Seconds from now until this process has worked for ``max_time_s``; where that is None, until the end of its Slurm job.

    inf where nobody sets an end. Slurm is asked by the first rank alone where its variables don't tell: ranks agree on the
    least of their answers.
    """
    if max_time_s is not None:
        return max_time_s - process_age_s()
    if "SLURM_JOB_ID" not in environment:
        return float("inf")
    end = environment.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return int(end) - time.time()
    return _ask_slurm(environment["SLURM_JOB_ID"]) if launcher_rank() == 0 else float("inf")


def process_age_s(stat: Path = Path("/proc/self/stat")) -> float:
    """Seconds since this process was started: start-up counts as much as work does. 0 where the system doesn't say.

    By the clock that the kernel's own count of the start uses; /proc/uptime may be a container's.
    """
    try:
        started_ticks = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _ask_slurm(job_id: str) -> float:
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", job_id, "--format", "%L"], capture_output=True, text=True, timeout=_ASKING_S,
            check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return float("inf")
    return slurm_seconds(answer.strip())


def slurm_seconds(text: str) -> float:
    """Seconds of Slurm's [days-][hours:]minutes:seconds; inf for UNLIMITED and whatever else isn't a time."""
    match = _SLURM_TIME.fullmatch(text)
    if match is None:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
