"""How far an ingest is, beside its partial store: one that was stopped or killed goes on from its last finished row chunk.

``<store>.partial.progress`` is a line of JSON and one with its checksum, replaced at once after the chunks that it tells of are
on the disk. It counts for the very same request only: the same MeasurementSets, unchanged, the same selections, the same
format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import DataError
from radps_mpi.io.durable import checksum, naming, replace_file, temporary_of
from radps_mpi.io.run_status import read_small
from radps_mpi.io.selection import Selection
from radps_mpi.io.visibility_store import VERSION as STORE_VERSION

VERSION = 3


@dataclass(slots=True)
class TurnProgress:
    """Of one observation: row chunks that are done, and what was counted in them, over all ranks."""

    chunks: int = 0
    listed: list[str] = field(default_factory=list)
    """Of each chunk, the checksum of its list of rows in ascending order: a flipped bit would choose another row."""
    counts: dict[str, int] = field(default_factory=dict)
    samples: list[list[int]] = field(default_factory=list)
    """(nchan, npol) good samples."""
    time_spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last time index of each chunk that is done."""
    max_uv_m: float = 0.0
    max_w_m: float = 0.0


def progress_path(partial: Path) -> Path:
    """Where the progress of a partial store is kept."""
    return partial.with_name(partial.name + ".progress")


def request_key(sources: Sequence[str], selections: Sequence[Selection], row_chunk: int) -> str:
    """Of everything that an ingest's result depends on; MeasurementSets by their files' names, sizes and times, those of their
    subtables too: frequencies and names, by which channels and antennas are chosen, stand there."""
    parts: list[Any] = [STORE_VERSION, row_chunk, *map(repr, selections)]
    for source in sources:
        with os.scandir(source) as entries:
            subtables = sorted(entry.path for entry in entries if entry.is_dir())
        parts.append((os.path.abspath(source), [_files_of(folder) for folder in (source, *subtables)]))
    return _hex(repr(parts).encode(errors="surrogateescape"))


def _files_of(folder: str) -> tuple[str, list[tuple[str, int, int]]]:
    """A table's name and its files, but for its lock, which readers may write."""
    with os.scandir(folder) as entries:
        files = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file() and e.name != "table.lock"]
    return os.path.basename(folder), sorted(files)


def _hex(data: bytes) -> str:
    return bytes(checksum(np.frombuffer(data, np.uint8))).hex()


def list_checksum(listed: NDArray[np.int64]) -> str:
    """Of a chunk's row numbers, ascending."""
    return _hex(np.ascontiguousarray(listed, "<i8").tobytes())


def save(partial: Path, key: str, observations: Sequence[TurnProgress]) -> None:
    """Keep the progress; by one process, when the data are on the disk.

    Raises
    ------
    StorageError
        If the file system refuses; the progress kept before stays.
    """
    text = json.dumps({"version": VERSION, "key": key, "observations": [asdict(o) for o in observations]})
    replace_file(progress_path(partial), f"{text}\n{_hex(text.encode())}\n".encode())


def load(partial: Path, key: str, nobservation: int) -> list[TurnProgress] | None:
    """The progress of the partial store, None if there is none of this request, or it is damaged: then ingest starts over."""
    try:
        kept = read_small(progress_path(partial)) if partial.is_file() else None
        if kept is None:
            return None
        text, digest = kept.split(b"\n")[:2]
        if _hex(text).encode() != digest:
            return None
        stored = json.loads(text)
        if (stored["version"], stored["key"]) != (VERSION, key) or len(stored["observations"]) != nobservation:
            return None
        return [TurnProgress(**observation) for observation in stored["observations"]]
    except (DataError, ValueError, KeyError, TypeError):
        return None


def forget(partial: Path) -> None:
    """The store is complete, or its ingest has failed. StorageError if the file system refuses."""
    for path in (progress_path(partial), temporary_of(progress_path(partial))):
        with naming(path, "removing it"):
            path.unlink(missing_ok=True)
