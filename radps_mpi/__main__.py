"""The program: arguments -> a command -> an exit status that is right on every rank.

Works as ``radps``, ``python -m radps_mpi`` and ``python -m mpi4py -m radps_mpi``, with and without mpirun in front.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from radps_mpi import alarm, cli, streams
from radps_mpi.errors import EXIT_OK, RadpsError, StorageError, printable
from radps_mpi.launcher import launcher_rank

if TYPE_CHECKING:
    from radps_mpi.parallel.types import Comm

_PATIENCE_S = 5.0
"""How long a rank with an error waits for the others to have it too before it ends the job; an error that all ranks
share reaches them within the skew of one collective call."""

_EXIT_INTERRUPTED = 130
_EXIT_BROKEN_PIPE = 141
"""128 + SIGINT and 128 + SIGPIPE, as shells report them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (the program's own arguments where None); returns the exit status."""
    streams.open_closed_streams()
    try:
        return _main(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:  # the reader of our output has gone (`radps hash x | head -1`)
        return _EXIT_BROKEN_PIPE
    finally:
        streams.let_go_of_what_cannot_be_written()


def _main(argv: Sequence[str]) -> int:
    try:
        command = cli.parse(argv)
    except RadpsError as error:
        return _refuse(error)
    try:
        return _run(command)
    except RadpsError as error:
        if launcher_rank() == 0:
            _report(str(error), error.label)
        return error.exit_status
    except KeyboardInterrupt:
        _report("interrupted")
        return _EXIT_INTERRUPTED


def _refuse(error: RadpsError) -> int:
    """The status of an error that every rank finds by itself, before MPI: rank 0 reports it.

    The others leave it the time to: launchers kill all ranks when the first one exits with an error.
    """
    if launcher_rank() == 0:
        _report(str(error), error.label)
    else:
        time.sleep(_PATIENCE_S)
    return error.exit_status


def _run(command: cli.Command) -> int:
    if command.ranks == "all":
        return _run_together(command)
    if launcher_rank() != 0:
        return EXIT_OK
    # Some of what these commands import imports mpi4py; MPI must not start, on a login node it may not even be able to.
    os.environ.setdefault("MPI4PY_RC_INITIALIZE", "false")
    return command.run(None)


def _run_together(command: cli.Command) -> int:
    """Run a collective command on the whole job."""
    try:
        os.getcwd()
    except OSError as error:
        raise StorageError(f"the present folder: {error.strerror}; go to one that is there") from error
    try:
        from radps_mpi.parallel import abort_on_uncaught_errors, world
    except ImportError as error:
        raise RadpsError(f"mpi4py can't be loaded ({error}): load the MPI module, or run jobs/setup.sh") from error
    comm = world()
    abort_on_uncaught_errors(comm)
    errors = comm.Dup()  # a channel of its own, on which no healthy rank is in the middle of another call
    # Around the report of an error too: a late second signal must not replace the status of a job that is about to leave.
    with alarm.listening() if command.stops_in_time else nullcontext():
        return _run_on(comm, errors, command)


def _run_on(comm: Comm, errors: Comm, command: cli.Command) -> int:
    try:
        return command.run(comm)
    except RadpsError as error:
        return fail_together(errors, error)
    except (KeyboardInterrupt, BrokenPipeError) as stop:
        if comm.size == 1:
            raise
        _report(f"rank {comm.rank}: {type(stop).__name__}")
        comm.Abort(_EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else _EXIT_BROKEN_PIPE)
        raise


def fail_together(comm: Comm, error: RadpsError, patience_s: float = _PATIENCE_S) -> int:
    """Report ``error`` once and return its exit status if all ranks of ``comm`` come here; else end the whole job.

    Rank 0 speaks for all. A rank that is alone with its error would leave the others waiting for it forever, so after
    ``patience_s`` it says what is wrong and aborts.
    """
    if comm.rank == 0:
        _report(str(error), error.label)
    if not _all_arrive(comm, patience_s):
        if comm.rank != 0:
            _report(f"rank {comm.rank}: {error}")
        comm.Abort(error.exit_status)
    return error.exit_status


def _all_arrive(comm: Comm, patience_s: float) -> bool:
    arrival = comm.Ibarrier()
    deadline = time.monotonic() + patience_s
    while not arrival.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _report(message: str, label: str = RadpsError.label) -> None:
    """One line on stderr."""
    streams.tell(f"radps: {label}: {printable(' '.join(message.split()))}\n")


if __name__ == "__main__":
    sys.exit(main())
