"""All-to-all exchange of large arrays, whatever their size."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

ROUND_BYTES = 1 << 30
"""MPI counts and displacements are 32-bit in the libraries we support: no rank sends or gets more than this in one
call."""


def exchange(
    comm: MPI.Intracomm,
    send: NDArray[Any],
    send_counts: NDArray[np.int64],
    receive_counts: NDArray[np.int64],
    *,
    receive: NDArray[Any] | None = None,
    round_bytes: int = ROUND_BYTES,
) -> NDArray[Any]:
    """Every rank gives every rank a piece; collective.

    ``send`` is flat and C-contiguous, the pieces for ranks 0, 1, ... one after the other, ``send_counts`` (nrank,)
    elements each; ``receive_counts`` (nrank,) is what the others announce to send here (the caller knows: no exchange
    of counts). Returns the flat concatenation of the pieces from ranks 0, 1, ..., with the dtype of ``send``: in
    ``receive`` where that is given, a flat array of the right size and type. A single rank gets ``send`` itself back.
    """
    if comm.size == 1:
        return send
    itemsize = send.dtype.itemsize
    if receive is None:
        receive = np.empty(int(receive_counts.sum()), send.dtype)
    biggest = max(int(send_counts.max(initial=0)), int(receive_counts.max(initial=0)))
    step = max(1, round_bytes // (comm.size * itemsize))
    nround = -(-int(comm.allreduce(biggest, op=MPI.MAX)) // step)
    if nround <= 1:
        _alltoallv(comm, send, send_counts, receive, receive_counts)
        return receive
    for turn in range(nround):
        out, out_counts = _gather_round(send, send_counts, turn * step, step)
        in_counts = np.clip(receive_counts - turn * step, 0, step)
        incoming = np.empty(int(in_counts.sum()), send.dtype)
        _alltoallv(comm, out, out_counts, incoming, in_counts)
        _scatter_round(receive, receive_counts, incoming, in_counts, turn * step)
    return receive


def gather_everywhere(comm: MPI.Intracomm, mine: NDArray[Any]) -> NDArray[Any]:
    """Concatenate every rank's array along the first axis, in rank order, on every rank; for small arrays (< 1 GiB in
    all)."""
    counts = np.array(comm.allgather(len(mine)), dtype=np.int64)
    row_bytes = mine.dtype.itemsize * int(np.prod(mine.shape[1:], dtype=np.int64))
    everything = np.empty((int(counts.sum()), *mine.shape[1:]), mine.dtype)
    layout = counts * row_bytes
    flat = np.ascontiguousarray(mine).reshape(-1).view(np.uint8)
    comm.Allgatherv([flat, MPI.BYTE], [everything.reshape(-1).view(np.uint8), layout, _starts(layout), MPI.BYTE])
    return everything


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def _alltoallv(
    comm: MPI.Intracomm,
    send: NDArray[Any],
    send_counts: NDArray[np.int64],
    receive: NDArray[Any],
    receive_counts: NDArray[np.int64],
) -> None:
    size = send.dtype.itemsize
    out, into = send_counts * size, receive_counts * size
    comm.Alltoallv(
        [send.view(np.uint8), out, _starts(out), MPI.BYTE], [receive.view(np.uint8), into, _starts(into), MPI.BYTE]
    )


def _gather_round(
    send: NDArray[Any], counts: NDArray[np.int64], done: int, step: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    now = np.clip(counts - done, 0, step)
    pieces = [send[start + done : start + done + n] for start, n in zip(_starts(counts), now, strict=True) if n > 0]
    return np.concatenate(pieces) if pieces else send[:0], now


def _scatter_round(
    receive: NDArray[Any], counts: NDArray[np.int64], incoming: NDArray[Any], now: NDArray[np.int64], done: int
) -> None:
    for start, source, n in zip(_starts(counts), _starts(now), now, strict=True):
        receive[start + done : start + done + n] = incoming[source : source + n]


def sum_integers(comm: MPI.Intracomm, mine: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of an integer array over ranks, on every rank: exact in any order."""
    result = np.empty_like(mine)
    comm.Allreduce(np.ascontiguousarray(mine), result, op=MPI.SUM)
    return result
