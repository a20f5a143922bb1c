"""What can be told about a run from its directory, without MPI and without disturbing it: ``radps status``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radps_mpi.errors import DataError, StorageError, UsageError
from radps_mpi.io.durable import open_regular
from radps_mpi.io.run_lock import Holder, read_holder

SUFFIX = ".radps"
STATUS_NAME = "status.json"
PROVENANCE_NAME = "provenance.json"
MAX_SIDE_FILE_BYTES = 1 << 26
"""Sanity limit for reading back status, configuration and provenance."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


def now_text() -> str:
    """The present time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run is, for people and for ``radps status``. ``done`` of ``total`` channels of the phase; ``eta_s``
    seconds until the end of the phase, None if unknown; ``peak_jy`` the largest residual, Jy/beam; times ISO 8601
    UTC."""

    phase: str
    cycle: int = 0
    done: int = 0
    total: int = 0
    eta_s: float | None = None
    peak_jy: float | None = None
    iterations: int = 0
    ranks: int = 1
    message: str = ""
    updated: str = field(default_factory=now_text)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """``status`` as last written (None before the first time), ``running``: whether a process holds the run's lock
    (None if that can't be told from this host), ``holder`` of the lock file if there is one."""

    status: Status | None
    running: bool | None
    holder: Holder | None


def run_directory_of(imagename: str) -> Path:
    """``<imagename>.radps``. UsageError naming the image if that can't be a directory."""
    if not imagename or imagename.endswith(("/", "/.", "/..")) or imagename in (".", ".."):
        raise UsageError(f"imagename {imagename!r} doesn't name a file")
    if _CONTROL_CHARACTERS.search(imagename):
        raise UsageError(f"imagename {imagename!r} holds control characters")
    root = Path(imagename + SUFFIX)
    if not root.parent.is_dir():
        raise UsageError(f"imagename {imagename!r}: there is no directory {root.parent}")
    return root.absolute()


def read_status(root: Path) -> StatusReport:
    """What is known about a run from its directory, whether it runs or not.

    Raises
    ------
    DataError
        If there is no such run directory or status.json isn't one.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such run directory")
    data = read_small(root / STATUS_NAME)
    holder, running = read_holder(root)
    return StatusReport(None if data is None else _parse_status(data, root / STATUS_NAME), running, holder)


def _parse_status(data: bytes, path: Path) -> Status:
    try:
        values = json.loads(data)
        known = {entry.name for entry in fields(Status)}
        status = Status(**{key: value for key, value in values.items() if key in known})
        if not all(_is_of_kind(getattr(status, entry.name), str(entry.type)) for entry in fields(Status)):
            raise ValueError("an entry is of another kind than it should be")
        return status
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a status file: {error}") from error


def _is_of_kind(value: Any, declared: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,), "int": (int,), "float | None": (int, float, type(None)),
    }
    return isinstance(value, kinds[declared]) and not isinstance(value, bool)


def read_provenance(root: Path) -> list[dict[str, Any]]:
    """The events of a run, oldest first. DataError if provenance.json is damaged."""
    path = root / PROVENANCE_NAME
    data = read_small(path)
    try:
        events = [] if data is None else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged: {error}") from error
    if not isinstance(events, list):
        raise DataError(f"{path}: not a list of events")
    return events


def read_small(path: Path) -> bytes | None:
    """The content of a side file, None if there is none. DataError if it is too long to be one, or no file."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_SIDE_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror} while reading it") from error
    if len(data) > MAX_SIDE_FILE_BYTES:
        raise DataError(f"{path}: more than {MAX_SIDE_FILE_BYTES} bytes: not a file of radps")
    return data
