"""Several commands one after the other in one job: ``mpirun -n N python -m mpi4py commands_job.py WORK.json FOLDER``.

WORK.json holds a list of argument lists. Each rank appends to ``FOLDER/rankR.jsonl`` one JSON object per command: the exit
status that its process would have had, and what it wrote to stderr. A launch costs a second per rank; dozens of bad inputs
share it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from mpi4py import MPI

from radps_mpi import __main__ as program

# A rank with a usage error stays until the launcher, told by the first rank, kills it; here all go on with the next command.
program._PATIENCE_S = 0.0


def run_all(work: list[list[str]], folder: Path) -> None:
    with open(folder / f"rank{MPI.COMM_WORLD.rank}.jsonl", "w", buffering=1) as report:
        for arguments in work:
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                status = program.main(arguments)
            report.write(json.dumps({"status": status, "stderr": stderr.getvalue()}) + "\n")
            MPI.COMM_WORLD.Barrier()


if __name__ == "__main__":
    run_all(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
