"""The checkpoint protocol: planes go to the other slot, then one atomic replacement of the manifest makes them the
state.

Order of a commit: every rank's planes are on the disk (fsync) -> the changed records are gathered -> rank 0 writes the
new manifest under a temporary name, makes it durable, keeps the old one as ``manifest.previous``, renames -> all ranks
go on. A kill before the rename leaves the commit before; after it, the new one. Nothing in between exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import faults
from radps_mpi.data.beam import Beam
from radps_mpi.errors import DataError
from radps_mpi.io import manifest as manifests
from radps_mpi.io.durable import fsync_directory, naming
from radps_mpi.io.manifest import CHANNEL_RECORD, NO_SLOT, Manifest
from radps_mpi.io.recovery import latest_intact
from radps_mpi.io.state_file import StateFile, StateLayout
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm

STATE_NAME = "state.h5"
MANIFEST_NAME = "manifest"

FIELDS = frozenset({"status", "flags", "stop_code", "iterations", "peak_residual_jy", "image_peak_jy", "start_peak_jy",
                    "model_flux_jy", "mask_pixels", "sumwt", "noise_sum", "sidelobe"})
"""Fields of a channel's record that :meth:`Checkpoint.stage` takes; the others it keeps itself."""

_MESSAGE = np.dtype([("chan", "<i8"), ("record", CHANNEL_RECORD), ("base", CHANNEL_RECORD)])


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

    ``table`` (nchan,) of CHANNEL_RECORD and ``header`` are what is committed, the same on all ranks. A channel is
    staged by one rank between two commits; that rank alone sees it until then.
    """

    def __init__(self, comm: Comm, directory: Path, state: StateFile, manifest: Manifest, notes: list[str]) -> None:
        self.comm = comm
        self.directory = directory
        self.state = state
        self.header = manifest.header
        self.table = manifest.table
        self.notes = notes
        """What had to be repaired at opening, one line each, for the user."""
        self._staged: dict[int, np.void] = {}
        self._rewound: dict[int, np.void] = {}
        self._elsewhere: dict[int, np.void] = {}

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
        manifest = Manifest(full, manifests.new_table(shape[0]))
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
        encoded, notes = on_root(comm, "reading the manifest", lambda: _load(directory))
        manifest = manifests.decode(encoded, directory / MANIFEST_NAME)
        layout = layout_of(manifest, directory)
        if shape is not None and (layout.nchan, layout.ny, layout.nx) != shape:
            raise DataError(
                f"{directory / MANIFEST_NAME}: it describes a state of {layout.nchan} x {layout.ny} x {layout.nx}, the run's "
                f"image is {' x '.join(map(str, shape))}: start the run again"
            )
        state, repaired = StateFile.open(comm, directory / STATE_NAME, layout)
        return cls(comm, directory, state, manifest, notes + repaired)

    def record(self, chan: int) -> np.void:
        """The channel's record as this rank sees it: staged here, handed over elsewhere, rewound or committed."""
        committed: np.void = self.table[chan]
        known = self._elsewhere.get(chan, self._rewound.get(chan, committed))
        return self._staged.get(chan, known)

    @property
    def staged(self) -> tuple[int, ...]:
        """Channels that this rank has staged since the last commit."""
        return tuple(sorted(self._staged))

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
        base = self._rewound.get(chan, self.table[chan])
        record = self.record(chan).copy()
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
        self._staged[chan] = record

    def _write_slots(self, chan: int, base: np.void, record: np.void, model: NDArray[Any] | None,
                     mask: NDArray[Any] | None) -> None:
        if model is not None:
            slot = 0 if base["slot"] == NO_SLOT else 1 - base["slot"]
            record["model_sum"][slot] = self.state.write_plane("model", slot, chan, model)
            record["slot"], record["at"][slot]["cycle"] = slot, record["cycle"]
        if mask is not None:
            slot = 0 if base["mask_slot"] == NO_SLOT else 1 - base["mask_slot"]
            record["mask_sum"][slot] = self.state.write_plane("mask", slot, chan, mask)
            record["mask_slot"], record["mask_cycle"][slot] = slot, record["cycle"]
        if record["slot"] != NO_SLOT:
            for name in ("stop_code", "iterations", "peak_residual_jy", "model_flux_jy"):
                record["at"][record["slot"]][name] = record[name]

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
            self._rewound[chan] = self._staged[chan] = record
        model = planes.get(f"model{record['slot']}")
        if model is None:
            model = np.zeros((self.state.layout.ny, self.state.layout.nx), np.float32)
        return ChannelState(record, model, planes.get(f"mask{record['mask_slot']}"), self.read_residual(chan),
                            int(committed["cycle"]) if rewound else None)

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

    def hand_over(self, owner: NDArray[np.int64]) -> None:
        """Give staged channels to the ranks that go on with them: rank ``owner[chan]`` (nchan,) stages and commits what
        comes next, all ranks see the records. Collective; nothing is committed by it.

        Planes are flushed: a network file system doesn't show other nodes what is still in this one's memory.
        """
        with all_or_none(self.comm, "flushing the state file"):
            self.state.sync()
        chans, changed = self._gather()
        self._elsewhere.update(zip(chans.tolist(), changed["record"], strict=True))
        for chan, base in zip(chans.tolist(), changed["base"], strict=True):
            if base.tobytes() != self.table[chan].tobytes():  # gone back to: its intact slot is to be spared
                self._rewound[chan] = base
        self._staged = {
            chan: record.copy() for chan, record in self._elsewhere.items() if int(owner[chan]) == self.comm.rank
        }

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
        chans, changed = self._gather()
        header = {**self.header, **(changes or {}), "commit": int(self.header["commit"]) + 1}
        table = self.table.copy()
        table[chans] = changed["record"]
        manifest = Manifest(header, table)
        on_root(self.comm, "committing the manifest", lambda: manifests.save(manifest, self.directory / MANIFEST_NAME))
        faults.reach("before-done")
        self.header, self.table = header, table
        self._staged.clear()
        self._rewound.clear()
        self._elsewhere.clear()
        return int(header["commit"])

    def _gather(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """What all ranks have staged, on all ranks: (channels, _MESSAGE entries), in the order of the ranks."""
        mine = np.zeros(len(self._staged), _MESSAGE)
        for place, chan in enumerate(self.staged):
            mine[place]["chan"], mine[place]["record"] = chan, self._staged[chan]
            mine[place]["base"] = self._rewound.get(chan, self.table[chan])
        sizes = np.empty(self.comm.size, np.int64)
        self.comm.Allgather(np.array([mine.nbytes], np.int64), sizes)
        everyone = np.empty(int(sizes.sum()) // _MESSAGE.itemsize, _MESSAGE)
        self.comm.Allgatherv(mine.view(np.uint8), [everyone.view(np.uint8), [int(size) for size in sizes]])
        chans = everyone["chan"].astype(np.int64)
        if len(np.unique(chans)) != len(chans):
            raise RuntimeError("two ranks have staged the same channel")
        return chans, everyone

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
    return layout


def _load(directory: Path) -> tuple[bytes, list[str]]:
    path = directory / MANIFEST_NAME
    manifest, notes = manifests.load(path)
    if notes:
        manifests.set_damaged_aside(path)
    return manifests.encode(manifest), notes


def _forget_manifests(directory: Path) -> None:
    path = directory / MANIFEST_NAME
    with naming(path, "removing it"):
        manifests.previous_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        fsync_directory(directory)
