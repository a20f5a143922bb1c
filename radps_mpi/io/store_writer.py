"""How a visibility store comes into being: laid out by one rank, filled by all, put in its place when it is complete."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from radps_mpi import faults
from radps_mpi.data.axis import FRAMES
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.decomposition import FACTOR_BLOCK
from radps_mpi.io import durable, hdf5
from radps_mpi.io.ingest_slab import clean_row_weights
from radps_mpi.io.measurement_set_frames import frame_factors
from radps_mpi.io.seal import write_seal
from radps_mpi.io.visibility_store import (
    FORMAT,
    ROW_DATASETS,
    VERSION,
    data_extents,
    dataset_layout,
    metadata_digest,
    row_digest,
    write_meta,
)
from radps_mpi.parallel import all_or_none, merge_disjoint, on_root
from radps_mpi.parallel.types import Comm


def _structure_bytes(metas: Sequence[ObservationMeta]) -> int:
    """More than HDF5 writes beside the data: about each observation and about the file."""
    return (len(metas) + 1) << 14


def partial_path(final: Path) -> Path:
    """Where a store is written until it is complete."""
    return final.with_name(final.name + ".partial")


def lay_out(partial: Path, metas: Sequence[ObservationMeta]) -> None:
    """Create the whole structure of the file, by one process: then nobody else changes HDF5 metadata."""
    with durable.naming(partial, "creating it"):
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a link in its place would lead to another file
    layouts = [layout for meta in metas for layout in dataset_layout(meta).values()]
    data_bytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype, _, _ in layouts)
    durable.make_sure_of_room(partial, data_bytes + 2 * _structure_bytes(metas))  # now, and when it is completed
    with hdf5.create_file(partial) as file:
        hdf5.set_text(file, "format", FORMAT)
        file.attrs["version"] = np.int64(VERSION)
        hdf5.set_text(file, "creator", f"radps-mpi {_own_version()}")
        for meta in metas:
            group = file.create_group(meta.name)
            for name, (shape, dtype, axes, unit) in dataset_layout(meta).items():
                hdf5.create_dataset(group, name, shape, dtype, axes=axes, unit=unit)
    descriptor = os.open(partial, os.O_RDWR)
    try:
        durable.reserve(descriptor, os.fstat(descriptor).st_size, partial)
    finally:
        os.close(descriptor)


def _own_version() -> str:
    try:
        return package_version("radps-mpi")
    except PackageNotFoundError:
        return "unknown"


def write_rows(group: h5py.Group, meta: ObservationMeta, rows: NDArray[Any], chunk: int) -> None:
    """Write a chunk's row data, sorted and of ``ingest_slab.row_dtype``, and their checksum; by one rank."""
    row0, row1 = meta.chunk_rows(chunk, chunk + 1)
    columns = {name: np.ascontiguousarray(rows[name]) for name in ROW_DATASETS}
    for name, column in columns.items():
        group[name][row0:row1] = column
    if not meta.has_spectral_weight:
        columns["weight"] = np.ascontiguousarray(clean_row_weights(rows["weight"]).T)
        group["weight"][:, row0:row1] = columns["weight"]
    group["row_checksum"][chunk] = row_digest(columns)


def write_channels(
    comm: Comm, group: h5py.Group, meta: ObservationMeta, channel: int, chunk: int, blocks: dict[str, NDArray[Any]]
) -> None:
    """Write this rank's channels of a chunk, from ``channel`` on, and their checksums. Collective: also without a channel.

    ``blocks``: by name of the dataset, (nchan, npol, nrow), C-contiguous.
    """
    path, row0 = Path(group.file.filename), chunk * meta.row_chunk
    with all_or_none(comm, f"writing {path}"), durable.naming(path, "writing visibilities"):
        for name, block in blocks.items():
            _write_lines(path, group[name], (channel * meta.npol, row0), block.reshape(-1, block.shape[2]))
    sums = {
        name: np.array([durable.checksum(values) for values in block], dtype=np.uint64).reshape(-1, 1, 2)
        for name, block in blocks.items()
    }
    # a failing collective write fails after the ranks have met, so it may stand in here against the rule
    with all_or_none(comm, f"writing {path}"), durable.naming(path, "writing checksums"):
        for name, values in sums.items():
            hdf5.write_block_collective(group[f"{name}_checksum"], (channel, chunk, 0), values)


