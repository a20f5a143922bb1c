"""Room on disk: what a run takes, and the refusal of one that can't fit before it begins."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import StorageError
from radps_mpi.io import commit
from radps_mpi.io.durable import claim_room, free_bytes
from radps_mpi.io.fits_writer import footprint_bytes
from radps_mpi.io.run_status import SUFFIX as RUN_SUFFIX
from radps_mpi.io.state_file import bytes_needed
from radps_mpi.io.visibility_store import dataset_layout
from radps_mpi.journey.describe import Description
from radps_mpi.journey.inputs import STORE_NAME
from radps_mpi.journey.products import partial_path, product_names
from radps_mpi.planning.resources import human_bytes

_SETTLING_S = 2.0
"""Before a run is refused: some file systems give back only after a moment what was removed, or claimed and let go."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes to write: the visibility store (0 where there is one), the state (0 likewise), each product."""

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
        """Why they can't be written into ``folder``, "" if they can: it is too full, a quota or limit refuses them, or it
        can't be written into at all."""
        free, sizes = free_bytes(folder), (self.store_bytes, self.state_bytes, *self.each_product_bytes)
        if 0 < free < sum(sizes):  # none at all may be a file system of another kind, which says more by itself
            return f"{folder}: not enough room: {self}; {human_bytes(free)} are free"
        try:
            claim_room(folder, sizes)
        except OSError as error:
            return f"{folder}: {error.strerror} when asked for room: {self}; {human_bytes(free)} of the disk are free"
        return ""


def needs(description: Description, to_ingest: Sequence[ObservationMeta] = ()) -> Needs:
    """What a run takes that has the observations ``to_ingest`` to write into a store."""
    store_bytes = sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for meta in to_ingest
        for shape, dtype, _, _ in dataset_layout(meta).values()
    )
    products = (footprint_bytes([name], *description.shape) for name in product_names(description))
    return Needs(store_bytes, bytes_needed(*description.shape, masks=False), tuple(products))


def left_to_write(needed: Needs, description: Description, *, resumes: bool) -> Needs:
    """``needed`` less the room that files of an earlier job have, which are gone on with or replaced. A new run replaces
    those of one that has no state; one that has a state keeps it, and its visibilities, until the new one has its own."""
    imagename = description.config.output.imagename
    root = Path(imagename + RUN_SUFFIX)
    held = [_bytes_held(partial_path(imagename, name)) for name in product_names(description)]
    products = tuple(max(0, whole - part) for whole, part in zip(needed.each_product_bytes, held, strict=True))
    if not resumes and commit.exists(root):
        return replace(needed, each_product_bytes=products)
    store = max(0, needed.store_bytes - _bytes_held(root / STORE_NAME, root / (STORE_NAME + ".partial")))
    state = max(0, needed.state_bytes - _bytes_held(root / commit.STATE_NAME, root / (commit.STATE_NAME + ".partial")))
    return Needs(store, state, products)


def _bytes_held(*paths: Path) -> int:
    held = 0
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            held += path.lstat().st_blocks * 512
    return held


def space_lacking(needed: Needs, description: Description, *, resumes: bool) -> str:
    """Why there is no room for what is left to write of a run, "" if there is. For one process."""
    folder = Path(description.config.output.imagename).absolute().parent
    return left_to_write(needed, description, resumes=resumes).lacking(folder)


def refuse_lack_of_space(needed: Needs, description: Description, *, resumes: bool) -> None:
    """Raise StorageError if there is no room for what is left to write of a run. For one process."""
    if space_lacking(needed, description, resumes=resumes):
        time.sleep(_SETTLING_S)
        if lacking := space_lacking(needed, description, resumes=resumes):
            raise StorageError(lacking)
