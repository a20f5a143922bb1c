"""The visibility store: visibilities by channel, each observation kept apart, checksummed. SCHEMA.md describes the
file.

Cheap to import and without MPI: every rank opens the store for itself, read-only, and reads what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from radps_mpi.data.axis import FRAMES
from radps_mpi.data.observation import REPORT_FIELDS, IngestReport, ObservationMeta
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io import hdf5
from radps_mpi.io.durable import as_bytes, checksum, naming, temporary_of
from radps_mpi.io.seal import check_seal

FORMAT = "radps_mpi visibility store"
VERSION = 1
SUFFIX = ".vis.h5"

ROW_CHUNK = 32_768
"""Rows per chunk: the unit of ingest, of sorting and of checksums."""

_TEXTS = ("name", "source", "field_name", "object_name", "direction_frame", "spw_name", "frequency_frame", "telescope",
          "observer", "project", "data_column", "weight_column", "time_scale")  # fmt: skip
_INTEGERS = (
    "index",
    "source_index",
    "field_id",
    "data_desc_id",
    "spw_id",
    "first_channel",
    "nrow",
    "ntime",
    "row_chunk",
)
_FLOATS = ("restfreq_hz", "first_time_s", "last_time_s", "max_uv_m", "max_w_m")
_TUPLES = ("direction_rad", "dish_diameters_m", "observatory_itrf_m")

ROW_DATASETS: dict[str, tuple[str, str]] = {
    "uvw_m": ("row,uvw", "m"),
    "time_index": ("row", "index into time_s"),
    "antenna1": ("row", "antenna id"),
    "antenna2": ("row", "antenna id"),
    "scan": ("row", "scan number"),
    "source_row": ("row", "row of the MeasurementSet"),
}
"""Datasets with one entry per row (and ``weight``, unless it is spectral): axes and unit."""


def dataset_layout(meta: ObservationMeta) -> dict[str, tuple[tuple[int, ...], str, str, str]]:
    """name -> (shape, dtype, axes, unit) of every dataset of an observation's group."""
    nchan, npol, nrow, nchunk = meta.nchan, meta.npol, meta.nrow, meta.nchunk
    row_dtype = {"uvw_m": "<f8", "source_row": "<i8"}
    layout: dict[str, tuple[tuple[int, ...], str, str, str]] = {
        "vis": ((nchan, npol, nrow), "<c8", "channel,correlation,row", "Jy"),
        "freq_hz": ((nchan,), "<f8", "channel", "Hz"),
        "width_hz": ((nchan,), "<f8", "channel", "Hz"),
        "time_s": ((meta.ntime,), "<f8", "time", "s (MJD)"),
        "frame_factor": ((meta.ntime, len(FRAMES)), "<f8", "time,frame (" + " ".join(FRAMES) + ")", "1"),
        "samples": ((nchan, npol), "<i8", "channel,correlation", "good samples"),
        "vis_checksum": ((nchan, nchunk, 2), "<u8", "channel,chunk,half", "xxh3-128"),
        "row_checksum": ((nchunk, 2), "<u8", "chunk,half", "xxh3-128"),
    }
    for name, (axes, unit) in ROW_DATASETS.items():
        layout[name] = ((nrow, 3) if name == "uvw_m" else (nrow,), row_dtype.get(name, "<i4"), axes, unit)
    if meta.has_spectral_weight:
        layout["weight"] = ((nchan, npol, nrow), "<f4", "channel,correlation,row", "1/Jy^2")
        layout["weight_checksum"] = ((nchan, nchunk, 2), "<u8", "channel,chunk,half", "xxh3-128")
    else:
        layout["weight"] = ((npol, nrow), "<f4", "correlation,row", "1/Jy^2")
    return layout


def write_meta(group: h5py.Group, meta: ObservationMeta) -> None:
    """Store an observation's metadata as attributes; ``samples``, ``freq_hz`` and ``width_hz`` are datasets."""
    for name in _TEXTS:
        hdf5.set_text(group, name, getattr(meta, name))
    for name in _INTEGERS:
        group.attrs[name] = np.int64(getattr(meta, name))
    for name in _FLOATS:
        group.attrs[name] = np.float64(getattr(meta, name))
    for name in _TUPLES:
        group.attrs[name] = np.asarray(getattr(meta, name), dtype=np.float64)
    group.attrs["ephemeris"] = np.uint8(meta.ephemeris)
    hdf5.set_text(group, "corr_types", meta.corr_types)
    for name, count in asdict(meta.report).items():
        group.attrs[f"count_{name}"] = np.int64(count)


