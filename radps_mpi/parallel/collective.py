"""Failing together, and small reductions: rank-local errors become everyone's error, with the rank's name on it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from radps_mpi.errors import EXIT_FAILURE, RadpsError

_MESSAGE_BYTES = 1 << 30

_Report = tuple[bool, str, int]
"""Of a rank that failed: whether it only heard of another's failure, the message, the exit status."""


class RemoteRankError(RadpsError):
    """Another rank failed; carries that rank's message and exit status."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@contextmanager
def all_or_none(comm: MPI.Intracomm, what: str) -> Iterator[None]:
    """Run rank-local work that may fail; leave together, or raise together.

    The body must not contain a collective call over ``comm``: a rank that failed would not take part in it. A rank that
    failed raises its own error; the others raise a :class:`RemoteRankError` that names the lowest rank of ``comm`` that failed
    by itself, ``what``, and the message. Ranks that only heard of a failure, through a part of ``comm`` (a team that works
    together inside the body), count as others.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if not any_rank(comm, error is not None):
        return
    reports = comm.allgather(None if error is None else _describe(error))
    if error is not None and not isinstance(error, RemoteRankError):
        raise error
    failed = [(report[0], rank, *report[1:]) for rank, report in enumerate(reports) if report is not None]
    _, rank, message, status = min(failed)
    raise RemoteRankError(f"rank {rank} failed while {what}: {message}", status) from error


def _describe(error: Exception) -> _Report:
    heard = isinstance(error, RemoteRankError)
    if isinstance(error, RadpsError):
        return heard, str(error), error.exit_status
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({last[0].filename.rsplit('/', 1)[-1]}:{last[0].lineno})" if last else ""
    return heard, f"{type(error).__name__}: {error}{where}", EXIT_FAILURE


def on_root(comm: MPI.Intracomm, what: str, work: Callable[[], Any]) -> Any:
    """Do ``work`` on rank 0 alone and give everyone its (small, picklable) result; its failure is everyone's."""
    result = None
    with all_or_none(comm, what):
        if comm.rank == 0:
            result = work()
    return comm.bcast(result, root=0)


def merge_disjoint(comm: MPI.Intracomm, values: NDArray[Any], mine: NDArray[np.bool_]) -> NDArray[Any]:
    """Combine per-channel values that each are known to exactly one rank: everyone gets all.

    ``values`` (n, ...) holds this rank's entries where ``mine`` (n,) is true. Exact for every dtype: entries travel as
    bytes of which all other ranks send zeros, combined by bitwise OR, so the result has the owner's bits.
    """
    masked = np.zeros_like(values)
    masked[mine] = values[mine]
    flat = np.ascontiguousarray(masked).view(np.uint8).reshape(-1)
    merged = np.empty_like(flat)
    for start in range(0, flat.size, _MESSAGE_BYTES):
        comm.Allreduce(flat[start : start + _MESSAGE_BYTES], merged[start : start + _MESSAGE_BYTES], op=MPI.BOR)
    return merged.view(values.dtype).reshape(values.shape)


def any_rank(comm: MPI.Intracomm, flag: bool) -> bool:
    """True on all ranks if it is true on one."""
    return bool(comm.allreduce(bool(flag), op=MPI.LOR))


def every_rank(comm: MPI.Intracomm, flag: bool) -> bool:
    """True on all ranks if it is true on each of them."""
    return bool(comm.allreduce(bool(flag), op=MPI.LAND))


def same_everywhere(comm: MPI.Intracomm, value: Any) -> bool:
    """True on all ranks if every rank's (small, picklable) value equals rank 0's."""
    return every_rank(comm, bool(comm.bcast(value, root=0) == value))


def broadcast(
    comm: MPI.Intracomm, array: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Rank 0's array on all ranks, in pieces that 32-bit MPI counts can hold. ``shape`` and ``dtype`` are known to all."""
    if comm.size == 1 and array is not None:
        return array
    values = np.ascontiguousarray(array) if comm.rank == 0 and array is not None else np.empty(shape, dtype)
    flat = values.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _MESSAGE_BYTES):
        comm.Bcast(flat[start : start + _MESSAGE_BYTES], root=0)
    return values


def split(comm: MPI.Intracomm, colour: int | None) -> MPI.Intracomm | None:
    """The communicator of the ranks with the same colour, in the order of their ranks; None for those without one."""
    part = cast("MPI.Intracomm", comm.Split(MPI.UNDEFINED if colour is None else colour, comm.rank))
    return None if part == MPI.COMM_NULL else part


def total(comm: MPI.Intracomm, value: int) -> int:
    """Exact integer sum over ranks."""
    return int(comm.allreduce(int(value), op=MPI.SUM))


def largest(comm: MPI.Intracomm, value: float) -> float:
    """Maximum over ranks (order-independent, hence exact)."""
    return float(comm.allreduce(float(value), op=MPI.MAX))


def ranks_on_node(comm: MPI.Intracomm) -> int:
    """How many ranks share this rank's memory."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return int(node.size)
    finally:
        node.Free()


def gathered_on_node(comm: MPI.Intracomm, value: Any) -> list[Any]:
    """The (small, picklable) values of the ranks that share this rank's memory."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return list(node.allgather(value))
    finally:
        node.Free()
