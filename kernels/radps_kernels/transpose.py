"""Transposition in registers between grids (lanes innermost) and arrays of one transform per lane.

A block is ``width / 2`` consecutive cells of ``width`` lanes: real and imaginary parts are a square matrix, whose
transpose holds the complex numbers of one lane per row.
"""

from __future__ import annotations

from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from radps_kernels.options import JIT
from radps_kernels.vectors import Vectors, array_data, element_type, intrinsic


def _transposed(vec: Vectors, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose of ``width`` vectors, swapping off-diagonal blocks of 1, 2, 4, ... elements."""
    rows, size = list(rows), 1
    while size < vec.width:
        upper = [column if not column & size else vec.width + column - size for column in range(vec.width)]
        lower = [column + size if not column & size else vec.width + column for column in range(vec.width)]
        for i in range(vec.width):
            if not i & size:
                pair = rows[i], rows[i + size]
                rows[i], rows[i + size] = _shuffled(vec, *pair, upper), _shuffled(vec, *pair, lower)
        size *= 2
    return rows


def _shuffled(vec: Vectors, a: ir.Value, b: ir.Value, pattern: list[int]) -> ir.Value:
    return vec.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), vec.width), pattern))


class _Block:
    """Addresses of a block's rows in the grid and in the array of transforms, and its factors."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        self.builder = builder
        self.vec = Vectors(builder, element_type(context, signature.args[1]), signature.args[0].count)
        self.grid, self._factor, self.work = (
            array_data(context, builder, signature.args[i], args[i]) for i in (1, 4, 6)
        )
        self._first, self._step, self._at = args[2], args[3], args[5]
        self._work_first, self._work_step, self._nlane = args[7], args[8], args[9]

    def cells(self) -> list[tuple[ir.Value, ir.Value]]:
        """Index of each row of the matrix in the grid, and its factor."""
        scalar, rows = Vectors(self.builder, self.vec.element, 1), []
        for cell in range(self.vec.width // 2):
            start = self._offset(self._first, self._step, cell)
            factor = self.vec.splat(scalar.load(self._factor, self._offset(self._at, None, cell)))
            rows += [(start, factor), (self.builder.add(start, self._nlane), factor)]
        return rows

    def transforms(self) -> list[ir.Value]:
        """Index of each lane's complex numbers in the array of transforms."""
        return [self._offset(self._work_first, self._work_step, lane) for lane in range(self.vec.width)]

    def _offset(self, start: ir.Value, step: ir.Value | None, count: int) -> ir.Value:
        constant = ir.Constant(ir.IntType(64), count)
        return self.builder.add(start, constant if step is None else self.builder.mul(step, constant))


def _signature(width: Any, grid: Any, factor: Any, work: Any) -> Any:
    integer = types.int64
    return types.void(width, grid, integer, integer, factor, integer, work, integer, integer, integer)


@intrinsic
def _load_square(
    typingctx: Any,
    width: Any,
    grid: Any,
    first: Any,
    step: Any,
    factor: Any,
    at: Any,
    work: Any,
    work_first: Any,
    work_step: Any,
    nlane: Any,
) -> Any:
    """One block of the grid, times its factors, into the array of transforms."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        block = _Block(context, builder, sig, args)
        rows = [builder.fmul(block.vec.load(block.grid, at), factor) for at, factor in block.cells()]
        for row, at in zip(_transposed(block.vec, rows), block.transforms(), strict=True):
            block.vec.store(row, block.work, at)
        return context.get_dummy_value()

    return _signature(width, grid, factor, work), codegen


@intrinsic
def _store_square(
    typingctx: Any,
    width: Any,
    grid: Any,
    first: Any,
    step: Any,
    factor: Any,
    at: Any,
    work: Any,
    work_first: Any,
    work_step: Any,
    nlane: Any,
) -> Any:
    """One block of the array of transforms, times its factors, into the grid."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        block = _Block(context, builder, sig, args)
        rows = [block.vec.load(block.work, at) for at in block.transforms()]
        for row, (at, factor) in zip(_transposed(block.vec, rows), block.cells(), strict=True):
            block.vec.store(builder.fmul(row, factor), block.grid, at)
        return context.get_dummy_value()

    return _signature(width, grid, factor, work), codegen


@nb.jit(**JIT)
def cells_per_block(width: Any) -> int:
    """Cells that are moved together: 8 for scalar code, else half of the vector's lanes."""
    return max(1, len(width) // 2) if len(width) > 1 else 8


@nb.jit(**JIT)
def load_block(
    width: Any,
    grid: NDArray[Any],
    cell: tuple[int, int],
    factor: NDArray[Any],
    i0: int,
    i1: int,
    work: NDArray[Any],
    transform: int,
    shift: int,
) -> None:
    """Cells i0 to i1 - 1 of a line of the grid, times ``factor[i]``, to elements ``i + shift`` of the transforms.

    ``cell`` = (flat index of cell 0 of the line, elements from cell to cell); lane k goes to ``work[transform + k]``,
    ``work`` (transforms, length, 2).
    """
    nlane, length = grid.shape[3], work.shape[1]
    if len(width) > 1 and i1 - i0 == cells_per_block(width):
        for lane in range(0, nlane, len(width)):
            _load_square(
                width, grid, cell[0] + i0 * cell[1] + lane, cell[1], factor, i0, work,
                2 * ((transform + lane) * length + i0 + shift), 2 * length, nlane,
            )
        return
    cells, lines = grid.reshape(-1), work.reshape(-1)
    for i in range(i0, i1):
        at, to = cell[0] + i * cell[1], 2 * (transform * length + i + shift)
        for lane in range(nlane):
            lines[to + 2 * lane * length] = cells[at + lane] * factor[i]
            lines[to + 2 * lane * length + 1] = cells[at + nlane + lane] * factor[i]


@nb.jit(**JIT)
def store_block(
    width: Any,
    grid: NDArray[Any],
    cell: tuple[int, int],
    factor: NDArray[Any],
    i0: int,
    i1: int,
    work: NDArray[Any],
    transform: int,
    shift: int,
) -> None:
    """The way back of ``load_block``: elements of the transforms, times ``factor[i]``, to the grid."""
    nlane, length = grid.shape[3], work.shape[1]
    if len(width) > 1 and i1 - i0 == cells_per_block(width):
        for lane in range(0, nlane, len(width)):
            _store_square(
                width, grid, cell[0] + i0 * cell[1] + lane, cell[1], factor, i0, work,
                2 * ((transform + lane) * length + i0 + shift), 2 * length, nlane,
            )
        return
    cells, lines = grid.reshape(-1), work.reshape(-1)
    for i in range(i0, i1):
        at, to = cell[0] + i * cell[1], 2 * (transform * length + i + shift)
        for lane in range(nlane):
            cells[at + lane] = lines[to + 2 * lane * length] * factor[i]
            cells[at + nlane + lane] = lines[to + 2 * lane * length + 1] * factor[i]