def _read_meta(group: h5py.Group) -> ObservationMeta:
    values: dict[str, Any] = {name: hdf5.get_text(group, name) for name in _TEXTS}
    values |= {name: int(hdf5.get_number(group, name)) for name in _INTEGERS}
    values |= {name: float(hdf5.get_number(group, name)) for name in _FLOATS}
    for name in _TUPLES:
        values[name] = tuple(np.asarray(hdf5.get_array(group, name), dtype=np.float64).ravel().tolist())
    values["ephemeris"] = bool(hdf5.get_number(group, "ephemeris"))
    values["corr_types"] = hdf5.get_texts(group, "corr_types")
    counts = {name: int(hdf5.get_number(group, f"count_{name}")) for name in REPORT_FIELDS}
    if "freq_hz" not in group or min(values["row_chunk"], values["nrow"], values["ntime"]) < 1:
        raise DataError(f"{group.file.filename}: group {group.name} is not an observation")
    nchan = group["freq_hz"].shape[0] if group["freq_hz"].ndim else 0
    meta = ObservationMeta(
        **values, report=IngestReport(**counts), freq_hz=np.empty(nchan), width_hz=np.empty(nchan),
        samples=np.empty((nchan, len(values["corr_types"])), dtype=np.int64),
    )  # fmt: skip
    layout = dataset_layout(meta)
    for name, (shape, dtype, _, _) in layout.items():
        hdf5.check_dataset(group, name, shape, dtype)
    if extra := set(group) - set(layout):
        raise DataError(
            f"{group.file.filename}: {group.name}/{sorted(extra)[0]} doesn't belong into a visibility store"
        )
    for name in ("freq_hz", "width_hz", "samples"):
        getattr(meta, name)[...] = group[name][...]
    return meta


def row_digest(rows: dict[str, NDArray[Any]]) -> NDArray[np.uint64]:
    """xxh3-128 over a chunk's row datasets, in order of name: (2,) uint64."""
    digest = xxhash.xxh3_128()
    for name in sorted(rows):
        digest.update(as_bytes(np.ascontiguousarray(rows[name])))
    value = digest.intdigest()
    return np.array([value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)


def metadata_digest(file: h5py.File) -> str:
    """xxh3-128, hexadecimal, over all attributes, small tables and checksum tables: the identity of a store's
    content."""
    digest = xxhash.xxh3_128(hdf5.attribute_bytes(file, leave_out=("metadata_digest", "creator")))
    for name in sorted(file):
        group = file[name]
        digest.update(name.encode() + hdf5.attribute_bytes(group))
        for entry in sorted(group):
            node = group[entry]
            digest.update(f"{entry} {node.shape} {node.dtype.str}\n".encode() + hdf5.attribute_bytes(node))
            if entry.endswith("_checksum") or entry in ("freq_hz", "width_hz", "time_s", "frame_factor", "samples"):
                digest.update(as_bytes(np.ascontiguousarray(node[...])))
    return digest.hexdigest()


def data_extents(file: h5py.File) -> list[tuple[int, int]]:
    """(first byte, bytes) of the datasets whose content has checksum tables of its own."""
    found = []
    for group in file.values():
        for name in ("vis", "weight", *ROW_DATASETS):
            found.append((int(group[name].id.get_offset()), int(group[name].id.get_storage_size())))
    return sorted(found)


def refuse_output(path: str, *, overwrite: bool) -> None:
    """UsageError if a store can't or mustn't be written at ``path``."""
    if not path.endswith(SUFFIX):
        raise UsageError(f"-o/--output: {path!r} must end in {SUFFIX}, by which a store is known")
    if os.path.isdir(path):
        raise UsageError(f"{path} is a directory: choose another name")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists: choose another name, or replace it with --overwrite")


def forget_finished_ingest(path: Path) -> None:
    """Remove the progress of an ingest into ``path`` that was killed when the store was in its place already."""
    partial = path.with_name(path.name + ".partial")
    progress = partial.with_name(partial.name + ".progress")
    for remains in (progress, temporary_of(progress)):
        with naming(remains, "removing it"):
            if not partial.exists():
                remains.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RowColumns:
    """Row data of some chunks, in the order of the store.

    ``uvw_m`` (nrow, 3) float64; ``time_index`` (nrow,) int32 into the observation's times; ``antenna1`` <
    ``antenna2`` and ``scan`` (nrow,) int32; ``source_row`` (nrow,) int64, the row of the MeasurementSet; ``weight``
    (npol, nrow) float32, 1/Jy^2, None where weights differ from channel to channel.
    """

    uvw_m: NDArray[np.float64]
    time_index: NDArray[np.int32]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]
    scan: NDArray[np.int32]
    source_row: NDArray[np.int64]
    weight: NDArray[np.float32] | None


