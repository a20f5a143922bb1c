"""The run directory ``<imagename>.radps/``: one run at a time, and everything that somebody wants to know about it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radps_mpi import faults
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io.commit import MANIFEST_NAME
from radps_mpi.io.durable import fsync_directory, naming, replace_file, temporary_of
from radps_mpi.io.manifest import previous_of
from radps_mpi.io.run_lock import LOCK_NAME, RunLock
from radps_mpi.io.run_status import (
    PROVENANCE_NAME,
    STATUS_NAME,
    Status,
    now_text,
    read_provenance,
    read_small,
    run_directory_of,
)
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm

CONFIG_NAME = "config.toml"
CONVERGENCE_NAME = "convergence.csv"
LOGS_NAME = "logs"


class RunDirectory:
    """An existing run directory that this job holds the lock of. Files in it are named through :meth:`path`."""

    def __init__(self, root: Path, lock: RunLock) -> None:
        self.root = root
        self._lock = lock

    @classmethod
    def open(cls, comm: Comm, imagename: str, *, job_id: str = "", break_lock: bool = False) -> RunDirectory:
        """Create or enter ``<imagename>.radps`` and lock it for this job. Collective.

        ``job_id``: of the batch system, "" for its environment variable; ``break_lock``: the user vouches that the
        holder on another host is dead.

        Raises
        ------
        UsageError
            If another run holds it (who, and how to break a stale lock), or the name can't be a run directory's.
        StorageError
            If the directory can't be created.
        """
        root = run_directory_of(imagename)
        on_root(comm, f"creating {root}", lambda: _create(root))
        lock = RunLock(root, job_id)
        on_root(comm, f"locking {root}", lambda: lock.acquire(break_lock=break_lock))
        try:
            on_root(comm, "clearing the run directory", lambda: _remove_half_written(root))
            with all_or_none(comm, f"locking {root}"):
                lock.join()
        except BaseException:
            lock.release()
            raise
        return cls(root, lock)

    def path(self, name: str) -> Path:
        """The path of a file in the directory. UsageError if ``name`` would leave it."""
        return contained(self.root, name)

    @property
    def logs(self) -> Path:
        """Directory of the ranks' logs."""
        return self.root / LOGS_NAME

    def write_config(self, text: str) -> None:
        """Keep the resolved configuration. For one process."""
        replace_file(self.root / CONFIG_NAME, text.encode())

    def read_config(self) -> str | None:
        """The configuration kept by an earlier run, or None."""
        data = read_small(self.root / CONFIG_NAME)
        return None if data is None else data.decode(errors="replace")

    def write_status(self, status: Status) -> None:
        """Replace status.json at once; readers never see half of it. Not flushed: it is news, not state. For one
        process."""
        replace_file(self.root / STATUS_NAME, _json(asdict(status)), durable=False)

    def write_convergence(self, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        """Replace convergence.csv by the whole history, so that a resumed run repeats no row. For one process."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(list(columns))
        writer.writerows(list(row) for row in rows)
        replace_file(self.root / CONVERGENCE_NAME, text.getvalue().encode(), durable=False)

    def add_event(self, event: str, **details: Any) -> None:
        """Append to provenance.json: what happened, when, with plain values. A damaged file is set aside. For one
        process."""
        path = self.root / PROVENANCE_NAME
        try:
            events = read_provenance(self.root)
        except DataError:
            with naming(path, "setting it aside"):
                os.replace(path, path.with_name(path.name + ".damaged"))
            events = []
        events.append({"time": now_text(), "event": event, **details})
        replace_file(path, _json(events))

    def close(self) -> None:
        """Release the lock. Every rank."""
        self._lock.release()


def contained(root: Path, name: str) -> Path:
    """``root / name``, if that is inside ``root`` whatever dots and links there are. UsageError otherwise."""
    inside = root.resolve()
    target = (inside / name).resolve() if name and "\x00" not in name else inside
    if target == inside or not target.is_relative_to(inside):
        raise UsageError(f"{name!r} leads out of the run directory {root}")
    return root / name


def _create(root: Path) -> None:
    with naming(root, "creating the run directory"):
        if root.is_symlink():
            raise UsageError(f"{root} is a symbolic link: run directories have to be real ones")
        if root.exists():
            if not root.is_dir():
                raise UsageError(f"{root} exists and isn't a directory")
            if any(root.iterdir()) and not (root / LOCK_NAME).exists():
                raise UsageError(f"{root} exists and isn't a run directory of radps (no file {LOCK_NAME} in it)")
        root.mkdir(exist_ok=True)
        (root / LOCK_NAME).touch()  # first: what marks the directory as ours if a kill comes next
        faults.reach("run-directory")
        if (root / LOGS_NAME).is_symlink():
            raise UsageError(f"{root / LOGS_NAME} is a symbolic link: it would lead out of the run directory")
        (root / LOGS_NAME).mkdir(exist_ok=True)
        fsync_directory(root.parent)


def _remove_half_written(root: Path) -> None:
    """What jobs that were killed amid the replacement of a file have left."""
    replaced = [root / n for n in (CONFIG_NAME, STATUS_NAME, CONVERGENCE_NAME, PROVENANCE_NAME, MANIFEST_NAME)]
    for path in (*replaced, previous_of(root / MANIFEST_NAME)):
        remains = temporary_of(path)
        with naming(remains, "removing it"):
            remains.unlink(missing_ok=True)


def _json(value: Mapping[str, Any] | list[dict[str, Any]]) -> bytes:
    return json.dumps(value, indent=1, default=str).encode() + b"\n"
