"""Between grids (lanes innermost), arrays of one transform per lane, and images: transposed in registers, fetched ahead, or
written past the caches.

A block is ``width / 2`` consecutive cells of ``width`` lanes: real and imaginary parts are a square matrix, whose
transpose holds the complex numbers of one lane per row. Of a grid of one lane a block is ``width / 2`` columns of as
many rows, a square matrix of complex numbers. ``width`` is a tuple of as many zeros as vectors have elements.
"""

from __future__ import annotations

from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from radps_kernels.options import JIT
from radps_kernels.vectors import Vectors, array_data, element_type, intrinsic


def _transposed(vec: Vectors, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose of a square matrix, swapping off-diagonal blocks of 1, 2, 4, ... entries: of ``width`` vectors of
    numbers, or of half as many of complex ones."""
    rows, size, parts = list(rows), 1, vec.width // len(rows)
    while size < len(rows):
        step = size * parts
        upper = [column if not column & step else vec.width + column - step for column in range(vec.width)]
        lower = [column + step if not column & step else vec.width + column for column in range(vec.width)]
        for i in range(len(rows)):
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


class _RowPair:
    """Addresses of a block of cells on two rows of the grid and in the transforms of a + i b, lanes apart.

    Arguments of the intrinsics: ``width``, ``grid``, flat indices of the block's first cell on rows a and b, elements
    from cell to cell, ``work``, flat index in it of the block's first cell and of the last cell's mirror image,
    elements from lane to lane, ``nlane``.
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        self.builder = builder
        self.vec = Vectors(builder, element_type(context, signature.args[1]), signature.args[0].count)
        self.grid, self.work = (array_data(context, builder, signature.args[i], args[i]) for i in (1, 5))
        self._a, self._b, self._step = args[2], args[3], args[4]
        self._forward, self._mirror, self._work_step, self._nlane = args[6], args[7], args[8], args[9]
        self.half = self.vec.constant(0.5)

    def cells(self) -> list[tuple[ir.Value, ...]]:
        """Of each cell the indices of real and imaginary part on row a, then on row b."""
        rows = []
        for cell in range(self.vec.width // 2):
            a, b = (self._offset(start, self._step, cell) for start in (self._a, self._b))
            rows.append((a, self.builder.add(a, self._nlane), b, self.builder.add(b, self._nlane)))
        return rows

    def lines(self) -> list[tuple[ir.Value, ir.Value]]:
        """Of each lane the indices of the block and of its mirror image in the array of transforms."""
        return [
            (self._offset(self._forward, self._work_step, lane), self._offset(self._mirror, self._work_step, lane))
            for lane in range(self.vec.width)
        ]

    def _offset(self, start: ir.Value, step: ir.Value, count: int) -> ir.Value:
        return self.builder.add(start, self.builder.mul(step, ir.Constant(ir.IntType(64), count)))

    def halved(self, value: ir.Value) -> ir.Value:
        return self.builder.fmul(self.half, value)


def _pair_signature(width: Any, grid: Any, work: Any) -> Any:
    integer = types.int64
    return types.void(width, grid, integer, integer, integer, work, integer, integer, integer, integer)


@intrinsic
def _load_pair(
    typingctx: Any,
    width: Any,
    grid: Any,
    first_a: Any,
    first_b: Any,
    step: Any,
    work: Any,
    forward: Any,
    mirror: Any,
    work_step: Any,
    nlane: Any,
) -> Any:
    """(A + i B) / 2 of a block of cells, and (conj A + i conj B) / 2 where their mirror images are."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pair = _RowPair(context, builder, sig, args)
        ahead: list[ir.Value] = []
        behind: list[ir.Value] = []
        for cell in pair.cells():
            a_re, a_im, b_re, b_im = (pair.halved(pair.vec.load(pair.grid, at)) for at in cell)
            ahead += [builder.fsub(a_re, b_im), builder.fadd(a_im, b_re)]
            behind = [builder.fadd(a_re, b_im), builder.fsub(b_re, a_im), *behind]
        both = zip(_transposed(pair.vec, ahead), _transposed(pair.vec, behind), pair.lines(), strict=True)
        for there, mirrored, (at, mirror_at) in both:
            pair.vec.store(there, pair.work, at)
            pair.vec.store(mirrored, pair.work, mirror_at)
        return context.get_dummy_value()

    return _pair_signature(width, grid, work), codegen


@intrinsic
def _store_pair(
    typingctx: Any,
    width: Any,
    grid: Any,
    first_a: Any,
    first_b: Any,
    step: Any,
    work: Any,
    forward: Any,
    mirror: Any,
    work_step: Any,
    nlane: Any,
) -> Any:
    """A and B of a block of cells from the transforms Z of a + i b, real a and b: with W the number at the mirror image,
    A = (Z + conj W) / 2 and B = (Z - conj W) / 2i."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pair = _RowPair(context, builder, sig, args)
        lines = pair.lines()
        ahead = _transposed(pair.vec, [pair.halved(pair.vec.load(pair.work, at)) for at, _ in lines])
        behind = _transposed(pair.vec, [pair.halved(pair.vec.load(pair.work, at)) for _, at in lines])
        for k, (a_re, a_im, b_re, b_im) in enumerate(pair.cells()):
            z_re, z_im = ahead[2 * k], ahead[2 * k + 1]
            w_re, w_im = behind[len(behind) - 2 - 2 * k], behind[len(behind) - 1 - 2 * k]
            pair.vec.store(builder.fadd(z_re, w_re), pair.grid, a_re)
            pair.vec.store(builder.fsub(z_im, w_im), pair.grid, a_im)
            pair.vec.store(builder.fadd(z_im, w_im), pair.grid, b_re)
            pair.vec.store(builder.fsub(w_re, z_re), pair.grid, b_im)
        return context.get_dummy_value()

    return _pair_signature(width, grid, work), codegen


def _tile_signature(width: Any, grid: Any, factor: Any, work: Any) -> Any:
    integer = types.int64
    return types.void(width, grid, integer, integer, factor, integer, work, integer, integer)


class _Tile:
    """A square of complex numbers of a one-lane grid, and the lines that its columns go to."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        self.vec = Vectors(builder, element_type(context, signature.args[1]), signature.args[0].count)
        self.grid, factor, self.work = (array_data(context, builder, signature.args[i], args[i]) for i in (1, 4, 6))
        constants = [ir.Constant(ir.IntType(64), k) for k in range(self.vec.width // 2)]
        self.rows = [builder.add(args[2], builder.mul(args[3], k)) for k in constants]
        self.lines = [builder.add(args[7], builder.mul(args[8], k)) for k in constants]
        scalar = Vectors(builder, self.vec.element, 1)
        self.factors = [self.vec.splat(scalar.load(factor, builder.add(args[5], k))) for k in constants]


@intrinsic
def _load_tile(
    typingctx: Any,
    width: Any,
    grid: Any,
    first: Any,
    row_step: Any,
    factor: Any,
    at: Any,
    work: Any,
    work_first: Any,
    work_step: Any,
) -> Any:
    """A square of the grid, rows times their factors, into the lines of its columns."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        tile = _Tile(context, builder, sig, args)
        rows = [builder.fmul(tile.vec.load(tile.grid, at), f) for at, f in zip(tile.rows, tile.factors, strict=True)]
        for line, at in zip(_transposed(tile.vec, rows), tile.lines, strict=True):
            tile.vec.store(line, tile.work, at)
        return context.get_dummy_value()

    return _tile_signature(width, grid, factor, work), codegen


@intrinsic
def _store_tile(
    typingctx: Any,
    width: Any,
    grid: Any,
    first: Any,
    row_step: Any,
    factor: Any,
    at: Any,
    work: Any,
    work_first: Any,
    work_step: Any,
) -> Any:
    """The way back of ``_load_tile``."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        tile = _Tile(context, builder, sig, args)
        lines = _transposed(tile.vec, [tile.vec.load(tile.work, at) for at in tile.lines])
        for line, f, at in zip(lines, tile.factors, tile.rows, strict=True):
            tile.vec.store(builder.fmul(line, f), tile.grid, at)
        return context.get_dummy_value()

    return _tile_signature(width, grid, factor, work), codegen


@intrinsic
def _store_parts(
    typingctx: Any, width: Any, source: Any, at: Any, factor: Any, x: Any, scale: Any, target: Any, real: Any, imag: Any
) -> Any:
    """Of ``width`` complex numbers, from the one at ``at``, times factors from ``x`` and then ``scale``: real parts to elements
    from ``real`` of ``target``, imaginary parts to those from ``imag``, both at multiples of a vector's bytes. They go past the
    caches to memory, which needn't be read first."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        vec = Vectors(builder, element_type(context, sig.args[6]), sig.args[0].count)
        numbers, factors, planes = (array_data(context, builder, sig.args[i], args[i]) for i in (1, 3, 6))
        numbers = builder.bitcast(numbers, vec.element.as_pointer())
        first = builder.mul(args[2], ir.Constant(ir.IntType(64), 2))
        one, two = (vec.load(numbers, builder.add(first, ir.Constant(ir.IntType(64), k * vec.width))) for k in (0, 1))
        row, scales = vec.load(factors, args[4]), vec.splat(args[5])
        for part, to in ((0, args[7]), (1, args[8])):
            scalar, pattern = (one, two)[part], list(range(part, 2 * vec.width, 2))
            values = scalar if vec.width == 1 else _shuffled(vec, one, two, pattern)
            vec.stream(builder.fmul(builder.fmul(values, row), scales), planes, to)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(width, source, integer, factor, integer, scale, target, integer, integer), codegen


@intrinsic
def _prefetch(typingctx: Any, flat: Any, index: Any) -> Any:
    """Ask for the cache line of an element; it may lie beyond the array's end."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        integer, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(array_data(context, builder, sig.args[0], args[0]), [args[1]]), byte)
        signature = ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        to_read, nearest, data = (ir.Constant(integer, value) for value in (0, 3, 1))
        builder.call(function, [address, to_read, nearest, data])
        return context.get_dummy_value()

    return types.void(flat, types.int64), codegen


@nb.jit(**JIT)
def fetch_rows(flat: NDArray[Any], first: int, rows: int, step: int, length: int) -> None:
    """Have ``length`` elements of each of ``rows`` rows brought near, from ``first`` on, ``step`` elements from row to row. A
    hint: of pieces that don't begin with a cache line the last one may be left out."""
    for row in range(rows):
        start = first + row * step
        for at in range(start, start + length, 64 // flat.itemsize):
            _prefetch(flat, at)


@intrinsic
def finish_streams(typingctx: Any) -> Any:
    """Have what was written past the caches in memory before anything that follows: other threads would not wait for it."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@nb.jit(**JIT)
def stream_parts(
    width: Any, source: NDArray[Any], at: int, factor: NDArray[Any], x0: int, x1: int, scale: Any, target: NDArray[Any],
    real: int, imag: int,
) -> None:  # fmt: skip
    """Complex numbers from ``source[at]``, those of pixels ``x0 <= x < x1`` of two image rows, times ``factor[x]`` and then
    ``scale``: real parts to ``target[real + x]``, imaginary parts to ``target[imag + x]``, past the caches. Both ends of either
    row are at multiples of a vector's bytes."""
    for x in range(x0, x1, len(width)):
        _store_parts(width, source, at + x - x0, factor, x, scale, target, real + x, imag + x)


@nb.jit(**JIT)
def cells_per_block(width: Any) -> int:
    """Cells that are moved together: 8 for scalar code, else half of the vector's elements."""
    return max(1, len(width) // 2) if len(width) > 1 else 8


@nb.jit(**JIT)
def load_block(
    width: Any,
    grid: NDArray[Any],
    cell: tuple[int, int],
    columns: int,
    factor: NDArray[Any],
    rows: tuple[int, int],
    work: NDArray[Any],
    shift: int,
) -> None:
    """Rows i of ``rows`` of the grid, times ``factor[i]``, to elements ``i + shift`` of the transforms along v.

    ``cell`` = (flat index of the first column's cell on row 0, elements from row to row); lane k of column j goes to
    ``work[j * nlane + k]``, ``work`` (transforms, length, 2).
    """
    nlane, length, (i0, i1) = grid.shape[3], work.shape[1], rows
    count, whole = cells_per_block(width), len(width) > 1 and i1 - i0 == cells_per_block(width)
    first, at = cell[0] + i0 * cell[1], i0 + shift
    tiled = 0
    if whole and nlane == 1:
        for column in range(0, columns - count + 1, count):
            to = 2 * (column * length + at)
            _load_tile(width, grid, first + 2 * column, cell[1], factor, i0, work, to, 2 * length)
            tiled = column + count
    elif whole:
        for column in range(columns):
            for lane in range(0, nlane, len(width)):
                _load_square(
                    width, grid, first + 2 * column * nlane + lane, cell[1], factor, i0, work,
                    2 * ((column * nlane + lane) * length + at), 2 * length, nlane,
                )  # fmt: skip
        tiled = columns
    cells, lines = grid.reshape(-1), work.reshape(-1)
    for i in range(i0, i1):
        for column in range(tiled, columns):
            source, to = cell[0] + i * cell[1] + 2 * column * nlane, 2 * (column * nlane * length + i + shift)
            for lane in range(nlane):
                lines[to + 2 * lane * length] = cells[source + lane] * factor[i]
                lines[to + 2 * lane * length + 1] = cells[source + nlane + lane] * factor[i]


@nb.jit(**JIT)
def store_block(
    width: Any,
    grid: NDArray[Any],
    cell: tuple[int, int],
    columns: int,
    factor: NDArray[Any],
    rows: tuple[int, int],
    work: NDArray[Any],
    shift: int,
) -> None:
    """The way back of ``load_block``: elements of the transforms, times ``factor[i]``, to the grid."""
    nlane, length, (i0, i1) = grid.shape[3], work.shape[1], rows
    count, whole = cells_per_block(width), len(width) > 1 and i1 - i0 == cells_per_block(width)
    first, at = cell[0] + i0 * cell[1], i0 + shift
    tiled = 0
    if whole and nlane == 1:
        for column in range(0, columns - count + 1, count):
            to = 2 * (column * length + at)
            _store_tile(width, grid, first + 2 * column, cell[1], factor, i0, work, to, 2 * length)
            tiled = column + count
    elif whole:
        for column in range(columns):
            for lane in range(0, nlane, len(width)):
                _store_square(
                    width, grid, first + 2 * column * nlane + lane, cell[1], factor, i0, work,
                    2 * ((column * nlane + lane) * length + at), 2 * length, nlane,
                )  # fmt: skip
        tiled = columns
    cells, lines = grid.reshape(-1), work.reshape(-1)
    for i in range(i0, i1):
        for column in range(tiled, columns):
            target, to = cell[0] + i * cell[1] + 2 * column * nlane, 2 * (column * nlane * length + i + shift)
            for lane in range(nlane):
                cells[target + lane] = lines[to + 2 * lane * length] * factor[i]
                cells[target + nlane + lane] = lines[to + 2 * lane * length + 1] * factor[i]


@nb.jit(**JIT)
def load_row_pair(
    width: Any, grid: NDArray[Any], rows: tuple[int, int], cells: tuple[int, int], size: int, work: NDArray[Any], line: int
) -> None:
    """Cells k of [cells[0], cells[1]), none of them 0 or size / 2, of two rows a and b, flat indices ``rows`` of their
    cells 0: (A + i B) / 2 to element k and (conj A + i conj B) / 2 to element size - k of ``work[line + lane]``."""
    nlane, length, step = grid.shape[3], work.shape[1], 2 * grid.shape[3]
    k, count = cells[0], cells_per_block(width)
    if len(width) > 1 and nlane > 1:
        while k + count <= cells[1]:
            for lane in range(0, nlane, len(width)):
                to = 2 * (line + lane) * length
                _load_pair(
                    width, grid, rows[0] + k * step + lane, rows[1] + k * step + lane, step, work, to + 2 * k,
                    to + 2 * (size - k - count + 1), 2 * length, nlane,
                )  # fmt: skip
            k += count
    flat, lines, half = grid.reshape(-1), work.reshape(-1), grid.dtype.type(0.5)
    for k1 in range(k, cells[1]):
        a, b = rows[0] + k1 * step, rows[1] + k1 * step
        for lane in range(nlane):
            to = 2 * (line + lane) * length
            a_re, a_im = half * flat[a + lane], half * flat[a + nlane + lane]
            b_re, b_im = half * flat[b + lane], half * flat[b + nlane + lane]
            lines[to + 2 * k1], lines[to + 2 * k1 + 1] = a_re - b_im, a_im + b_re
            lines[to + 2 * (size - k1)], lines[to + 2 * (size - k1) + 1] = a_re + b_im, b_re - a_im


@nb.jit(**JIT)
def store_row_pair(
    width: Any, grid: NDArray[Any], rows: tuple[int, int], cells: tuple[int, int], size: int, work: NDArray[Any], line: int
) -> None:
    """Cells k of [cells[0], cells[1]), none of them 0, of rows a and b from the transforms Z of a + i b, a and b real:
    with W = Z[size - k], A = (Z + conj W) / 2 and B = (Z - conj W) / 2i."""
    nlane, length, step = grid.shape[3], work.shape[1], 2 * grid.shape[3]
    k, count = cells[0], cells_per_block(width)
    if len(width) > 1 and nlane > 1:
        while k + count <= cells[1]:
            for lane in range(0, nlane, len(width)):
                to = 2 * (line + lane) * length
                _store_pair(
                    width, grid, rows[0] + k * step + lane, rows[1] + k * step + lane, step, work, to + 2 * k,
                    to + 2 * (size - k - count + 1), 2 * length, nlane,
                )  # fmt: skip
            k += count
    flat, lines, half = grid.reshape(-1), work.reshape(-1), grid.dtype.type(0.5)
    for k1 in range(k, cells[1]):
        a, b = rows[0] + k1 * step, rows[1] + k1 * step
        for lane in range(nlane):
            to = 2 * (line + lane) * length
            z_re, z_im = half * lines[to + 2 * k1], half * lines[to + 2 * k1 + 1]
            w_re, w_im = half * lines[to + 2 * (size - k1)], half * lines[to + 2 * (size - k1) + 1]
            flat[a + lane], flat[a + nlane + lane] = z_re + w_re, z_im - w_im
            flat[b + lane], flat[b + nlane + lane] = z_im + w_im, w_re - z_re
