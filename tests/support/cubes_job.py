"""Several images one after the other in one job: ``mpirun -n N python -m mpi4py cubes_job.py WORK.json``.

WORK.json holds a list of ``{"inputs": [...], "imagename": ..., parameters}``. A launch costs a second per rank, so tests
of many configurations share it; and this is how a user's own script calls the program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from radps_mpi import make_cube


def main() -> None:
    for parameters in json.loads(Path(sys.argv[1]).read_text()):
        make_cube(parameters.pop("inputs"), **parameters)


if __name__ == "__main__":
    main()
