"""Room on disk: what a run takes, and the refusal of one that can't fit before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import StorageError
from radps_mpi.io.durable import claim_room, free_bytes
from radps_mpi.io.fits_writer import footprint_bytes
from radps_mpi.io.state_file import bytes_needed
from radps_mpi.io.visibility_store import dataset_layout
from radps_mpi.journey.describe import Description
from radps_mpi.journey.products import partial_path, product_names
from radps_mpi.planning.resources import human_bytes


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that are still to be written: the visibility store (0 where there is one), the state (0 likewise), each product."""

    store_bytes: int
    state_bytes: int
    each_product_bytes: tuple[int, ...]

    @property
    def product_bytes(self) -> int:
        """Of all products."""
        return sum(self.each_product_bytes)

    def __str__(self) -> str:
        store = f"{human_bytes(self.store_bytes)} for the visibility store, " if self.store_bytes else ""
        state = f", {human_bytes(self.state_bytes)} for the state while it runs" if self.state_bytes else ""
        return f"{store}{human_bytes(self.product_bytes)} for products{state}"

    def lacking(self, folder: Path) -> str:
        """Why they can't be written into ``folder``, "" if they can: it is too full, or a quota or limit refuses them."""
        free = free_bytes(folder)
        if self.store_bytes + self.state_bytes + self.product_bytes > free:
            return f"{folder}: not enough room: {self}; {human_bytes(free)} are free"
        try:
            claim_room(folder, [self.store_bytes, self.state_bytes, *self.each_product_bytes])
        except OSError as error:
            return f"{folder}: {error.strerror} when asked for room: {self}; {human_bytes(free)} of the disk are free"
        return ""


def needs(description: Description, to_ingest: Sequence[ObservationMeta] = ()) -> Needs:
    """What a run takes that has the observations ``to_ingest`` still to write into a store."""
    store_bytes = sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for meta in to_ingest
        for shape, dtype, _, _ in dataset_layout(meta).values()
    )
    nchan, ny, nx = description.shape
    return Needs(store_bytes, bytes_needed(nchan, ny, nx, masks=False), _each_product_bytes(description))


def needs_of_resume(description: Description) -> Needs:
    """What a run takes that has its state: room for the products, less what partial ones have of it."""
    imagename = description.config.output.imagename
    held = [_bytes_held(partial_path(imagename, name)) for name in product_names(description)]
    left = (max(0, whole - part) for whole, part in zip(_each_product_bytes(description), held, strict=True))
    return Needs(0, 0, tuple(left))


def _each_product_bytes(description: Description) -> tuple[int, ...]:
    return tuple(footprint_bytes([name], *description.shape) for name in product_names(description))


def _bytes_held(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:  # there is none
        return 0


def refuse_lack_of_space(needed: Needs, folder: Path) -> None:
    """Raise StorageError if ``folder`` hasn't room. For one process."""
    if lacking := needed.lacking(folder):
        raise StorageError(lacking)
