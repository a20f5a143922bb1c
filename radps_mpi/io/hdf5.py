"""HDF5 the way this program uses it: laid out completely at creation, no filters, nothing that leads outside the file.

Stores and state files share three rules. Every dataset is contiguous, allocated when it is created and never filled, so
that writing data changes no HDF5 metadata. Files are written with library version bounds ``("earliest", "v108")``,
which every HDF5 of the last decade reads. A file that comes from elsewhere is checked link by link before a byte of
data is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from radps_mpi.errors import DataError, StorageError

if TYPE_CHECKING:
    from radps_mpi.parallel.types import Comm

LIBVER = ("earliest", "v108")
"""Version bounds of every file we write."""

ALIGNMENT_BYTES = 1 << 20
"""Datasets of at least this size start on a multiple of it: the usual stripe of parallel file systems."""


LIBRARY_ERRORS = (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OverflowError)
"""What h5py raises for a file whose structure contradicts itself (a UnicodeDecodeError is a ValueError)."""


def create_file(
    path: str | os.PathLike[str], comm: Comm | None = None, *, alignment_bytes: int = ALIGNMENT_BYTES
) -> h5py.File:
    """A new file for writing, truncating an old one; collective over ``comm`` when it is given, else this process
    alone.

    Raises
    ------
    StorageError
        If the file can't be created.
    """
    parallel: dict[str, Any] = {} if comm is None else {"driver": "mpio", "comm": comm}
    try:
        return h5py.File(
            path,
            "w",
            libver=LIBVER,
            alignment_threshold=alignment_bytes,
            alignment_interval=alignment_bytes,
            **parallel,
        )
    except OSError as error:
        raise StorageError(f"{path}: can't be created: {first_line(error)}") from error


def open_for_writing(path: str | os.PathLike[str], comm: Comm | None = None) -> h5py.File:
    """An existing file of ours, to write data into its datasets; collective over ``comm`` when it is given."""
    parallel: dict[str, Any] = {} if comm is None else {"driver": "mpio", "comm": comm}
    try:
        return h5py.File(path, "r+", libver=LIBVER, **parallel)
    except OSError as error:
        raise StorageError(f"{path}: can't be opened for writing: {first_line(error)}") from error


def open_for_reading(path: str | os.PathLike[str]) -> h5py.File:
    """An existing file, read-only, by this process alone, with every link and dataset checked by :func:`refuse_unsafe`.

    Raises
    ------
    DataError
        If the file is missing, isn't HDF5, or holds anything that leads outside itself.
    """
    file = open_checked(path)
    try:
        refuse_unsafe(file, path)
    except LIBRARY_ERRORS as error:
        file.close()
        raise DataError(f"{path}: damaged, or not HDF5 as radps writes it: {first_line(error)}") from error
    except BaseException:
        file.close()
        raise
    return file


def open_checked(path: str | os.PathLike[str]) -> h5py.File:
    """As :func:`open_for_reading`, of a file that another process has checked."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise DataError(f"{path}: can't be read as HDF5: {first_line(error)}") from error


def create_dataset(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: DTypeLike, *, axes: str, unit: str
) -> h5py.Dataset:
    """A contiguous dataset, allocated now and not filled, with its axes (comma-separated, slowest first) and unit.

    Early allocation gives every byte its place in the file at creation; without fill values nothing is written there
    yet.
    """
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=plist))
    set_text(dataset, "axes", axes)
    set_text(dataset, "unit", unit)
    return dataset


def set_text(node: h5py.Group | h5py.Dataset, name: str, text: str | Sequence[str]) -> None:
    """Store text as fixed-length UTF-8: unlike HDF5's variable-length strings it needs no heap of its own."""
    if isinstance(text, str):
        node.attrs[name] = np.bytes_(text.encode() or b"\0")
    else:
        node.attrs[name] = np.array([entry.encode() or b"\0" for entry in text], dtype=np.bytes_)


def get_text(node: h5py.Group | h5py.Dataset, name: str) -> str:
    """Text stored by :func:`set_text`; DataError if it is missing or something else."""
    value = _attribute(node, name)
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise DataError(f"{node.file.filename}: attribute {name} of {node.name} is not text")
    return bytes(value).decode(errors="replace").rstrip("\0")


def get_texts(node: h5py.Group | h5py.Dataset, name: str) -> tuple[str, ...]:
    """A list of texts stored by :func:`set_text`."""
    value = np.atleast_1d(_attribute(node, name))
    if value.dtype.kind != "S":
        raise DataError(f"{node.file.filename}: attribute {name} of {node.name} is not a list of texts")
    return tuple(entry.decode(errors="replace").rstrip("\0") for entry in value.tolist())


def get_number(node: h5py.Group | h5py.Dataset, name: str) -> Any:
    """A scalar number stored as attribute; DataError if it is missing or something else."""
    value = _attribute(node, name)
    if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "iufb":
        raise DataError(f"{node.file.filename}: attribute {name} of {node.name} is not a number")
    return np.asarray(value).item()


