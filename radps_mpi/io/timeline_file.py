"""The timeline of a run as one JSON file in the Trace Event Format, which ui.perfetto.dev and chrome://tracing show.

One process per rank, complete events ("ph": "X") in microseconds since the run began; "dur" is what they took on the wall,
"tdur" the processor time. Format: the document "Trace Event Format" of the Chromium project.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radps_mpi.io.durable import naming, write_at
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.exchange import gather_everywhere
from radps_mpi.parallel.types import Comm
from radps_mpi.timeline import Span


def write_timeline(comm: Comm, path: Path, spans: Sequence[Span]) -> None:
    """Write every rank's ``spans`` into one file; collective.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    mine = _events(comm.rank, comm.size, spans)
    sizes = gather_everywhere(comm, np.array([len(mine)], np.int64))
    partial = path.with_name(path.name + ".partial")

    def create() -> None:
        with naming(partial, "creating it", int(sizes.sum())), open(partial, "wb") as file:
            file.truncate(int(sizes.sum()))

    on_root(comm, f"creating {partial}", create)
    with all_or_none(comm, f"writing {partial}"), naming(partial, "writing it", int(sizes.sum())):
        fd = os.open(partial, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            write_at(fd, mine, int(sizes[: comm.rank].sum()))
        finally:
            os.close(fd)
    on_root(comm, f"putting {path} in place", lambda: _put_in_place(partial, path))


def _put_in_place(partial: Path, path: Path) -> None:
    with naming(path, "putting it in place"):
        os.replace(partial, path)


def _events(rank: int, nrank: int, spans: Sequence[Span]) -> bytes:
    """This rank's part of the file; rank 0's opens the document, the last one's closes it."""
    label = {"name": f"rank {rank} on {socket.gethostname()}"}
    events: list[dict[str, Any]] = [{"name": "process_name", "ph": "M", "pid": rank, "tid": 0, "args": label}]
    for what, start_s, wall_s, cpu_s, details in spans:
        times = {"ts": round(1e6 * start_s, 1), "dur": round(1e6 * wall_s, 1), "tdur": round(1e6 * cpu_s, 1)}
        events.append({"name": what, "ph": "X", "pid": rank, "tid": 0, **times, "args": details})
    text = ",\n".join(json.dumps(event) for event in events)
    opening = '{"displayTimeUnit": "ms", "traceEvents": [\n' if rank == 0 else ",\n"
    return (opening + text + ("\n]}\n" if rank == nrank - 1 else "")).encode()
