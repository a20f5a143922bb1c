"""The checkpoint protocol: planes go to the other slot, then one atomic replacement of the manifest makes them the
state.

Order of a commit: every rank's planes are on the disk (fsync) -> the changed records are exchanged -> rank 0 writes the
new manifest under a temporary name, makes it durable, keeps the old one as ``manifest.previous``, renames -> all ranks
go on. A kill before the rename leaves the commit before; after it, the new one. Nothing in between exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import faults, timeline
from radps_mpi.data.beam import Beam
from radps_mpi.errors import DataError
from radps_mpi.io import manifest as manifests
from radps_mpi.io.durable import fsync_directory, naming
from radps_mpi.io.manifest import NO_SLOT, PROGRESS, Manifest
from radps_mpi.io.recovery import latest_intact, mask_slot
from radps_mpi.io.state_file import StateFile, StateLayout
from radps_mpi.parallel import all_or_none, broadcast, on_root
from radps_mpi.parallel.types import Comm

STATE_NAME = "state.h5"
MANIFEST_NAME = "manifest"

FIELDS = frozenset({"status", "flags", "iterations", "peak_residual_jy", "image_peak_jy", "model_flux_jy", "mask_pixels",
                    "sumwt", "noise_sum", "sidelobe"})
"""Fields of a channel's record that :meth:`Checkpoint.stage` takes; the others it keeps itself."""

_BASE_FIELDS = ("cycle", "slot", "mask_slot")
"""Of a channel's record, as far as it has them: what is not to be written over before the next commit."""

_RECORDS_AT_ONCE = 1024
"""Most that ranks send each other in one piece, all together."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What a rank needs to go on with a channel.

    ``model`` (ny, nx) f4, Jy/pixel, zeros where none is stored; ``mask`` (ny, nx) u1 or None where none is stored;
    ``residual`` (ny, nx) f4, Jy/beam, or None when it must be recomputed from the model. ``rewound_from`` is the
    committed cycle if planes of it were damaged: then ``record["cycle"]`` is an earlier one, from which the caller
    redoes.
    """

    record: np.void
    model: NDArray[np.float32]
    mask: NDArray[np.uint8] | None
    residual: NDArray[np.float32] | None
    rewound_from: int | None = None


