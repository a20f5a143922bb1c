"""Sums whose bits don't depend on the number of ranks.

The leaves of a sum are numbered; the tree over them is fixed by their number alone. Node (level, i) is the sum of the leaves
i 2^level <= leaf < (i + 1) 2^level; its left child is node (level - 1, 2 i), its right one node (level - 1, 2 i + 1), and where
the right one would lie beyond the last leaf the node is its left child. One rank holding all leaves and 64 ranks holding one
each perform the same additions, left + right, of the same operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

_TAG = 11
_MESSAGE_BYTES = 1 << 30
"""MPI counts are 32-bit in the libraries we support: longer arrays travel in pieces."""


class TreeSum:
    """Partial sums of the leaves that one rank holds: siblings are added as soon as both are there.

    If leaves are added in ascending order, at most log2(leaves) + 1 arrays are alive, however many leaves there are.
    ``discard`` is given the arrays that were added to others: their memory may be used again.
    """

    def __init__(self, nleaf: int, discard: Callable[[NDArray[Any]], None] | None = None) -> None:
        self.nleaf, self._discard = nleaf, discard
        self._nodes: dict[tuple[int, int], NDArray[Any]] = {}

    @property
    def nlevel(self) -> int:
        """Levels below the root's."""
        return max(self.nleaf - 1, 0).bit_length()

    @property
    def nheld(self) -> int:
        """Partial sums alive."""
        return len(self._nodes)

    def add(self, leaf: int, array: NDArray[Any]) -> None:
        """Take ownership of ``array``, the value of ``leaf``; later additions overwrite it."""
        self.put(0, leaf, array)

    def put(self, level: int, index: int, array: NDArray[Any]) -> None:
        """Take ownership of the whole sum of node (level, index), and add upwards as far as siblings are there."""
        while level < self.nlevel:
            alone = index % 2 == 0 and (index + 1) << level >= self.nleaf
            if not alone:
                sibling = self._nodes.pop((level, index ^ 1), None)
                if sibling is None:
                    break
                left, right = (sibling, array) if index % 2 else (array, sibling)
                left += right
                array = left
                if self._discard is not None:
                    self._discard(right)
            level, index = level + 1, index // 2
        self._nodes[level, index] = array

    def take(self, level: int, index: int) -> NDArray[Any]:
        """Give away a node's sum, which nobody here goes on with."""
        return self._nodes.pop((level, index))


def leaf_owner(nleaf: int, nrank: int) -> NDArray[np.int64]:
    """Rank of each leaf: contiguous, balanced runs, so that most additions are local."""
    return (np.arange(nleaf) * min(nrank, nleaf)) // max(nleaf, 1)


def reduce_tree(
    comm: MPI.Intracomm, partial: TreeSum, owner: NDArray[np.int64], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Finish the sum over ranks; rank ``owner[0]`` gets it, the others None. Collective over ``comm``; empties ``partial``.

    ``owner`` (nleaf,) gives the rank that added each leaf, ascending; ``shape`` and ``dtype`` are those of all leaves. A node
    is held by the owner of its first leaf; the right child of every node whose children lie apart travels to the left one's
    holder. All ranks go through these messages in one order, so the first that is outstanding can always be delivered.
    """
    for level in range(partial.nlevel):
        for first in range(1 << level, partial.nleaf, 2 << level):
            holder, giver = int(owner[first - (1 << level)]), int(owner[first])
            if holder == giver:
                continue  # added when the second of them was put there
            if comm.rank == giver:
                _send(comm, partial.take(level, first >> level), holder)
            elif comm.rank == holder:
                partial.put(level, first >> level, _receive(comm, shape, dtype, giver))
    return partial.take(partial.nlevel, 0) if comm.rank == int(owner[0]) else None


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
