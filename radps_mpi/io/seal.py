"""The seal of a visibility store: the checksum of all that isn't visibilities in the file, behind the end of the HDF5 data.

HDF5 before 1.10's newest format keeps no checksums of its own structure: a flipped bit there can read as other numbers, or
crash the library. The seal is checked with plain reads, before HDF5 sees the file. HDF5 itself ignores what follows its
last byte, so any HDF5 program still reads a sealed file; one that changes the file cuts the seal off.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import xxhash

from radps_mpi.errors import DataError
from radps_mpi.io.durable import naming

_MAGIC = b"RADPSEAL"
_FOOTER = struct.Struct("<8sQ16s")
_MAX_LIST_BYTES = 1 << 26
_PIECE_BYTES = 1 << 22

Extent = tuple[int, int]
"""First byte and number of bytes of data that have checksums elsewhere."""


def write_seal(path: Path, data: list[Extent]) -> None:
    """Append the seal to a complete file; ``data`` are the extents that it leaves out.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    with naming(path, "sealing it"), open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        listed = json.dumps({"bytes": size, "data": sorted(data)}).encode()
        digest = _digest(file.fileno(), size, sorted(data), listed)
        file.seek(size)
        file.write(listed + _FOOTER.pack(_MAGIC, len(listed), digest))


def check_seal(path: Path) -> bool:
    """True if the file's structure is as it was when it was sealed, False if it has no seal.

    Raises
    ------
    DataError
        If the seal doesn't match: the structure is damaged.
    """
    damaged = DataError(f"{path}: its HDF5 structure doesn't match its seal: the file is damaged, run 'radps ingest' again")
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _FOOTER.size))
            footer = file.read(_FOOTER.size)
            if len(footer) < _FOOTER.size or not footer.startswith(_MAGIC):
                return False
            _, length, digest = _FOOTER.unpack(footer)
            size = end - _FOOTER.size - length
            if length > _MAX_LIST_BYTES or size < 0:
                raise damaged
            file.seek(size)
            listed = file.read(length)
            if _digest(file.fileno(), size, _extents(listed, size), listed) != digest:
                raise damaged
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged from error
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    return True


def _extents(listed: bytes, size: int) -> list[Extent]:
    content = json.loads(listed)
    data = [(int(start), int(nbytes)) for start, nbytes in content["data"]]
    end = 0
    for start, nbytes in data:
        if start < end or nbytes < 0 or start + nbytes > size:
            raise ValueError("extents overlap")
        end = start + nbytes
    if content["bytes"] != size:
        raise ValueError("another size")
    return data


def _digest(fd: int, size: int, data: list[Extent], listed: bytes) -> bytes:
    digest = xxhash.xxh3_128(listed)
    for start, stop in _between(size, data):
        for offset in range(start, stop, _PIECE_BYTES):
            digest.update(os.pread(fd, min(_PIECE_BYTES, stop - offset), offset))
    return digest.digest()


def _between(size: int, data: list[Extent]) -> Iterator[tuple[int, int]]:
    start = 0
    for offset, nbytes in data:
        yield start, offset
        start = offset + nbytes
    yield start, size
