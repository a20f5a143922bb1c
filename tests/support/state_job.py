"""A stand-in for the imaging loop, to be killed: planes are known functions of channel and cycle.

``mpirun -n N python -m mpi4py state_job.py DIRECTORY CYCLES``: resumes (or starts) a state of 20 channels of 64 x 64,
checks every plane that is committed against its function, goes on to CYCLES cycles, and prints one JSON line with what
it found at the start and the hash of what is there at the end. Commits after every block of channels; journal.txt
counts them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from radps_mpi.io import commit as commits
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import IMAGED, PSF_DONE
from radps_mpi.parallel import any_rank, world

NCHAN, NY, NX, BLOCK = int(os.environ.get("NCHAN", "20")), 64, 64, 4


def plane(name: str, chan: int, cycle: int) -> np.ndarray:
    """The one right content of a plane."""
    generator = np.random.default_rng([hash_of(name), chan, cycle])
    values = generator.standard_normal((NY, NX), np.float32)
    return (values > 0).astype(np.uint8) if name == "mask" else values


def hash_of(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode()) & 0xFFFF


def wrong_planes(state: Checkpoint, chans: range) -> tuple[list[str], list[int], int]:
    """Planes that differ from their functions; cycles of the channels; how many residuals have to be made again."""
    wrong, cycles, torn = [], [], 0
    for chan in chans:
        found = state.load(chan)
        cycle = int(found.record["cycle"])
        cycles.append(cycle)
        model = plane("model", chan, cycle) if cycle else np.zeros((NY, NX), np.float32)
        if not np.array_equal(found.model, model):
            wrong.append(f"model {chan}")
        if cycle and not np.array_equal(found.mask, plane("mask", chan, cycle)):
            wrong.append(f"mask {chan}")
        if found.residual is None:
            torn += 1
        elif not np.array_equal(found.residual, plane("residual", chan, cycle)):
            wrong.append(f"residual {chan}")
        psf = state.read_psf(chan)
        if psf is not None and not np.array_equal(psf, plane("psf", chan, 0)):
            wrong.append(f"psf {chan}")
        if found.rewound_from is not None or found.record["iterations"] != 100 * cycle:
            wrong.append(f"record {chan}")
    return wrong, cycles, torn


def advance(state: Checkpoint, chan: int) -> None:
    """One channel, one step: PSF first, then a cycle."""
    record = state.record(chan)
    if state.read_psf(chan) is None:
        state.stage(chan, psf=plane("psf", chan, 0), residual=plane("residual", chan, 0), status=PSF_DONE, sumwt=chan)
        return
    cycle = int(record["cycle"]) + 1
    state.stage(chan, model=plane("model", chan, cycle), mask=plane("mask", chan, cycle),
                residual=plane("residual", chan, cycle), status=IMAGED, iterations=100 * cycle)


def main(directory: Path, cycles: int, slow_s: float) -> None:
    comm = world()
    (directory / f"pid{comm.rank}").write_text(str(os.getpid()))
    if commits.exists(directory):
        state = Checkpoint.open(comm, directory)
    else:
        state = Checkpoint.create(comm, directory, {"cycle": 0}, (NCHAN, NY, NX))
    mine = range(comm.rank, NCHAN, comm.size)
    parts = comm.gather(wrong_planes(state, mine))
    start = int(state.header["commit"])
    while any_rank(comm, any(unfinished(state, chan, cycles) for chan in mine)):
        for chan in [c for c in mine if unfinished(state, c, cycles)][:BLOCK]:
            advance(state, chan)
            time.sleep(slow_s)
        number = state.commit({"cycle": int(state.table["cycle"].min())})
        if comm.rank == 0:
            with open(directory / "journal.txt", "a") as journal:
                journal.write(f"{number}\n")
    end = comm.gather(wrong_planes(state, mine))
    digest = xxhash.xxh3_128_hexdigest(state.table["model_sum"].tobytes() + state.table["residual_sum"].tobytes()
                                       + state.table["mask_sum"].tobytes() + state.table["psf_sum"].tobytes())
    if comm.rank == 0:
        print(json.dumps({"commit": start, "wrong": joined(p[0] for p in parts), "notes": state.notes,
                          "cycles": sorted(joined(p[1] for p in parts)), "torn": sum(p[2] for p in parts),
                          "wrong_at_end": joined(p[0] for p in end), "digest": digest}), flush=True)
    state.close()


def joined(lists: Iterable[list[Any]]) -> list[Any]:
    return [entry for part in lists for entry in part]


def unfinished(state: Checkpoint, chan: int, cycles: int) -> bool:
    return int(state.record(chan)["cycle"]) < cycles or not np.any(state.record(chan)["psf_sum"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(os.environ.get("SLOW_S", "0")))
