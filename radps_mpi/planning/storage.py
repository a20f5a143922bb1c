"""Bytes between nodes and their file system: what is written, and what is read because no memory holds it (any more)."""

from __future__ import annotations

from dataclasses import dataclass

from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.work import Work


@dataclass(frozen=True, slots=True)
class Storage:
    """The file system of ``nodes`` that have ``spare_bytes`` each, which the system fills with files (the page cache).

    What a node holds is read at the speed of its memory, which the constants of reading and of planes contain: they are
    measured so.
    """

    machine: Machine
    nodes: int
    spare_bytes: float
    files_bytes: float
    """Of the store and the state, which parts of a run write and later ones read back."""

    @property
    def held(self) -> float:
        """Share of those files that is in the nodes' memory."""
        return min(1.0, self.nodes * max(0.0, self.spare_bytes) / max(1.0, self.files_bytes))

    @property
    def held_of_others(self) -> float:
        """The same for what any rank may have written, of which a node holds its own part alone: channels are dealt out anew
        for minor cycles and products."""
        return self.held / self.nodes

    def write_s(self, nbytes: float) -> float:
        """Writing from all nodes."""
        return nbytes / min(self.machine.file_system_bytes_s, self.nodes * self.machine.disk_write_bytes_s)

    def read_s(self, nbytes: float, held: float = 0.0) -> float:
        """Reading what isn't ``held``, all nodes at once."""
        return (1.0 - held) * nbytes / min(self.machine.file_system_bytes_s, self.nodes * self.machine.disk_read_bytes_s)


def read_from_store_bytes(work: Work, blocks: int) -> float:
    """What so many blocks read of the store."""
    share = 1.0 if work.continuum else blocks * work.native_per_block / work.native_channels
    return work.store_bytes * min(1.0, share)


def read_by_minor_cycles_bytes(work: Work) -> float:
    """Residual and PSF of a channel in each cycle, its model in all but the first."""
    return work.line_channels * work.plane_bytes * max(0, 3 * work.cycles - 1)


def read_by_products_bytes(work: Work) -> float:
    """Residual and PSF of each channel, where there are products of both, and the model of those that have one."""
    models = work.line_channels if work.cycles else 0
    return work.plane_bytes * (min(2, work.product_planes) * work.channels + models)
