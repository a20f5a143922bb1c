"""Ingest, MeasurementSet to visibility store, against a raw sequential read of the same files, both from a cold cache.

    python benchmarks/ingest.py [--scale toy|small|full] [--ranks 1]

Before each run the files' pages are written out and dropped from the page cache (posix_fadvise), so all read the disk. The
raw read takes the bytes of all files of the MeasurementSet in 16 MiB pieces. An ingest writes as many bytes as it reads, so
the files are also copied, in such pieces and to stable storage: "copied MB/s" is what this disk gives to reading and writing.
full: a set larger than this machine's memory, which takes twice as much disk. Wall time counts; rates are bytes of the
MeasurementSet over it. The store must hold what the simulation wrote.
"""

from __future__ import annotations

import math
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
LARGER_THAN_MEMORY = 1.05
"""Bytes of the full-sized set over those of the host's memory."""
BYTES_PER_SAMPLE = 8.125
"""Of a MeasurementSet: a visibility and its flag, which is a bit."""
MOST_INTEGRATIONS = 700
"""How many of the simulation fit into the hours that the source is up; a larger set has more channels."""


def observation_of(scale: str) -> Observation:
    """What is ingested."""
    if scale != "full":
        return {"toy": Observation(8, 8, 6), "small": Observation(256)}[scale]
    wanted_bytes = LARGER_THAN_MEMORY * machine.memory_of_host_bytes()[0]
    integrations = wanted_bytes / (Observation(1024, nintegration=1).nrow * 1024 * 2 * BYTES_PER_SAMPLE)
    times = math.ceil(integrations / MOST_INTEGRATIONS)
    return Observation(1024 * times, nintegration=int(integrations / times))


def simulated(launcher: str, folder: Path, observation: Observation) -> tuple[Path, Path]:
    """A MeasurementSet, and a file of what :func:`last_channel` finds in the store that it was made from; made once. The store
    itself isn't kept: at full scale there is hardly a disk for three copies of the data."""
    table, expected = folder / f"{observation.name}.ms", folder / f"{observation.name}.last_channel.npy"
    if not (table.exists() and expected.exists()):
        store, _ = simulate(launcher, folder, observation, ms=True)
        half_written = expected.with_suffix(".tmp.npy")
        np.save(half_written, last_channel(store))
        half_written.replace(expected)
        store.unlink()
    return table, expected


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


def copy_raw(paths: list[Path], target: Path) -> None:
    """One file after another into one, to stable storage."""
    piece = memoryview(bytearray(PIECE_BYTES))
    with open(target, "wb", buffering=0) as out:
        for path in paths:
            with open(path, "rb", buffering=0) as f:
                while count := f.readinto(piece):
                    out.write(piece[:count])
        os.fsync(out.fileno())


def last_channel(path: Path) -> Any:
    """Its visibilities of every row."""
    with VisibilityStore.open(path) as store:
        meta = store.observations[0]
        return store.read(0, meta.nchan - 1, meta.nchan, 0, meta.nrow)


def require_same_data(expected: Path, ingested: Path, nchan: int) -> None:
    """The number of channels, and the last one of every row."""
    with VisibilityStore.open(ingested) as store:
        require(store.observations[0].nchan == nchan, "the store has another number of channels")
    require(np.array_equal(np.load(expected), last_channel(ingested), equal_nan=True), "visibilities changed on their way")


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """A bar each."""
    axes.bar(["ingest", "raw read", "copied"], [rows[0][f"{what} MB/s"] for what in ("ours", "theirs", "copied")])
    axes.set_ylabel("MB/s of the MeasurementSet")


def main() -> None:
    p = parser(__doc__)
    add_launcher(p)
    p.add_argument("--ranks", type=int, default=1)
    arguments = p.parse_args()
    observation = observation_of(arguments.scale)
    folder = arguments.output / "data" / "ingest"  # its own: other benchmarks keep the stores that their sets are made from
    table, expected = simulated(arguments.launcher, folder, observation)
    files, copy = files_of(table), folder / "ingested.vis.h5"

    def ours() -> Timing:
        copy.unlink(missing_ok=True)
        drop_from_cache(files)
        return radps(arguments.launcher, arguments.ranks, ["ingest", table, "-o", copy]).timing

    def theirs() -> Timing:
        drop_from_cache(files)
        return timed(lambda: read_raw(files))

    repeats = repeats_of(arguments) if arguments.scale != "full" else arguments.repeats or 3
    row = alternate(ours, theirs, repeats, warm_up=arguments.scale == "small").columns()
    require_same_data(expected, copy, observation.nchan)
    copy.unlink()
    drop_from_cache(files)
    copied = timed(lambda: copy_raw(files, copy))
    copy.unlink()
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    row = {
        "MB": megabytes, "ranks": arguments.ranks, "ours MB/s": megabytes / row["ours wall"],
        "theirs MB/s": megabytes / row["theirs wall"], "copied MB/s": megabytes / copied.wall_s, "target": TARGET,
    } | row  # fmt: skip
    print("theirs is the raw read; 'wall x' is our share of its rate")
    finish("ingest", arguments, [row], draw)


if __name__ == "__main__":
    main()
