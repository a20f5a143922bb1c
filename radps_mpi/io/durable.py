"""Bytes that survive: positioned writes and reads of any size, atomic replacement, and errors that name the file."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from radps_mpi import faults
from radps_mpi.errors import DataError, StorageError

PIECE_BYTES = 1 << 30
"""Most bytes per system call; Linux itself stops at 2^31 - 4096."""

CHECKSUM_BYTES = 16
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def naming(path: Path, doing: str, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn an OSError of the body into a StorageError that names the file, what was done and, on a full disk, the
    room."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, doing, needed_bytes) from error


def storage_error(error: OSError, path: Path, doing: str, needed_bytes: int | None = None) -> StorageError:
    """One line about a refusal of the file system."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    text = f"{path}: {reason} while {doing}"
    if error.errno in _FULL:
        text += "".join((f"; {needed_bytes:,} bytes needed" if needed_bytes else "", f", {free_bytes(path):,} free"))
    return StorageError(text)


def free_bytes(path: Path) -> int:
    """Bytes that are free for users on the file system of ``path`` (or of its nearest existing parent); a quota may allow
    fewer, which :func:`claim_room` tells."""
    try:
        room = os.statvfs(_existing(path))
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def checksum(array: NDArray[Any]) -> NDArray[np.uint64]:
    """xxh3-128 of a contiguous array's bytes: (2,) uint64, high half first."""
    value = xxhash.xxh3_128_intdigest(as_bytes(array))
    return np.array([value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def write_at(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``, however often the system stops short.

    Raises
    ------
    OSError
        As the system gave it.
    """
    view = memoryview(data)
    if faults.is_armed("mid-write"):
        _write_pieces(fd, view[: len(view) // 2], offset)
        faults.reach("mid-write")
    _write_pieces(fd, view, offset)


def _write_pieces(fd: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done : done + PIECE_BYTES], offset + done)


_SEND_BYTES = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux alone has it


class WriteBehind:
    """Sends a file's new bytes to the disk while their writer goes on computing, so that fsync finds little left to do. The
    system itself begins half a minute later. Only a start: what the disk refuses is told by fsync."""

    def __init__(self) -> None:
        self._unsent_bytes = 0

    def wrote(self, fd: int, nbytes: int) -> None:
        """So many bytes more have been written through ``fd``."""
        self._unsent_bytes += nbytes
        if self._unsent_bytes >= _SEND_BYTES and _sync_file_range is not None:
            self._unsent_bytes = 0
            _sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """Fill ``into`` from ``offset``; the number of bytes read, less than asked for only at the end of the file."""
    done = 0
    while done < len(into):
        got = os.preadv(fd, [into[done : done + PIECE_BYTES]], offset + done)
        if got == 0:
            break
        done += got
    return done


def open_regular(path: Path) -> BinaryIO:
    """A file of ours, open for reading.

    Raises
    ------
    DataError
        If it isn't a file: a pipe in its place would be waited for until somebody writes into it, a device has no end.
    OSError
        As the system gave it.
    """

    def regular(name: str, flags: int) -> int:
        fd = os.open(name, flags | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise DataError(f"{path}: is not a regular file")

    return open(path, "rb", opener=regular)


def reserve(fd: int, nbytes: int, path: Path) -> bool:
    """Claim the disk blocks of the file's first ``nbytes``; False where the file system can't (then free space is
    checked).

    fallocate(2) and not posix_fallocate(3), whose C library twin writes into every block where the system call is
    missing: hours on a network file system.

    Raises
    ------
    StorageError
        If there isn't enough room.
    """
    with naming(path, "reserving its space", nbytes):
        faults.reach("reserve")
        return _claim(fd, nbytes)


def _claim(fd: int, nbytes: int) -> bool:
    """:func:`reserve`, with the system's own error."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = errno.EINTR
    while code == errno.EINTR:  # signals say that the wall time ends; they mustn't look like a failing disk
        done = libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)) == 0
        code = 0 if done else ctypes.get_errno()
    if done:
        return True
    room = os.fstatvfs(fd)
    missing = nbytes - os.fstat(fd).st_blocks * 512
    if code not in _UNSUPPORTED or room.f_bavail * room.f_frsize < missing:
        raise OSError(errno.ENOSPC if code in _UNSUPPORTED else code, os.strerror(code))
    return False


def claim_room(folder: Path, sizes_bytes: Sequence[int]) -> None:
    """Have the file system give files of these sizes, all at once, and take them back. It alone knows every quota (of a user, a
    group, a project, a directory), and on clusters there is no other way to ask that all file systems have. The files have no
    names; where the file system can't make such (NFS), they have one for an instant, which a kill may leave. In the nearest
    existing parent where there is no such folder yet.

    Raises
    ------
    OSError
        As the system gave it: ENOSPC, EDQUOT, EFBIG for a limit of files' sizes, EACCES or EROFS for a folder that can't be
        written into.
    """
    faults.reach("room")
    with ExitStack() as files:
        for nbytes in filter(None, sizes_bytes):  # fallocate refuses a length of nothing
            file = files.enter_context(tempfile.TemporaryFile(prefix=".radps-room-", dir=_existing(folder)))
            os.ftruncate(file.fileno(), nbytes)
            _claim(file.fileno(), nbytes)


def make_sure_of_room(path: Path, nbytes: int) -> None:
    """Have the file system refuse so many bytes at ``path``, for its room, a quota or a limit, before a library writes them:
    HDF5 names no reason and crashes when it leaves. Nothing is left behind.

    Raises
    ------
    StorageError
        If there isn't the room.
    """
    with naming(path, "reserving its space", nbytes):
        faults.reach("reserve")
        claim_room(path.parent, [nbytes])


def fsync_file(path: Path) -> None:
    """Wait until everything that this node wrote into the file is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_directory(path: Path) -> None:
    """Make the directory's entries durable: a rename isn't until then."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # some network file systems can't flush a directory, and needn't
            raise
    finally:
        os.close(fd)


def write_new(path: Path, *parts: bytes | memoryview, durable: bool = True) -> None:
    """Write a file of these parts from nothing; with ``durable``, wait until it is on the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        offset = 0
        for part in parts:
            _write_pieces(fd, memoryview(part), offset)
            offset += len(part)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def temporary_of(path: Path) -> Path:
    """Where the new content of a file is until it takes the old one's place."""
    return path.with_name(path.name + ".tmp")


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file at once: readers see the old or the new bytes, never a mixture.

    Raises
    ------
    StorageError
        If the file system refuses; the old file is untouched.
    """
    temporary = temporary_of(path)
    with naming(path, "replacing it", len(data)):
        write_new(temporary, data, durable=durable)
        os.replace(temporary, path)
        if durable:
            fsync_directory(path.parent)


def keep_copy(path: Path, kept: Path) -> None:
    """Give the file's present content a second name, atomically; by a hard link, or by copying where there are none."""
    temporary = temporary_of(kept)
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary, follow_symlinks=False)
    except OSError:
        shutil.copyfile(path, temporary)
        with open(temporary, "rb") as copy:
            os.fsync(copy.fileno())
    os.replace(temporary, kept)
