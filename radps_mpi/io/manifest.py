"""The manifest: the one small file that says what the state file holds. Whatever it doesn't vouch for doesn't exist.

Layout: a 64-byte first line, a JSON header, one fixed-width record per channel, the xxh3-128 of all that. SCHEMA.md
has it in full.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from radps_mpi import faults
from radps_mpi.errors import DataError
from radps_mpi.io.durable import CHECKSUM_BYTES, fsync_directory, keep_copy, naming, write_new

MAGIC = b"RADPS-MANIFEST"
VERSION = 2
FIRST_LINE_BYTES = 64
MAX_HEADER_BYTES = 1 << 24
MAX_HEADER_BYTES_PER_CHANNEL = 512
"""A header's arrays hold some numbers per channel; what is longer is not ours, and JSON takes many times its size in memory."""
MAX_CHANNELS = 4_000_000
NO_SLOT = 255
"""Slot of a channel whose model is still zero (or whose mask isn't stored)."""

PENDING, PSF_DONE, IMAGED, FINISHED = range(4)
"""``status`` of a channel: nothing yet; PSF and beam; residual made at least once; no more cycles wanted."""

FLAG_BLANK = 1
"""No usable visibilities: the planes of this channel are NaN in the products."""
FLAG_BEAM_FALLBACK = 2
"""The beam fit failed; another channel's beam stands in."""

PROGRESS = np.dtype([("cycle", "<i4"), ("stop_code", "<i4"), ("iterations", "<i8"), ("peak_residual_jy", "<f8"),
                     ("model_flux_jy", "<f8")])
"""What a model slot knew when it was written; ``cycle`` -1 in a slot never written."""

CHANNEL_RECORD = np.dtype([
    ("status", "u1"), ("flags", "u1"), ("slot", "u1"), ("mask_slot", "u1"),
    ("cycle", "<i4"),  # major cycles done
    ("residual_cycle", "<i4"),  # the cycle whose model the residual belongs to, -1 = no residual
    ("stop_code", "<i4"),
    ("iterations", "<i8"),  # minor-cycle iterations so far
    ("peak_residual_jy", "<f8"), ("image_peak_jy", "<f8"), ("start_peak_jy", "<f8"), ("model_flux_jy", "<f8"),
    ("mask_pixels", "<i8"), ("sumwt", "<f8"), ("noise_sum", "<f8"), ("sidelobe", "<f8"),
    ("beam_major_rad", "<f8"), ("beam_minor_rad", "<f8"), ("beam_pa_rad", "<f8"),
    ("psf_sum", "<u8", (2,)), ("residual_sum", "<u8", (2,)),
    ("model_sum", "<u8", (2, 2)), ("mask_sum", "<u8", (2, 2)),  # [slot, half]
    ("mask_cycle", "<i4", (2,)),  # cycle at which each mask slot was written, -1 = never
    ("at", PROGRESS, (2,)),  # [model slot]
])
"""One channel. Checksums are xxh3-128 of the plane's bytes, high half first; 0, 0 = never written."""


@dataclass(slots=True)
class Manifest:
    """``header``: plain values and numpy arrays by name; ``table`` (nchan,) of CHANNEL_RECORD."""

    header: dict[str, Any]
    table: NDArray[Any]


def new_table(nchan: int) -> NDArray[Any]:
    """Records of channels for which nothing has been done: model zero, no planes."""
    table = np.zeros(nchan, CHANNEL_RECORD)
    table["slot"] = table["mask_slot"] = NO_SLOT
    table["residual_cycle"] = -1
    table["mask_cycle"] = -1
    table["at"]["cycle"] = -1
    return table


def encode(manifest: Manifest) -> bytes:
    """The manifest as bytes; the same content always gives the same bytes."""
    header = json.dumps({**manifest.header, "record": CHANNEL_RECORD.descr}, sort_keys=True, default=_plain).encode()
    table = np.ascontiguousarray(manifest.table, CHANNEL_RECORD)
    first = b"%s %d %d %d %d" % (MAGIC, VERSION, len(header), len(table), CHANNEL_RECORD.itemsize)
    body = b"".join((first.ljust(FIRST_LINE_BYTES - 1), b"\n", header, table.tobytes()))
    return body + xxhash.xxh3_128_digest(body)


