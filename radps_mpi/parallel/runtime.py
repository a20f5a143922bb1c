"""Start-up: the communicator, named once, and the check that the launcher and the MPI library are of one family."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from types import TracebackType

from mpi4py import MPI

from radps_mpi.errors import EXIT_FAILURE, RadpsError

_LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")
"""The first that is set counts. The last is for srun without a plugin of our MPI: under mpirun it is the number of its daemons.
Not SLURM_NTASKS: that is the job's, in which one process may be right."""

_LAST_WORDS_S = 0.5
"""Time for the launcher to pass on what was written: it drops the rest when a job aborts."""


def world() -> MPI.Intracomm:
    """The communicator of the whole job. Nothing else in the program names COMM_WORLD.

    Raises
    ------
    RadpsError
        If the launcher started more processes than MPI sees: mpirun of one MPI with the library of another makes every
        process rank 0 of 1, and each would image the whole cube over the others' files.
    """
    comm: MPI.Intracomm = MPI.COMM_WORLD
    name = next((name for name in _LAUNCHER_SIZES if os.environ.get(name, "").isdigit()), None)
    if name and int(os.environ[name]) > comm.size:
        raise RadpsError(
            f"the launcher started {os.environ[name]} processes ({name}) but MPI sees {comm.size}: launcher and MPI "
            f"library that mpi4py loaded ({MPI.Get_library_version().splitlines()[0][:60]}) are of different families"
        )
    return comm


def abort_on_uncaught_errors(comm: MPI.Intracomm) -> None:
    """Install an excepthook that prints rank and traceback and aborts the whole job.

    Without it a rank that dies leaves the others waiting in their next collective call forever.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        with suppress(OSError):  # nothing may keep this rank from ending the job
            sys.stderr.write(f"radps: uncaught error on rank {comm.rank} of {comm.size}\n{text}")
            sys.stderr.flush()
        if comm.size > 1:
            time.sleep(_LAST_WORDS_S)
            comm.Abort(EXIT_FAILURE)

    sys.excepthook = hook


def library_version() -> str:
    """First line of the MPI library's own version text."""
    return MPI.Get_library_version().splitlines()[0].strip().rstrip("\0")  # some end with it
