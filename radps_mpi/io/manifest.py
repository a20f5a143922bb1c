"""The manifest: the one small file that says what the state file holds. Whatever it doesn't vouch for doesn't exist.

Layout: a 64-byte first line, a JSON header, the header's arrays, one fixed-width record per channel, the xxh3-128 of all that.
SCHEMA.md has it in full. Arrays and records go between memory and file without a copy: they grow with the number of channels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from radps_mpi import faults
from radps_mpi.errors import DataError
from radps_mpi.io.durable import (
    CHECKSUM_BYTES,
    as_bytes,
    fsync_directory,
    keep_copy,
    naming,
    open_regular,
    temporary_of,
    write_new,
)

MAGIC = b"RADPS-MANIFEST"
VERSION = 4
FIRST_LINE_BYTES = 64
MAX_HEADER_BYTES = 1 << 24
"""Of JSON, which takes many times its size in memory."""
MAX_ARRAY_BYTES, MAX_ARRAY_BYTES_PER_CHANNEL = 1 << 20, 512
"""A header's arrays hold some numbers per channel; what is longer is not ours."""
MAX_CHANNELS = 4_000_000
NO_SLOT = 255
"""Slot of a channel whose model is still zero (or whose mask isn't stored)."""

PENDING, PSF_DONE, IMAGED, FINISHED = range(4)
"""``status`` of a channel: nothing yet; PSF and beam; residual made at least once; no more cycles wanted."""

FLAG_BLANK = 1
"""No usable visibilities: the planes of this channel are NaN in the products."""
FLAG_BEAM_FALLBACK = 2
"""The beam fit failed; another channel's beam stands in."""

PROGRESS = np.dtype([("iterations", "<i8"), ("model_flux_jy", "<f8"), ("peak_residual_jy", "<f4")])
"""What belongs to a model: of the newest these are fields of the record, of the one before it they are kept in ``before``."""

CHANNEL_RECORD = np.dtype([
    ("status", "u1"), ("flags", "u1"), ("slot", "u1"),
    ("cycle", "<i4"),  # major cycles done
    ("residual_cycle", "<i4"),  # the cycle whose model the residual belongs to, -1 = no residual
    *PROGRESS.descr,  # minor-cycle iterations so far; peaks are pixels, and of their type
    ("image_peak_jy", "<f4"), ("mask_pixels", "<i8"),
    ("sumwt", "<f8"), ("noise_sum", "<f8"), ("sidelobe", "<f8"),
    ("beam_major_rad", "<f8"), ("beam_minor_rad", "<f8"), ("beam_pa_rad", "<f8"),
    ("psf_sum", "<u8", (2,)), ("residual_sum", "<u8", (2,)),
    ("model_sum", "<u8", (2, 2)),  # [slot, half]
    ("model_cycle", "<i4", (2,)),  # cycle at which each model slot was written, -1 = never
    ("before", PROGRESS),  # of the model in the other slot
])
"""One channel, of which every rank holds all: nothing is in it that no run needs. Checksums are xxh3-128 of the plane's bytes,
high half first; 0, 0 = never written."""

MASKED_RECORD = np.dtype([
    *CHANNEL_RECORD.descr,
    ("mask_slot", "u1"), ("mask_sum", "<u8", (2, 2)),
    ("mask_cycle", "<i4", (2,)),  # as model_cycle
])
"""One channel of a state that stores masks."""

RECORDS = {record.itemsize: record for record in (CHANNEL_RECORD, MASKED_RECORD)}
"""The two kinds by their bytes, which the first line of a manifest has."""


@dataclass(slots=True)
class Manifest:
    """``header``: plain values and numpy arrays by name; ``table`` (nchan,) of CHANNEL_RECORD or MASKED_RECORD."""

    header: dict[str, Any]
    table: NDArray[Any]


def new_table(nchan: int, *, masks: bool = False) -> NDArray[Any]:
    """Records of channels for which nothing has been done: model zero, no planes. ``masks``: of a state that stores them."""
    table = np.zeros(nchan, MASKED_RECORD if masks else CHANNEL_RECORD)
    table["slot"] = NO_SLOT
    table["residual_cycle"] = table["model_cycle"] = -1
    if masks:
        table["mask_slot"], table["mask_cycle"] = NO_SLOT, -1
    return table