def get_array(node: h5py.Group | h5py.Dataset, name: str) -> NDArray[Any]:
    """An array of numbers stored as attribute; DataError if it is missing or something else."""
    value = np.asarray(_attribute(node, name))
    if value.dtype.kind not in "iuf":
        raise DataError(f"{node.file.filename}: attribute {name} of {node.name} is not numeric")
    return value


def _attribute(node: h5py.Group | h5py.Dataset, name: str) -> Any:
    try:
        return node.attrs[name]
    except LIBRARY_ERRORS as error:
        raise DataError(f"{node.file.filename}: attribute {name} of {node.name} is missing or unreadable") from error


def refuse_unsafe(file: h5py.File, path: str | os.PathLike[str]) -> None:
    """Walk every link and refuse what could read other files, run plug-ins or claim more data than the file holds.

    Raises
    ------
    DataError
        Naming the file and the node: external or soft link, external storage, virtual dataset, filter, a layout that
        is not contiguous, variable-length or reference types, or a dataset beyond the end of the file.
    """
    size = os.path.getsize(path)
    groups = [file["/"]]
    seen: set[int] = set()
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise DataError(f"{path}: group {group.name} is linked more than once")
        seen.add(address)
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DataError(f"{path}: {where} is a soft or external link; such files are refused")
            node = group[name]
            if isinstance(node, h5py.Group):
                groups.append(node)
            elif isinstance(node, h5py.Dataset):
                _refuse_unsafe_dataset(node, path, where, size)
            else:
                raise DataError(f"{path}: {where} is neither a group nor a dataset")


def _refuse_unsafe_dataset(dataset: h5py.Dataset, path: str | os.PathLike[str], where: str, file_bytes: int) -> None:
    plist = dataset.id.get_create_plist()
    if plist.get_external_count() > 0:
        raise DataError(f"{path}: dataset {where} keeps its data in another file; such files are refused")
    if plist.get_nfilters() > 0 or plist.get_layout() != h5py.h5d.CONTIGUOUS:
        raise DataError(f"{path}: dataset {where} is virtual, chunked or filtered; such files are refused")
    if dataset.dtype.kind not in "iufcbVS" or dataset.dtype.hasobject:
        raise DataError(f"{path}: dataset {where} has a type that is not plain numbers")
    count = 1
    for extent in dataset.shape:  # exact integers: a product of hostile extents must not wrap around
        count *= int(extent)
    needed = count * dataset.dtype.itemsize
    offset = dataset.id.get_offset()
    if needed and (offset is None or offset + needed > file_bytes):
        raise DataError(
            f"{path}: dataset {where} declares {needed} bytes that the file ({file_bytes} bytes) doesn't hold"
        )


def check_dataset(group: h5py.Group, name: str, shape: Sequence[int], dtype: DTypeLike) -> h5py.Dataset:
    """The dataset ``name`` of ``group`` with exactly this shape and type, or a DataError that says what is there."""
    where = f"{group.file.filename}: dataset {group.name.rstrip('/')}/{name}"
    node = group.get(name)
    if not isinstance(node, h5py.Dataset):
        raise DataError(f"{where} is missing")
    if node.shape != tuple(shape) or node.dtype != np.dtype(dtype):
        raise DataError(f"{where} is {node.dtype}{list(node.shape)}, expected {np.dtype(dtype)}{list(shape)}")
    return node


def write_block_collective(dataset: h5py.Dataset, start: Sequence[int], block: NDArray[Any] | None) -> None:
    """Collective write of every rank's own rectangle; a rank with nothing to write passes None and still takes part.

    h5py's slicing skips the MPI call for an empty selection, and the other ranks then wait forever: hence the low
    level.
    """
    file_space = dataset.id.get_space()
    if block is None or block.size == 0:
        block = np.zeros(1, dataset.dtype)
        memory_space = h5py.h5s.create_simple((1,))
        file_space.select_none()
        memory_space.select_none()
    else:
        block = np.ascontiguousarray(block)
        memory_space = h5py.h5s.create_simple(block.shape)
        file_space.select_hyperslab(tuple(int(s) for s in start), block.shape)
    transfer = h5py.h5p.create(h5py.h5p.DATASET_XFER)
    transfer.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
    dataset.id.write(memory_space, file_space, block, dxpl=transfer)


def attribute_bytes(node: h5py.Group | h5py.Dataset, leave_out: Iterable[str] = ()) -> bytes:
    """Names, types and values of a node's attributes in order of name: what a digest over metadata is made of."""
    skipped = set(leave_out)
    parts = []
    for name in sorted(set(node.attrs) - skipped):
        value = np.asarray(_attribute(node, name))
        parts.append(f"{name}\n{value.dtype.str}{value.shape}\n".encode() + value.tobytes() + b"\n")
    return b"".join(parts)


def first_line(error: Exception) -> str:
    """The first line of an exception's text, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