Times = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """What one process has read and checked of a store, for others to open it with: observations, their times (as
    :meth:`VisibilityStore.read_times` gives them), fingerprint."""

    observations: list[ObservationMeta]
    times: list[Times]
    fingerprint: str


class VisibilityStore:
    """A visibility store, open for reading by this process alone. Every read is verified against its checksum."""

    def __init__(self, file: h5py.File, path: Path, metadata: StoreMetadata) -> None:
        self._file = file
        self.path = path
        self.metadata = metadata
        self.observations = metadata.observations
        for array in (array for times in metadata.times for array in times):
            array.setflags(write=False)  # read_times hands them out
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> VisibilityStore:
        """Open a store and check all of it but the data.

        Raises
        ------
        DataError
            If the file is missing, broken, unsafe, not a visibility store or one of another version.
        """
        if Path(path).is_file():
            check_seal(Path(path))
        file = hdf5.open_for_reading(path)
        with _closed_if_refused(file, path):
            _check_version(file, path)
            declared = hdf5.get_text(file, "metadata_digest")
            if any(not isinstance(file[name], h5py.Group) for name in file):
                raise DataError(f"{path}: it has datasets outside its observations")
            observations = sorted((_read_meta(file[name]) for name in file), key=lambda meta: meta.index)
            if [meta.index for meta in observations] != list(range(len(observations))):
                raise DataError(f"{path}: its observations aren't numbered from 0")
            if metadata_digest(file) != declared:
                raise DataError(f"{path}: its metadata don't match their checksum; run 'radps ingest' again")
            times = [(file[meta.name]["time_s"][...], file[meta.name]["frame_factor"][...]) for meta in observations]
        return cls(file, Path(path), StoreMetadata(observations, times, declared))

    @classmethod
    def attach(cls, path: str | os.PathLike[str], metadata: StoreMetadata) -> VisibilityStore:
        """Open a store that another process has opened and checked, with what that one read: of ten thousand ranks one reads
        the metadata.

        Raises
        ------
        DataError
            If this process can't read it, or finds another store at ``path``.
        """
        file = hdf5.open_checked(path)
        with _closed_if_refused(file, path):
            if hdf5.get_text(file, "metadata_digest") != metadata.fingerprint:
                raise DataError(f"{path}: another store than rank 0 finds there")
        return cls(file, Path(path), metadata)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> VisibilityStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fingerprint(self) -> str:
        """xxh3-128, hexadecimal, over metadata and checksum tables: two stores with the same one hold the same data."""
        return self.metadata.fingerprint

    def checksum_tables(self, obs: int) -> dict[str, NDArray[np.uint64]]:
        """The checksum tables of an observation by name: vis_checksum (nchan, nchunk, 2), row_checksum (nchunk, 2),
        ..."""
        group = self._group(obs)
        return {name: group[name][...] for name in sorted(group) if name.endswith("_checksum")}

    def read(self, obs: int, chan0: int, chan1: int, chunk0: int, chunk1: int) -> NDArray[np.complex64]:
        """Visibilities of channels ``chan0 <= c < chan1`` and chunks ``chunk0 <= k < chunk1``: (nchan, npol, nrow)
        complex64, Jy.

        Samples without a good datum are NaN + NaN j. ``chunk1`` may exceed the number of chunks.

        Raises
        ------
        DataError
            If a checksum doesn't match, naming file, observation, channel and chunk.
        """
        return self._read_channels("vis", obs, chan0, chan1, chunk0, chunk1)

    def read_ahead(self, obs: int, chan0: int, chan1: int, chunk0: int, chunk1: int) -> None:
        """Have the operating system fetch what the next ``read`` and ``read_weight`` will want; returns at once. Advice: where
        it can't be taken nothing happens."""
        meta, group = self.observations[obs], self._group(obs)
        row0, row1 = meta.chunk_rows(chunk0, chunk1)
        for name in ("vis", "weight") if meta.has_spectral_weight else ("vis",):
            start, size = group[name].id.get_offset(), group[name].dtype.itemsize
            plane = meta.npol * meta.nrow * size
            if (row0, row1) == (0, meta.nrow):
                pieces = [(chan0 * plane, (chan1 - chan0) * plane)]
            else:
                lines = range(chan0 * meta.npol, chan1 * meta.npol)
                pieces = [((line * meta.nrow + row0) * size, (row1 - row0) * size) for line in lines]
            for offset, length in pieces:
                with suppress(OSError):
                    os.posix_fadvise(self._fd, start + offset, length, os.POSIX_FADV_WILLNEED)

    def read_weight(self, obs: int, chan0: int, chan1: int, chunk0: int, chunk1: int) -> NDArray[np.float32]:
        """Weights, 1/Jy^2: (nchan, npol, nrow) where they are spectral, else (npol, nrow), the same for all channels.

        Spectral weights are 0 where the visibility is blank; the others hold for the row and ignore its blank channels.
        """
        if self.observations[obs].has_spectral_weight:
            return self._read_channels("weight", obs, chan0, chan1, chunk0, chunk1)
        weight = self.read_rows(obs, chunk0, chunk1).weight
        if weight is None:
            raise DataError(f"{self.path}: observation {obs} has no weights")
        return weight

    def read_rows(self, obs: int, chunk0: int, chunk1: int) -> RowColumns:
        """Row data of chunks ``chunk0 <= k < chunk1``."""
        meta, group = self.observations[obs], self._group(obs)
        row0, row1 = meta.chunk_rows(chunk0, chunk1)
        columns = {name: group[name][row0:row1] for name in ROW_DATASETS}
        if not meta.has_spectral_weight:
            columns["weight"] = group["weight"][:, row0:row1]
        for chunk in range(chunk0, min(chunk1, meta.nchunk)):
            start, stop = (row - row0 for row in meta.chunk_rows(chunk, chunk + 1))
            piece = {
                name: array[..., start:stop] if name == "weight" else array[start:stop]
                for name, array in columns.items()
            }
            if not np.array_equal(row_digest(piece), group["row_checksum"][chunk]):
                raise self._damage(obs, f"the rows of chunk {chunk}")
        return RowColumns(weight=columns.pop("weight", None), **columns)

    def read_times(self, obs: int) -> Times:
        """``time_s`` (ntime,) ascending, MJD in seconds, and ``frame_factor`` (ntime, 3).

        A native frequency times ``frame_factor[t, k]`` is that frequency in ``data.axis.FRAMES[k]`` at time t.
        """
        return self.metadata.times[obs]

    def verify(self, obs: int, chan0: int, chan1: int) -> None:
        """Read and check the channels ``chan0 <= c < chan1`` of an observation, and its rows; DataError at the first
        damage."""
        meta = self.observations[obs]
        for chunk in range(meta.nchunk):
            self.read_rows(obs, chunk, chunk + 1)
            for channel in range(chan0, chan1):
                self.read(obs, channel, channel + 1, chunk, chunk + 1)
                if meta.has_spectral_weight:
                    self.read_weight(obs, channel, channel + 1, chunk, chunk + 1)

    def _group(self, obs: int) -> h5py.Group:
        return self._file[self.observations[obs].name]

    def _read_channels(self, name: str, obs: int, chan0: int, chan1: int, chunk0: int, chunk1: int) -> NDArray[Any]:
        meta, group = self.observations[obs], self._group(obs)
        dataset, sums = group[name], group[f"{name}_checksum"][chan0:chan1, chunk0:chunk1]
        row0, row1 = meta.chunk_rows(chunk0, chunk1)
        block = np.empty((chan1 - chan0, meta.npol, row1 - row0), dataset.dtype)
        for channel in range(chan0, chan1):
            # one channel at a time: contiguous pieces, many times faster than a strided selection
            block[channel - chan0] = dataset[channel, :, row0:row1]
            for chunk in range(chunk0, min(chunk1, meta.nchunk)):
                start, stop = (row - row0 for row in meta.chunk_rows(chunk, chunk + 1))
                piece = np.ascontiguousarray(block[channel - chan0, :, start:stop])
                if not np.array_equal(checksum(piece), sums[channel - chan0, chunk - chunk0]):
                    raise self._damage(obs, f"dataset {name}, channel {channel}, chunk {chunk}")
        return block

    def _damage(self, obs: int, where: str) -> DataError:
        return DataError(
            f"{self.path}: observation {obs} ({self.observations[obs].name}), {where}: the data don't match "
            "their checksum; the file is damaged, run 'radps ingest' again"
        )


@contextmanager
def _closed_if_refused(file: h5py.File, path: str | os.PathLike[str]) -> Iterator[None]:
    """Close the file if the body refuses it; what HDF5 says of it becomes a DataError."""
    try:
        yield
    except hdf5.LIBRARY_ERRORS as error:
        file.close()
        raise DataError(f"{path}: not readable as a visibility store: {hdf5.first_line(error)}") from error
    except BaseException:
        file.close()
        raise


def _check_version(file: h5py.File, path: str | os.PathLike[str]) -> None:
    if "format" not in file.attrs or hdf5.get_text(file, "format") != FORMAT:
        raise DataError(f"{path}: not a visibility store")
    version = int(hdf5.get_number(file, "version"))
    if version != VERSION:
        age = "newer" if version > VERSION else "older"
        raise DataError(
            f"{path}: visibility store of version {version}, {age} than version {VERSION} that this program reads; "
            + ("update radps" if version > VERSION else "run 'radps ingest' again")
        )