def _write_lines(path: Path, dataset: h5py.Dataset, first: tuple[int, int], lines: NDArray[Any]) -> None:
    """Write (nline, nrow) samples at a line and row of a contiguous dataset, as the state's planes are written: HDF5's
    collective write copies them once more on their way."""
    if not lines.size:
        return
    if lines.dtype != dataset.dtype:
        raise RuntimeError(f"{dataset.name}: {lines.dtype} can't be written as {dataset.dtype} without HDF5")
    line, row = first
    offset, line_bytes = int(dataset.id.get_offset()), dataset.shape[-1] * lines.itemsize
    behind, fd = durable.WriteBehind(), os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for number, values in enumerate(lines, line):
            durable.write_at(fd, durable.as_bytes(values), offset + number * line_bytes + row * lines.itemsize)
            behind.wrote(fd, values.nbytes)
    finally:
        os.close(fd)


def doppler_factors(
    comm: Comm, metas: Sequence[ObservationMeta], times_s: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """``frame_factor`` (ntime, 3) of observations; the ranks share blocks of integrations, of all observations together.
    Collective."""
    values, mine, dealt = [np.zeros((len(times), len(FRAMES))) for times in times_s], [], 0
    for times in times_s:
        mine.append((dealt + np.arange(len(times)) // FACTOR_BLOCK) % comm.size == comm.rank)
        dealt += -(-len(times) // FACTOR_BLOCK)
    with all_or_none(comm, "converting frequencies to other frames"):
        for meta, times, here, factors in zip(metas, times_s, mine, values, strict=True):
            if here.any():
                factors[here] = frame_factors(
                    times[here],
                    time_scale=meta.time_scale,
                    frame=meta.frequency_frame,
                    direction_rad=meta.direction_rad,
                    direction_frame="J2000" if meta.ephemeris else meta.direction_frame,
                    observatory_m=meta.observatory_itrf_m,
                )
    return [merge_disjoint(comm, factors, here) for factors, here in zip(values, mine, strict=True)]


def finish(
    comm: Comm,
    final: Path,
    metas: Sequence[ObservationMeta],
    times_s: Sequence[NDArray[np.float64]],
    factors: Sequence[NDArray[np.float64]],
) -> None:
    """Complete the partial store of ``final``, make it durable and put it in its place. Collective."""
    partial = partial_path(final)
    # attributes and seal lie behind what was reserved
    on_root(comm, f"completing {partial}", lambda: durable.make_sure_of_room(partial, _structure_bytes(metas)))
    on_root(comm, f"completing {partial}", lambda: _write_metadata(partial, metas, times_s, factors))
    faults.reach("ingest-before-sync")
    with all_or_none(comm, f"syncing {partial}"), durable.naming(partial, "syncing it"):
        durable.fsync_file(partial)
    faults.reach("ingest-before-rename")
    on_root(comm, f"putting {final} in place", lambda: _put_in_place(partial, final))
    faults.reach("ingest-after-rename")


def _write_metadata(
    partial: Path,
    metas: Sequence[ObservationMeta],
    times_s: Sequence[NDArray[np.float64]],
    factors: Sequence[NDArray[np.float64]],
) -> None:
    with hdf5.open_for_writing(partial) as file:
        for meta, times, factor in zip(metas, times_s, factors, strict=True):
            group = file[meta.name]
            for name, values in (
                ("freq_hz", meta.freq_hz),
                ("width_hz", meta.width_hz),
                ("samples", meta.samples),
                ("time_s", times),
                ("frame_factor", factor),
            ):
                group[name][...] = values
            write_meta(group, meta)
        file.flush()
        hdf5.set_text(file, "metadata_digest", metadata_digest(file))
        sealed_elsewhere = data_extents(file)
    write_seal(partial, sealed_elsewhere)


def _put_in_place(partial: Path, final: Path) -> None:
    with durable.naming(final, "putting it in place"):
        os.replace(partial, final)
        durable.fsync_directory(final.absolute().parent)
