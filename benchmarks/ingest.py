"""Ingest, MeasurementSet to visibility store, against a raw sequential read of the same files, both from a cold cache.

    python benchmarks/ingest.py [--scale toy|small|full] [--ranks 1]

Before each run the files' pages are written out and dropped from the page cache (posix_fadvise), so both read the disk. The
raw read takes the bytes of all files of the MeasurementSet in 16 MiB pieces. full: a set larger than this machine's memory.
Wall time counts; rates are bytes of the MeasurementSet over it. The store must hold what the simulation wrote.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, Timing, alternate, finish, parser, repeats_of, require, timed
from programs import Observation, add_launcher, radps, simulate

from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.planning import machine

PIECE_BYTES = 16 << 20
TARGET = 0.5


def observation_of(scale: str) -> Observation:
    """What is ingested; bytes are about 16 per sample of a row."""
    if scale != "full":
        return {"toy": Observation(8, 8, 6), "small": Observation(256)}[scale]
    wanted = 1.2 * machine.memory_of_host_bytes()[0]
    one = Observation(1024, nintegration=1)
    return Observation(1024, nintegration=int(wanted / (one.nrow * one.nchan * 2 * 8)))


def files_of(table: Path) -> list[Path]:
    """All files of a MeasurementSet."""
    return sorted(path for path in table.rglob("*") if path.is_file())


def drop_from_cache(paths: list[Path]) -> None:
    """Pages that are not yet on the disk can't be dropped, so they are written first."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_raw(paths: list[Path]) -> int:
    """Bytes read, one file after another."""
    piece, total = bytearray(PIECE_BYTES), 0
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while count := f.readinto(piece):
                total += count
    return total


def require_same_data(made: Path, ingested: Path) -> None:
    """The last channel of every row, and where the rows are."""
    with VisibilityStore.open(made) as a, VisibilityStore.open(ingested) as b:
        meta, other = a.observations[0], b.observations[0]
        require((meta.nchan, meta.nrow) == (other.nchan, other.nrow), "the store has another size")
        channels = meta.nchan - 1, meta.nchan
        vis, found = (store.read(0, *channels, 0, meta.nrow) for store in (a, b))
        require(np.array_equal(vis, found, equal_nan=True), "visibilities changed on their way")


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Two bars."""
    axes.bar(["ingest", "raw read"], [rows[0]["ours MB/s"], rows[0]["theirs MB/s"]])
    axes.set_ylabel("MB/s of the MeasurementSet")


def main() -> None:
    p = parser(__doc__)
    add_launcher(p)
    p.add_argument("--ranks", type=int, default=1)
    arguments = p.parse_args()
    observation = observation_of(arguments.scale)
    store, table = simulate(arguments.launcher, arguments.output / "data", observation, ms=True)
    files, copy = files_of(table), arguments.output / "data" / "ingested.vis.h5"

    def ours() -> Timing:
        copy.unlink(missing_ok=True)
        drop_from_cache(files)
        return radps(arguments.launcher, arguments.ranks, ["ingest", table, "-o", copy]).timing

    def theirs() -> Timing:
        drop_from_cache(files)
        return timed(lambda: read_raw(files))

    repeats = repeats_of(arguments) if arguments.scale != "full" else arguments.repeats or 3
    row = alternate(ours, theirs, repeats, warm_up=arguments.scale == "small").columns()
    require_same_data(store, copy)
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    row = {
        "MB": megabytes, "ranks": arguments.ranks, "ours MB/s": megabytes / row["ours wall"],
        "theirs MB/s": megabytes / row["theirs wall"], "target": TARGET,
    } | row  # fmt: skip
    copy.unlink()
    print("theirs is the raw read; 'wall x' is our share of its rate")
    finish("ingest", arguments, [row], draw)


if __name__ == "__main__":
    main()