def encode(manifest: Manifest) -> list[bytes | memoryview]:
    """The manifest as the parts of its file, in their order; the same content always gives the same bytes."""
    table = np.ascontiguousarray(manifest.table)
    header, arrays = take_apart({**manifest.header, "record": table.dtype.descr})
    sizes = len(header), sum(array.nbytes for array in arrays), len(table), table.itemsize
    first = b" ".join((MAGIC, *(b"%d" % number for number in (VERSION, *sizes))))
    line = first.ljust(FIRST_LINE_BYTES - 1) + b"\n"
    parts: list[bytes | memoryview] = [line, header, *map(as_bytes, arrays), as_bytes(table)]
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return [*parts, digest.digest()]


def take_apart(header: dict[str, Any]) -> tuple[bytes, list[NDArray[Any]]]:
    """A header as JSON, in which arrays are only named, and its arrays (contiguous, little-endian) in their order there."""
    arrays: list[NDArray[Any]] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value, value.dtype.newbyteorder("<")))
            return {"array": arrays[-1].dtype.str, "shape": list(value.shape)}
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} can't be stored in a manifest")

    return json.dumps(header, sort_keys=True, default=plain).encode(), arrays


def put_together(text: bytes, take: Callable[[np.dtype[Any], tuple[int, ...]], NDArray[Any]]) -> dict[str, Any]:
    """The header that :func:`take_apart` gave, its arrays being asked for in their order.

    Raises
    ------
    ValueError
        If ``text`` isn't such a header, or names an array of anything but numbers.
    """

    def revive(pairs: dict[str, Any]) -> Any:
        if pairs.keys() != {"array", "shape"}:
            return pairs
        dtype, shape = np.dtype(str(pairs["array"])), tuple(int(n) for n in pairs["shape"])
        if dtype.kind not in "biufc" or min(shape, default=0) < 0:
            raise ValueError(f"an array of {dtype.str}, {shape}")
        return take(dtype, shape)

    header = json.loads(text, object_hook=revive)
    if not isinstance(header, dict):
        raise ValueError("it has no entries")
    return header


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What a first line declares."""

    version: int
    header_bytes: int
    array_bytes: int
    nchan: int
    record_bytes: int

    @property
    def content_bytes(self) -> int:
        """All but the checksum."""
        return FIRST_LINE_BYTES + self.header_bytes + self.array_bytes + self.nchan * self.record_bytes


def _decode(file: BinaryIO, sizes: _Sizes, path: Path) -> Manifest:
    """The manifest in ``file``, from its beginning; nothing is made of its content before the checksum is right."""
    if _digest_of(file, sizes.content_bytes) != file.read(CHECKSUM_BYTES):
        raise DataError(f"{path}: damaged: its checksum doesn't match its content")
    file.seek(FIRST_LINE_BYTES)
    text, left, record = file.read(sizes.header_bytes), sizes.array_bytes, RECORDS[sizes.record_bytes]

    def take(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        nonlocal left
        left -= math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ValueError("more arrays than the first line declares")
        return _filled(file, np.empty(shape, dtype))

    try:
        header = put_together(text, take)
        if left:
            raise ValueError("fewer arrays than the first line declares")
        if header.pop("record", None) != json.loads(json.dumps(record.descr)):
            raise ValueError(f"its channel records have other fields than version {VERSION} prescribes")
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: header can't be read: {error}") from error
    return Manifest(header, _filled(file, np.empty(sizes.nchan, record)))


def _digest_of(file: BinaryIO, nbytes: int) -> bytes:
    """Of the file's first ``nbytes``; the file is left behind them."""
    digest, piece = xxhash.xxh3_128(), memoryview(bytearray(1 << 18))
    file.seek(0)
    while nbytes and (got := file.readinto(piece[:nbytes])):  # type: ignore[attr-defined]
        digest.update(piece[:got])
        nbytes -= got
    return digest.digest()


