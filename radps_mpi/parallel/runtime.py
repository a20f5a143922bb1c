"""Start-up: the communicator, named once, and the check that the launcher and the MPI library are of one family."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from mpi4py import MPI

from radps_mpi.errors import EXIT_FAILURE, RadpsError

_LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")
"""The last for srun without a plugin of our MPI. Not SLURM_NTASKS: it is that of the job, in which one process may be right;
under mpirun the step has a task per node, never more than there are ranks."""


def world() -> MPI.Intracomm:
    """The communicator of the whole job. Nothing else in the program names COMM_WORLD.

    Raises
    ------
    RadpsError
        If the launcher started more processes than MPI sees: mpirun of one MPI with the library of another makes every
        process rank 0 of 1, and each would image the whole cube over the others' files.
    """
    comm: MPI.Intracomm = MPI.COMM_WORLD
    for name in _LAUNCHER_SIZES:
        declared = os.environ.get(name, "")
        if declared.isdigit() and int(declared) > comm.size:
            raise RadpsError(
                f"the launcher started {declared} processes ({name}) but MPI sees {comm.size}: launcher and MPI library "
                f"that mpi4py loaded ({MPI.Get_library_version().splitlines()[0][:60]}) are of different families"
            )
    return comm


def abort_on_uncaught_errors(comm: MPI.Intracomm) -> None:
    """Install an excepthook that prints rank and traceback and aborts the whole job.

    Without it a rank that dies leaves the others waiting in their next collective call forever.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(f"radps: uncaught error on rank {comm.rank} of {comm.size}\n{text}")
        sys.stderr.flush()
        if comm.size > 1:
            comm.Abort(EXIT_FAILURE)

    sys.excepthook = hook


def library_version() -> str:
    """First line of the MPI library's own version text."""
    return MPI.Get_library_version().splitlines()[0].strip()