class Checkpoint:
    """The state of a run: planes in the state file, one record per channel, and the header with the run's history.

    ``table`` (nchan,) holds the records as this rank knows them, ``header`` what is committed. Right after a commit both are
    the same on all ranks. A channel is staged by one rank between two commits; that rank alone sees it until then, or until it
    is handed over. There is one table, and no copy: it grows with the cube.
    """

    def __init__(self, comm: Comm, directory: Path, state: StateFile, manifest: Manifest, notes: list[str]) -> None:
        self.comm = comm
        self.directory = directory
        self.state = state
        self.header = manifest.header
        self.table = manifest.table
        self.notes = notes
        """What had to be repaired at opening, one line each, for the user."""
        self._staged = np.zeros(len(self.table), bool)
        record = self.table.dtype
        base = np.dtype([(name, record[name]) for name in _BASE_FIELDS if name in (record.names or ())])
        self._message = np.dtype([("chan", "<i4"), ("base", base), ("record", record)])
        self._base = np.empty(len(self.table), base)
        self._spare(slice(None))

    @classmethod
    def create(cls, comm: Comm, directory: Path, header: Mapping[str, Any], shape: tuple[int, int, int], *,
               masks: bool = True) -> Checkpoint:
        """Start anew in an existing run directory: ``shape`` = (nchan, ny, nx). Collective; replaces an earlier state.

        Raises
        ------
        StorageError
            If the disk can't hold the whole state: before anything is computed.
        """
        path = directory / STATE_NAME
        on_root(comm, "removing the earlier state", lambda: _forget_manifests(directory))
        state = StateFile.create(comm, path, *shape, masks=masks)
        full = {**header, "state": state.layout.to_header(), "commit": 0}
        manifest = Manifest(full, manifests.new_table(shape[0], masks=masks))
        on_root(comm, "writing the first manifest", lambda: manifests.save(manifest, directory / MANIFEST_NAME))
        return cls(comm, directory, state, manifest, [])

    @classmethod
    def open(cls, comm: Comm, directory: Path, shape: tuple[int, int, int] | None = None) -> Checkpoint:
        """Open the last good commit, on any number of ranks, repairing what the manifest can repair. Collective.

        Raises
        ------
        DataError
            If neither manifest can be used, the state file is missing, or its ``shape`` is another than (nchan, ny, nx).
        """
        manifest, notes = read_together(comm, lambda: _load(directory))
        layout = layout_of(manifest, directory)
        if shape is not None and (layout.nchan, layout.ny, layout.nx) != shape:
            raise DataError(
                f"{directory / MANIFEST_NAME}: it describes a state of {layout.nchan} x {layout.ny} x {layout.nx}, the run's "
                f"image is {' x '.join(map(str, shape))}: start the run again"
            )
        state, repaired = StateFile.open(comm, directory / STATE_NAME, layout)
        return cls(comm, directory, state, manifest, notes + repaired)

    def record(self, chan: int) -> np.void:
        """A copy of the channel's record as this rank sees it: staged here, handed over, rewound or committed."""
        record: np.void = self.table[chan].copy()
        return record

    @property
    def staged(self) -> tuple[int, ...]:
        """Channels that this rank has staged since the last commit."""
        return tuple(np.flatnonzero(self._staged).tolist())

    def stage(self, chan: int, *, psf: NDArray[Any] | None = None, model: NDArray[Any] | None = None,
              mask: NDArray[Any] | None = None, residual: NDArray[Any] | None = None, cycle: int | None = None,
              beam: Beam | None = None, **fields: float) -> None:
        """Write planes (ny, nx) where the committed ones aren't, and note what the next commit shall say. Independent.

        ``cycle``: major cycles done once this is committed; one more than now if a model is given, else unchanged.
        ``fields``: any of FIELDS. May be called again for the same channel before the commit.

        Raises
        ------
        StorageError
            If the disk refuses; what is committed is untouched.
        """
        if unknown := fields.keys() - FIELDS:
            raise ValueError(f"fields of a channel record that can't be set: {', '.join(sorted(unknown))}")
        base, record = self._base[chan], self.record(chan)
        if model is not None and record["slot"] == base["slot"]:  # not staged again before the commit
            for name in PROGRESS.names or ():
                record["before"][name] = record[name]
        if cycle is not None or model is not None:
            record["cycle"] = base["cycle"] + 1 if cycle is None else cycle
        if beam is not None:
            record["beam_major_rad"], record["beam_minor_rad"], record["beam_pa_rad"] = (
                beam.major_rad, beam.minor_rad, beam.pa_rad)
        for name, value in fields.items():
            record[name] = value
        self._write_slots(chan, base, record, model, mask)
        if psf is not None:
            record["psf_sum"] = self.state.write_plane("psf", 0, chan, psf)
        if model is not None:
            record["residual_cycle"], record["residual_sum"] = -1, 0  # it was the residual of another model
        if residual is not None:
            record["residual_sum"] = self.state.write_plane("residual", 0, chan, residual)
            record["residual_cycle"] = record["cycle"]
        self.table[chan], self._staged[chan] = record, True

    def _write_slots(self, chan: int, base: np.void, record: np.void, model: NDArray[Any] | None,
                     mask: NDArray[Any] | None) -> None:
        if model is not None:
            slot = 0 if base["slot"] == NO_SLOT else 1 - base["slot"]
            record["model_sum"][slot] = self.state.write_plane("model", slot, chan, model)
            record["slot"], record["model_cycle"][slot] = slot, record["cycle"]
        if mask is not None:
            slot = 0 if base["mask_slot"] == NO_SLOT else 1 - base["mask_slot"]
            record["mask_sum"][slot] = self.state.write_plane("mask", slot, chan, mask)
            record["mask_slot"], record["mask_cycle"][slot] = slot, record["cycle"]

    def load(self, chan: int) -> ChannelState:
        """Everything about a channel but its PSF, verified; an earlier cycle where the committed one is damaged.
        Independent."""
        committed = self.record(chan)
        planes: dict[str, NDArray[Any] | None] = {}

        def intact(name: str, slot: int) -> bool:
            planes[f"{name}{slot}"] = self.state.read_plane(name, slot, chan, committed[f"{name}_sum"][slot])
            return planes[f"{name}{slot}"] is not None

        record = latest_intact(committed, intact)
        rewound = record is not committed
        if rewound:
            self.table[chan], self._staged[chan] = record, True
            self._spare(chan)
        model = planes.get(f"model{record['slot']}")
        if model is None:
            model = np.zeros((self.state.layout.ny, self.state.layout.nx), np.float32)
        mask = planes.get(f"mask{mask_slot(record)}")
        return ChannelState(record, model, mask, self.read_residual(chan), int(committed["cycle"]) if rewound else None)

    def read_psf(self, chan: int) -> NDArray[np.float32] | None:
        """The PSF (ny, nx), or None if it isn't there or is damaged: the caller computes it."""
        return self.state.read_plane("psf", 0, chan, self.record(chan)["psf_sum"])

    def read_residual(self, chan: int) -> NDArray[np.float32] | None:
        """The residual (ny, nx) of the channel's model, or None if there is none or it is torn: the caller makes it."""
        return self.state.read_plane("residual", 0, chan, self.record(chan)["residual_sum"])

    def read_model(self, chan: int) -> NDArray[np.float32] | None:
        """The channel's newest model (ny, nx), staged or committed, zeros where there is none; None if it is damaged."""
        record = self.record(chan)
        if record["slot"] == NO_SLOT:
            return np.zeros((self.state.layout.ny, self.state.layout.nx), np.float32)
        return self.state.read_plane("model", int(record["slot"]), chan, record["model_sum"][record["slot"]])

    def hand_over(self, owner: NDArray[np.int32]) -> None:
        """Give staged channels to the ranks that go on with them: rank ``owner[chan]`` (nchan,) stages and commits what
        comes next, all ranks see the records. Collective; nothing is committed by it.

        Planes are flushed: a network file system doesn't show other nodes what is still in this one's memory.
        """
        with all_or_none(self.comm, "flushing the state file"):
            self.state.sync()
        changed = self._exchange()
        self._staged[:] = changed & (owner == self.comm.rank)

    def _spare(self, chans: int | slice | NDArray[np.bool_]) -> None:
        """What these channels' records say is not to be written over."""
        for name in self._base.dtype.names or ():
            self._base[name][chans] = self.table[name][chans]

    def commit(self, changes: Mapping[str, Any] | None = None) -> int:
        """Make everything staged, on all ranks, the state; returns the commit's number. Collective.

        ``changes`` are entries of the header to replace (control history, cycle, ...), the same on all ranks. If any
        rank fails, all raise, and the commit before stays.

        Raises
        ------
        StorageError
            (or RemoteRankError with its exit status on the other ranks) if the disk refuses.
        """
        with all_or_none(self.comm, "flushing the state file"):
            self.state.sync()
        with timeline.span("exchange records, replace manifest"):
            changed = self._exchange()
            header = {**self.header, **(changes or {}), "commit": int(self.header["commit"]) + 1}
            manifest = Manifest(header, self.table)
            on_root(self.comm, "committing the manifest", lambda: manifests.save(manifest, self.directory / MANIFEST_NAME))
        faults.reach("before-done")
        self.header = header
        self._spare(changed)
        self._staged[:] = False
        return int(header["commit"])

    def _exchange(self) -> NDArray[np.bool_]:
        """Put what any rank has staged into all ranks' tables; which channels that are (nchan,). Collective.

        In pieces: ranks may have staged the whole cube together.
        """
        mine, changed = np.flatnonzero(self._staged), np.zeros(len(self.table), bool)
        counts = np.empty(self.comm.size, np.int64)
        self.comm.Allgather(np.array([len(mine)], np.int64), counts)
        at_once = max(1, _RECORDS_AT_ONCE // self.comm.size)
        for start in range(0, int(counts.max()), at_once):
            chans = mine[start : start + at_once]
            sent = np.empty(len(chans), self._message)
            sent["chan"], sent["base"], sent["record"] = chans, self._base[chans], self.table[chans]
            sizes = np.clip(counts - start, 0, at_once)
            got = np.empty(int(sizes.sum()), self._message)
            self.comm.Allgatherv(sent.view(np.uint8), [got.view(np.uint8), (sizes * self._message.itemsize).tolist()])
            if len(np.unique(got["chan"])) != len(got) or changed[got["chan"]].any():
                raise RuntimeError("two ranks have staged the same channel")
            self.table[got["chan"]], self._base[got["chan"]] = got["record"], got["base"]
            changed[got["chan"]] = True
        return changed

    def close(self) -> None:
        """Release the state file; what isn't committed is forgotten."""
        self.state.close()


def exists(directory: Path) -> bool:
    """Whether a run directory holds a commit (perhaps a damaged one): to resume from, or to refuse to overwrite."""
    path = directory / MANIFEST_NAME
    return path.exists() or manifests.previous_of(path).exists()


def layout_of(manifest: Manifest, directory: Path) -> StateLayout:
    """The description of the state file in a manifest. DataError if it doesn't belong to the manifest's table."""
    path = directory / MANIFEST_NAME
    layout = StateLayout.from_header(manifest.header.get("state", {}), path)
    if layout.nchan != len(manifest.table):
        raise DataError(f"{path}: {len(manifest.table)} records for a state of {layout.nchan} channels")
    if layout.has_masks != (manifest.table.dtype == manifests.MASKED_RECORD):
        raise DataError(f"{path}: its records are those of a state {'without' if layout.has_masks else 'with'} masks")
    return layout


def read_together(comm: Comm, read: Callable[[], tuple[Manifest, Any]]) -> tuple[Manifest, Any]:
    """What ``read`` gives on rank 0, the only one that calls it, on all ranks: a manifest, and something small. Collective."""
    here: list[NDArray[Any]] = []

    def outline() -> tuple[Any, bytes, list[tuple[np.dtype[Any], tuple[int, ...]]]]:
        manifest, rest = read()
        text, arrays = manifests.take_apart(manifest.header)
        here.extend([*arrays, manifest.table])
        return rest, text, [(array.dtype, array.shape) for array in here]

    rest, text, kinds = on_root(comm, "reading the manifest", outline)
    mine: list[NDArray[Any] | None] = [*here] if here else [None] * len(kinds)
    *arrays, table = [broadcast(comm, array, shape, dtype) for array, (dtype, shape) in zip(mine, kinds, strict=True)]
    coming = iter(arrays)
    return Manifest(manifests.put_together(text, lambda _dtype, _shape: next(coming)), table), rest


def _load(directory: Path) -> tuple[Manifest, list[str]]:
    path = directory / MANIFEST_NAME
    manifest, notes = manifests.load(path)
    if notes:
        manifests.set_damaged_aside(path)
    return manifest, notes


def _forget_manifests(directory: Path) -> None:
    path = directory / MANIFEST_NAME
    with naming(path, "removing it"):
        manifests.previous_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        fsync_directory(directory)
