"""One ingest at a time into a store: a lock beside it, which dies with the last rank of its job."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_SH
from pathlib import Path

from radps_mpi.errors import UsageError
from radps_mpi.io.durable import naming
from radps_mpi.io.run_lock import batch_job_id, flock, this_process
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm

SURVIVOR_WAIT_S = 5.0
"""Launchers kill the ranks of a job one after the other: those of a killed one are waited for."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MAX_TEXT = 4096


def lock_path(store: Path) -> Path:
    """Where the ranks that write a store hold its lock."""
    return store.with_name(store.name + ".partial.lock")


@contextmanager
def writing_alone(comm: Comm, store: Path) -> Iterator[None]:
    """Be the only job that ingests into ``store`` while the body runs; collective. Where a file system has no locks, nobody is
    kept out.

    Raises
    ------
    UsageError
        If another job does, saying which.
    StorageError
        If the file system refuses.
    """
    path, held = lock_path(store), [-1]
    try:
        on_root(comm, f"locking {store}", lambda: held.append(_acquire(store, path)))
        with all_or_none(comm, f"locking {store}"), naming(path, "locking it"):
            if comm.rank > 0:
                held.append(os.open(path, _FLAGS, 0o666))
                _share(store, held[-1])
        yield
    finally:
        if held[-1] >= 0:
            if comm.rank == 0:
                with suppress(OSError):
                    path.unlink()
            os.close(held[-1])


def _acquire(store: Path, path: Path) -> int:
    """Lock the file for rank 0, at whose every step another job may be too; its descriptor."""
    with naming(path, "locking it"):
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + SURVIVOR_WAIT_S
        while True:
            fd = os.open(path, _FLAGS, 0o666)
            free = flock(fd, LOCK_EX)
            if free is not False and _is_still(path, fd):
                break
            holder = os.read(fd, _MAX_TEXT).decode(errors="replace")
            os.close(fd)
            if time.monotonic() > deadline:
                raise UsageError(f"{store} is being written by another ingest ({holder}): wait for it, or end it")
            time.sleep(0.1)
        os.ftruncate(fd, 0)
        os.write(fd, str(this_process(batch_job_id())).encode())
        _share(store, fd)  # before the other ranks come: they would be refused as another job is
        return fd


def _share(store: Path, fd: int) -> None:
    if flock(fd, LOCK_SH) is False:
        raise UsageError(f"{store}: another ingest has just begun to write it")


def _is_still(path: Path, fd: int) -> bool:
    """Whether the file is still what is found under its name: who holds a lock removes it at the end."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
