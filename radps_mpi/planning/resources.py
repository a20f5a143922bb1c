"""What a run needs and what it may use: bytes on disk and in memory, from its geometry and the machine alone."""

from __future__ import annotations

from radps_mpi.planning.machine import memory_limits_bytes, memory_of_host_bytes

CACHE_SHARE = 0.25
"""Part of a rank's memory given to visibilities kept between major cycles; the rest is for grids, planes and libraries."""


def memory_per_rank_bytes(ranks_on_node: int) -> int:
    """This rank's share of what the node, a control group or Slurm allows."""
    installed, available = memory_of_host_bytes()
    limits = [limit for limit in (available or installed, *memory_limits_bytes().values()) if limit]
    return min(limits, default=1 << 30) // max(1, ranks_on_node)


def cache_bytes(memory_bytes: int) -> int:
    """Memory for the cache of weighted visibilities."""
    return int(CACHE_SHARE * memory_bytes)


def human_bytes(nbytes: float) -> str:
    """1.5 GB: powers of ten, as disks are sold."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if nbytes < 1000:
            break
        nbytes, unit = nbytes / 1000, larger
    return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
