"""Sums whose bits don't depend on the number of ranks.

The leaves of a sum are numbered; the tree over them is fixed: at level k, node i (a multiple of 2^(k+1)) absorbs node
i + 2^k. One rank holding all leaves and 64 ranks holding one each perform the same additions of the same operands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

_TAG = 11
_MESSAGE_BYTES = 1 << 30
"""MPI counts are 32-bit in the libraries we support: longer arrays travel in pieces."""


class TreeSum:
    """Partial sums of the leaves that one rank holds, folded as early as the fixed tree allows.

    Leaves are added in ascending order; at most log2(leaves) + 1 partial arrays are alive, however many leaves there are.
    """

    def __init__(self, nleaf: int) -> None:
        self.nleaf = nleaf
        self._levels: dict[int, tuple[int, NDArray[Any]]] = {}

    def add(self, leaf: int, array: NDArray[Any]) -> None:
        """Take ownership of ``array``, the value of ``leaf``; it is overwritten by later additions."""
        level, start = 0, leaf
        while True:
            span = 1 << level
            left = self._levels.get(start - span)
            if start & span and left is not None and left[0] == level:
                del self._levels[start - span]
                left[1].__iadd__(array)
                array, start, level = left[1], start - span, level + 1
            elif not start & span and start + span >= self.nleaf and span < self.nleaf:
                level += 1  # no right sibling exists anywhere: the node passes up unchanged
            else:
                break
        self._levels[start] = (level, array)

    def nodes(self) -> dict[int, tuple[int, NDArray[Any]]]:
        """start leaf -> (level, partial sum), for what this rank could not fold alone."""
        return self._levels


def leaf_owner(nleaf: int, nrank: int) -> NDArray[np.int64]:
    """Rank of each leaf: contiguous, balanced runs, so that most additions are local."""
    return (np.arange(nleaf) * min(nrank, nleaf)) // max(nleaf, 1)


def reduce_tree(comm: MPI.Intracomm, partial: TreeSum, owner: NDArray[np.int64], shape: tuple[int, ...],
                dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Finish the sum over ranks; rank ``owner[0]`` gets it, the others None. Collective over ``comm``.

    ``owner`` (nleaf,) gives the rank that added each leaf, ascending. A node is held by the owner of its first leaf.
    """
    nodes = dict(partial.nodes())
    nleaf = partial.nleaf
    span, level = 1, 0
    while span < nleaf:
        for left in range(0, nleaf, 2 * span):
            right = left + span
            if right >= nleaf:
                if left in nodes and nodes[left][0] == level:
                    nodes[left] = (level + 1, nodes[left][1])
                continue
            holder, giver = int(owner[left]), int(owner[right])
            if holder == giver:
                if comm.rank == holder:
                    _fold(nodes, left, right, level)
                continue
            if comm.rank == giver:
                _send(comm, nodes.pop(right)[1], holder)
            elif comm.rank == holder:
                nodes[right] = (level, _receive(comm, shape, dtype, giver))
                _fold(nodes, left, right, level)
        span, level = 2 * span, level + 1
    return nodes[0][1] if comm.rank == int(owner[0]) else None


def _fold(nodes: dict[int, tuple[int, NDArray[Any]]], left: int, right: int, level: int) -> None:
    have = nodes[left]
    if have[0] > level:  # folded already while the leaves were added
        return
    have[1].__iadd__(nodes.pop(right)[1])
    nodes[left] = (level + 1, have[1])


def _pieces(array: NDArray[Any]) -> Iterable[NDArray[np.uint8]]:
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _MESSAGE_BYTES):
        yield flat[start : start + _MESSAGE_BYTES]


def _send(comm: MPI.Intracomm, array: NDArray[Any], to: int) -> None:
    for piece in _pieces(np.ascontiguousarray(array)):
        comm.Send(piece, dest=to, tag=_TAG)


def _receive(comm: MPI.Intracomm, shape: tuple[int, ...], dtype: np.dtype[Any], source: int) -> NDArray[Any]:
    array = np.empty(shape, dtype)
    for piece in _pieces(array):
        comm.Recv(piece, source=source, tag=_TAG)
    return array