def _filled(file: BinaryIO, array: NDArray[Any]) -> NDArray[Any]:
    room = as_bytes(array)
    while room and (got := file.readinto(room)):  # type: ignore[attr-defined]
        room = room[got:]
    return array


def _first_line(line: bytes, file_bytes: int, path: Path) -> _Sizes:
    words = line.split()
    if len(line) != FIRST_LINE_BYTES or len(words) < 2 or words[0] != MAGIC or not all(w.isdigit() for w in words[1:]):
        raise DataError(f"{path}: not a radps manifest, or its first line is damaged")
    version = int(words[1])
    if version not in LOADERS:
        age = "newer" if version > VERSION else "older"
        raise VersionError(
            f"{path}: manifest version {version} is {age} than the {VERSION} that this program reads: only a radps of that "
            "version can go on with the run; --overwrite starts it anew"
        )
    if len(words) != 6:
        raise DataError(f"{path}: not a radps manifest, or its first line is damaged")
    sizes = _Sizes(*(int(word) for word in words[1:]))
    possible = (
        sizes.header_bytes <= MAX_HEADER_BYTES and sizes.nchan <= MAX_CHANNELS
        and sizes.array_bytes <= MAX_ARRAY_BYTES + sizes.nchan * MAX_ARRAY_BYTES_PER_CHANNEL
        and sizes.record_bytes in RECORDS
    )
    if not possible:
        raise DataError(f"{path}: declares {sizes.header_bytes} header bytes, {sizes.array_bytes} of arrays, {sizes.nchan} "
                        f"channels of {sizes.record_bytes} bytes: impossible")
    if sizes.content_bytes + CHECKSUM_BYTES != file_bytes:
        raise DataError(f"{path}: cut short or damaged: {file_bytes} bytes, its first line declares another size")
    return sizes


class VersionError(DataError):
    """A sound manifest that another version of the program wrote: never a reason to fall back to an older one."""


LOADERS: dict[int, Callable[[BinaryIO, _Sizes, Path], Manifest]] = {VERSION: _decode}
"""One loader per version of the format."""


def save(manifest: Manifest, path: Path) -> None:
    """Replace the manifest atomically and durably, keeping the one before as ``<name>.previous``. For one process.

    Raises
    ------
    StorageError
        If the file system refuses; the manifest in place is untouched.
    """
    parts = encode(manifest)
    temporary = temporary_of(path)
    with naming(path, "committing", sum(map(len, parts))):
        write_new(temporary, *parts)
        faults.reach("before-rename")
        if path.exists():
            keep_copy(path, previous_of(path))
        faults.reach("mid-rename")
        os.replace(temporary, path)
        faults.reach("after-rename")
        fsync_directory(path.parent)


def previous_of(path: Path) -> Path:
    """Where the manifest before the present one is kept."""
    return path.with_name(path.name + ".previous")


def load(path: Path) -> tuple[Manifest, list[str]]:
    """The manifest, or the previous one when it is damaged or missing, with a warning for the user in that case.

    Raises
    ------
    DataError
        If neither can be used, or if another version wrote it.
    """
    try:
        return read(path), []
    except VersionError:
        raise
    except DataError as error:
        previous = previous_of(path)
        try:
            manifest = read(previous)
        except DataError as second:
            raise DataError(f"{error}; and the one kept before it: {second}") from error
        return manifest, [f"{error}; going back to {previous.name}, one commit earlier"]


def set_damaged_aside(path: Path) -> None:
    """Rename a manifest that :func:`load` refused, so that the next :func:`save` doesn't keep it as the previous
    one."""
    with naming(path, "setting it aside"):
        if path.exists():
            os.replace(path, path.with_name(path.name + ".damaged"))
            fsync_directory(path.parent)


def read(path: Path) -> Manifest:
    """One manifest file, sizes checked before anything is allocated. DataError if it is missing, damaged or of another
    version."""
    try:
        with open_regular(path) as file:
            sizes = _first_line(file.read(FIRST_LINE_BYTES), os.fstat(file.fileno()).st_size, path)
            return LOADERS[sizes.version](file, sizes, path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
