"""How a run fits into the memory that it finds: looked at when it starts, and again when it is resumed, perhaps elsewhere."""

from __future__ import annotations

from radps_mpi.imaging.gridding import Gridder
from radps_mpi.journey.describe import Description
from radps_mpi.journey.workload import work_of
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.memory import rank_memory
from radps_mpi.planning.resources import cache_bytes, human_bytes


def cache_within(d: Description, gridder: Gridder, ranks: int, share_bytes: int) -> tuple[int, str]:
    """(bytes for visibilities kept between cycles, a warning or ""), where a rank may use ``share_bytes``.

    A quarter of them, or what grids, planes and libraries leave of them: the bits are the same, and reading visibilities again
    is better than being killed for want of memory.
    """
    clean = d.config.deconvolution
    cycles = int(clean.niter > 0 and clean.nmajor != 0)
    work = work_of(
        d, gridder, line_channels=cycles * d.axis.nchan, line_blocks=cycles * len(d.blocks), line_halves=0, mask_pixels=0,
        iterations=0, cycles=cycles,
    )  # fmt: skip
    needed_bytes = rank_memory(work, Machine(), ranks, 0.0, d.config.parallel.threads).peak_bytes
    warning = ""
    if needed_bytes > share_bytes:
        warning = (
            f"warning: a rank may need {human_bytes(needed_bytes)} of memory and has {human_bytes(share_bytes)}: start fewer "
            "ranks on each node"
        )
    return max(0, min(cache_bytes(share_bytes), int(share_bytes - needed_bytes))), warning
