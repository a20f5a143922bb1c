"""Room on disk: what a run takes, and the refusal of one that can't fit before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import StorageError
from radps_mpi.io.durable import free_bytes
from radps_mpi.io.fits_writer import footprint_bytes
from radps_mpi.io.state_file import bytes_needed
from radps_mpi.io.visibility_store import dataset_layout
from radps_mpi.journey.describe import Description
from radps_mpi.journey.products import product_names
from radps_mpi.planning.resources import human_bytes


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that are still to be written: the visibility store (0 where there is one), the state, the products."""

    store_bytes: int
    state_bytes: int
    product_bytes: int

    def __str__(self) -> str:
        store = f"{human_bytes(self.store_bytes)} for the visibility store, " if self.store_bytes else ""
        products, state = human_bytes(self.product_bytes), human_bytes(self.state_bytes)
        return f"{store}{products} for products, {state} for the state while it runs"

    def lacking(self, folder: Path) -> str:
        """Why they can't be written into ``folder``, "" if they can. A quota shows only when the room is reserved."""
        free = free_bytes(folder)
        if self.store_bytes + self.state_bytes + self.product_bytes <= free:
            return ""
        return f"{folder}: not enough room: {self}; {human_bytes(free)} are free"


def needs(description: Description, to_ingest: Sequence[ObservationMeta] = ()) -> Needs:
    """What a run takes that has the observations ``to_ingest`` still to write into a store."""
    store_bytes = sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for meta in to_ingest
        for shape, dtype, _, _ in dataset_layout(meta).values()
    )
    nchan, ny, nx = description.shape
    return Needs(
        store_bytes, bytes_needed(nchan, ny, nx, masks=False), footprint_bytes(product_names(description), nchan, ny, nx)
    )


def refuse_lack_of_space(needed: Needs, folder: Path) -> None:
    """Raise StorageError if ``folder`` hasn't room. For one process."""
    if lacking := needed.lacking(folder):
        raise StorageError(lacking)
