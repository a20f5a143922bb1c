"""What a run took: seconds of its parts, peak memory, and what it had to do for that; kept for the next plan."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from radps_mpi.parallel import largest, ranks_on_node
from radps_mpi.parallel.types import Comm
from radps_mpi.planning.model import STARTING
from radps_mpi.planning.wall_time import process_age_s
from radps_mpi.planning.work import Work


class Stopwatch:
    """Wall seconds by part of the run, from the start of the process."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._part, self._began_s = STARTING, time.monotonic() - process_age_s()

    def turn_to(self, part: str) -> None:
        """What was going on has ended, ``part`` begins (or goes on)."""
        now_s = time.monotonic()
        self._seconds[self._part] = self._seconds.get(self._part, 0.0) + now_s - self._began_s
        self._part, self._began_s = part, now_s

    def seconds(self) -> dict[str, float]:
        """Of the parts that have ended."""
        return {part: round(spent, 3) for part, spent in self._seconds.items()}


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """The most memory that this process has had (resident, as the system counts it).

    From the kernel's count for the process itself: what getrusage says includes the process that started it.
    """
    try:
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(comm: Comm, watch: Stopwatch, work: Work, threads: int) -> dict[str, Any]:
    """The entry for provenance.json: ``seconds`` of rank 0 by part, ``peak_memory_bytes`` of the largest rank. Collective."""
    on_node = ranks_on_node(comm)
    return {
        "ranks": comm.size, "threads": threads, "nodes": -(-comm.size // on_node), "seconds": watch.seconds(),
        "peak_memory_bytes": int(largest(comm, float(peak_memory_bytes()))), "work": work.to_dict(),
    }
