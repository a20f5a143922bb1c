"""Handing scripts to sbatch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from radps_mpi.errors import RadpsError, UsageError

_PATIENCE_S = 120.0
"""Longest wait for sbatch, which itself asks a busy controller again and again."""

_OF_THIS_PROCESS = "MPI4PY_RC"
"""Variables that keep MPI from starting here must not keep it from starting in the job."""


def submit(script: Path, options: Sequence[str] = (), folder: Path | None = None) -> str:
    """The number of the job. ``folder`` is that of submission, this process's where it is None.

    Raises
    ------
    UsageError
        Where there is no sbatch.
    RadpsError
        With what Slurm says, if it refuses.
    """
    # The interpreter's own variables: MPI's start has put others into the process, which a job must not inherit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THIS_PROCESS)}
    command = ["sbatch", "--parsable", *options, os.path.abspath(script)]
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S,
                              check=False)  # fmt: skip
    except FileNotFoundError:
        raise UsageError(f"there is no sbatch here; {script} is written, submit it where Slurm is") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise RadpsError(f"sbatch: {error}; {script} is written") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise RadpsError(f"sbatch refuses {script}: {said.removeprefix('sbatch: ').removeprefix('error: ')}")
    return done.stdout.strip().partition(";")[0]