def decode(data: bytes, path: Path) -> Manifest:
    """The manifest in ``data``.

    Raises
    ------
    DataError
        Naming ``path``: not a manifest, of another version, of sizes that don't fit, or damaged.
    """
    _version, header_bytes, nchan, _record = _first_line(data[:FIRST_LINE_BYTES], len(data), path)
    end = len(data) - CHECKSUM_BYTES
    if xxhash.xxh3_128_digest(memoryview(data)[:end]) != data[end:]:
        raise DataError(f"{path}: damaged: its checksum doesn't match its content")
    table_start = FIRST_LINE_BYTES + header_bytes
    try:
        header = json.loads(data[FIRST_LINE_BYTES:table_start], object_hook=_revive)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: header can't be read: {error}") from error
    if not isinstance(header, dict) or header.pop("record", None) != json.loads(json.dumps(CHANNEL_RECORD.descr)):
        raise DataError(f"{path}: its channel records have other fields than version {VERSION} prescribes")
    return Manifest(header, np.frombuffer(data, CHANNEL_RECORD, nchan, table_start).copy())


def _first_line(line: bytes, file_bytes: int, path: Path) -> tuple[int, ...]:
    words = line.split()
    if len(line) != FIRST_LINE_BYTES or len(words) != 5 or words[0] != MAGIC or not all(w.isdigit() for w in words[1:]):
        raise DataError(f"{path}: not a radps manifest, or its first line is damaged")
    version, header_bytes, nchan, record = (int(word) for word in words[1:])
    if version not in LOADERS:
        age = "newer" if version > VERSION else "older"
        raise VersionError(f"{path}: manifest version {version} is {age} than the {VERSION} that this program reads")
    most = MAX_HEADER_BYTES + nchan * MAX_HEADER_BYTES_PER_CHANNEL
    if header_bytes > most or nchan > MAX_CHANNELS or record != CHANNEL_RECORD.itemsize:
        raise DataError(f"{path}: declares {header_bytes} header bytes, {nchan} channels of {record} bytes: impossible")
    if FIRST_LINE_BYTES + header_bytes + nchan * record + CHECKSUM_BYTES != file_bytes:
        raise DataError(f"{path}: cut short or damaged: {file_bytes} bytes, its first line declares another size")
    return version, header_bytes, nchan, record


class VersionError(DataError):
    """A sound manifest that another version of the program wrote: never a reason to fall back to an older one."""


LOADERS: dict[int, Callable[[bytes, Path], Manifest]] = {VERSION: decode}
"""One loader per version of the format."""


def save(manifest: Manifest, path: Path) -> None:
    """Replace the manifest atomically and durably, keeping the one before as ``<name>.previous``. For one process.

    Raises
    ------
    StorageError
        If the file system refuses; the manifest in place is untouched.
    """
    data = encode(manifest)
    temporary = path.with_name(path.name + ".tmp")
    with naming(path, "committing", len(data)):
        write_new(temporary, data)
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
        with open(path, "rb") as file:
            line = file.read(FIRST_LINE_BYTES)
            version = _first_line(line, os.fstat(file.fileno()).st_size, path)[0]
            data = line + file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    return LOADERS[version](data, path)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        content = base64.b64encode(little.tobytes()).decode()
        return {"array": little.dtype.str, "shape": list(value.shape), "base64": content}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} can't be stored in a manifest")


def _revive(pairs: dict[str, Any]) -> Any:
    if pairs.keys() != {"array", "shape", "base64"}:
        return pairs
    dtype = np.dtype(str(pairs["array"]))
    if dtype.kind not in "biufc":
        raise ValueError(f"an array of {dtype.str}")
    return np.frombuffer(base64.b64decode(pairs["base64"], validate=True), dtype).reshape(pairs["shape"]).copy()
