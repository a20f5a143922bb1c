"""Several images one after the other in one job: ``mpirun -n N python -m mpi4py cubes_job.py WORK.json``.

WORK.json holds a list of ``{"inputs": [...], "imagename": ..., parameters}``. A launch costs a second per rank, so tests
of many configurations share it; and this is how a user's own script calls the program. Besides parameters an entry may have
``stop_at``, a point of radps_mpi.faults at which the job is asked to stop, and must; ``block_pixels``, the pixels of a block's
planes above which it has fewer lanes; and ``resume`` instead of inputs, a run to be gone on with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from radps_mpi import decomposition, faults, make_cube, pipeline
from radps_mpi.errors import OutOfTimeError
from radps_mpi.parallel import world

BLOCK_PIXELS = decomposition._BLOCK_PIXELS


def image(entry: dict[str, Any]) -> None:
    decomposition._BLOCK_PIXELS = entry.pop("block_pixels", None) or BLOCK_PIXELS
    faults.arm(stop_at := entry.pop("stop_at", ""))
    try:
        if imagename := entry.pop("resume", ""):
            pipeline.resume(imagename, world())
        else:
            make_cube(entry.pop("inputs"), **entry)
    except OutOfTimeError:
        if not stop_at:
            raise
    else:
        assert not stop_at, f"{stop_at} was not reached"


def main() -> None:
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        image(entry)


if __name__ == "__main__":
    main()
