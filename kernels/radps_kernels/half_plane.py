"""Moving half uv planes between the gridding layout and the arrays that FFTW transforms.

Grids are (rows of v, columns of u, 2, nlane) with ``guard`` cells around, as ``lanes`` describes. Both passes of the
two-dimensional transform work on the grid's own memory: along v in strips of columns, along u in pairs of rows;
between them row ``guard + y`` of the grid holds image row y. So no second array of the grid's size is needed, and all
transpositions happen in cache. A grid may be a part of the padded uv plane, the part that visibilities reach: cells
beyond it are zero and are not moved.

Real images need u >= 0 only: an image row is the real part of the transform of its half row, so two rows a and b are
real and imaginary part of one complex transform, of X(u) = (A + i B) / 2 and X(-u) = (conj A + i conj B) / 2 (both
added up where u is its own mirror image), which FFTW does in 0.4 of the time of two complex-to-real ones.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT
from radps_kernels.transpose import (
    cells_per_block,
    fetch_rows,
    finish_streams,
    load_block,
    load_row_pair,
    store_block,
    store_row_pair,
    stream_parts,
)

_SHORT_BYTES = 512
"""Pieces of rows up to this long are fetched ahead: of longer ones the processor sees that it goes on."""

_BLOCKS_AHEAD = 3
"""Transposing as many takes about as long as memory to answer; 2 to 6 made no difference."""


@nb.jit(**JIT)
def fold_guards(grid: NDArray[Any], guard: int) -> None:
    """Add the guard cells of a gridded plane to the cells that they stand for: (u, v) is conjugate to (-u, -v), and
    both axes are periodic."""
    rows, columns = grid.shape[0], grid.shape[1]
    size_v = rows - 2 * guard
    for k in range(guard):
        for column in range(columns):
            _add(grid, size_v + k, column, k, column, 1)
            _add(grid, guard + k, column, rows - guard + k, column, 1)
    for row in range(guard, rows - guard):
        mirror = _mirror_row(row, guard, size_v)
        for k in range(1, guard + 1):
            _add(grid, mirror, guard + k, row, guard - k, -1)
            _add(grid, mirror, columns - 1 - guard - k, row, columns - 1 - guard + k, -1)


@nb.jit(**JIT)
def _mirror_row(row: int, guard: int, size_v: int) -> int:
    """Row of -v."""
    mirror = size_v - (row - guard)
    return guard + (mirror if mirror < size_v else 0)


@nb.jit(**JIT)
def _add(grid: NDArray[Any], row: int, column: int, from_row: int, from_column: int, sign: int) -> None:
    """Add one cell to another; ``sign`` -1 conjugates it."""
    factor = grid.dtype.type(sign)
    for lane in range(grid.shape[3]):
        grid[row, column, 0, lane] += grid[from_row, from_column, 0, lane]
        grid[row, column, 1, lane] += factor * grid[from_row, from_column, 1, lane]


@nb.jit(**JIT)
def _copy(grid: NDArray[Any], row: int, column: int, from_row: int, from_column: int, sign: int) -> None:
    """Copy one cell to another; ``sign`` -1 conjugates it."""
    factor = grid.dtype.type(sign)
    for lane in range(grid.shape[3]):
        grid[row, column, 0, lane] = grid[from_row, from_column, 0, lane]
        grid[row, column, 1, lane] = factor * grid[from_row, from_column, 1, lane]


@nb.jit(**JIT)
def mirror_guards(grid: NDArray[Any], guard: int) -> None:
    """Fill the guard cells from the cells that they stand for, before degridding."""
    rows, columns = grid.shape[0], grid.shape[1]
    size_v = rows - 2 * guard
    for row in range(guard, rows - guard):
        mirror = _mirror_row(row, guard, size_v)
        for k in range(1, guard + 1):
            _copy(grid, row, guard - k, mirror, guard + k, -1)
            _copy(grid, row, columns - 1 - guard + k, mirror, columns - 1 - guard - k, -1)
    for k in range(guard):
        for column in range(columns):
            _copy(grid, k, column, size_v + k, column, 1)
            _copy(grid, rows - guard + k, column, guard + k, column, 1)


@nb.jit(**JIT)
def load_columns(
    width: Any,
    grid: NDArray[Any],
    row0: int,
    columns: tuple[int, int],
    factor: NDArray[Any],
    size: int,
    work: NDArray[Any],
) -> None:
    """Columns [columns[0], columns[1]) of the grid, transposed for transforms of length ``size`` along v.

    Grid row ``row0 + i`` times ``factor[i]`` becomes element ``i - len(factor) // 2`` (modulo size) of ``work``
    (column * nlane + lane, size or more, 2); the other elements become 0. ``width``: a tuple of as many zeros as there
    are elements per vector.
    """
    n, row_step = len(factor), grid.shape[1] * 2 * grid.shape[3]
    half, count = n // 2, columns[1] - columns[0]
    cell = row0 * row_step + columns[0] * 2 * grid.shape[3], row_step
    work[:, n - half : size - half] = 0.0
    flat, piece, ahead = grid.reshape(-1), count * 2 * grid.shape[3], _BLOCKS_AHEAD * cells_per_block(width)
    short = grid.shape[3] > 1 and piece * grid.itemsize <= _SHORT_BYTES
    for start, stop, shift in ((0, half, size - half), (half, n, -half)):
        for block in range(start, stop, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), stop)
            i0 = max(start, i1 - cells_per_block(width))
            if short:
                fetch_rows(flat, cell[0] + (i0 + ahead) * row_step, cells_per_block(width), row_step, piece)
            load_block(width, grid, cell, count, factor, (i0, i1), work, shift)


@nb.jit(**JIT)
def store_columns(
    width: Any,
    work: NDArray[Any],
    size: int,
    factor: NDArray[Any],
    grid: NDArray[Any],
    row0: int,
    columns: tuple[int, int],
) -> None:
    """The way back: elements of ``work`` times ``factor`` into rows ``row0`` and following of the grid."""
    n, row_step = len(factor), grid.shape[1] * 2 * grid.shape[3]
    half, count = n // 2, columns[1] - columns[0]
    cell = row0 * row_step + columns[0] * 2 * grid.shape[3], row_step
    for start, stop, shift in ((0, half, size - half), (half, n, -half)):
        for block in range(start, stop, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), stop)
            i0 = max(start, i1 - cells_per_block(width))
            store_block(width, grid, cell, count, factor, (i0, i1), work, shift)


@nb.jit(**JIT)
def _pair(pair: int, ny: int) -> tuple[int, int]:
    """The image rows of a pair; a last row without another is paired with itself."""
    return 2 * pair, min(2 * pair + 1, ny - 1)


@nb.jit(**JIT)
def load_row_pairs(
    width: Any, grid: NDArray[Any], guard: int, pairs: tuple[int, int], ny: int, size: int, work: NDArray[Any]
) -> None:
    """Pairs [pairs[0], pairs[1]) of the ``ny`` image rows in the grid, ready for complex transforms of length ``size``
    along u, into ``work`` (pair * nlane + lane, size or more, 2)."""
    nlane, step = grid.shape[3], 2 * grid.shape[3]
    ncell = grid.shape[1] - 2 * guard
    last = min(ncell, (size + 1) // 2)
    flat = grid.reshape(-1)
    for pair in range(pairs[0], pairs[1]):
        line = (pair - pairs[0]) * nlane
        work[line : line + nlane, last : size - last + 1] = 0.0
        one, two = _pair(pair, ny)
        a, b = ((guard + one) * grid.shape[1] + guard) * step, ((guard + two) * grid.shape[1] + guard) * step
        load_row_pair(width, grid, (a, b), (1, last), size, work, line)
        for lane in range(nlane):
            work[line + lane, 0, 0], work[line + lane, 0, 1] = flat[a + lane], flat[b + lane]
            if ncell > last:  # u = size / 2 is its own mirror image too
                at = last * step + lane
                work[line + lane, last, 0], work[line + lane, last, 1] = flat[a + at], flat[b + at]


@nb.jit(**JIT)
def store_row_pairs(
    width: Any, work: NDArray[Any], size: int, grid: NDArray[Any], guard: int, pairs: tuple[int, int], ny: int
) -> None:
    """The transforms of ``work`` into pairs [pairs[0], pairs[1]) of the ``ny`` image rows in the grid."""
    nlane, step = grid.shape[3], 2 * grid.shape[3]
    ncell = grid.shape[1] - 2 * guard
    flat, zero = grid.reshape(-1), grid.dtype.type(0.0)
    for pair in range(pairs[0], pairs[1]):
        line = (pair - pairs[0]) * nlane
        one, two = _pair(pair, ny)
        a, b = ((guard + one) * grid.shape[1] + guard) * step, ((guard + two) * grid.shape[1] + guard) * step
        store_row_pair(width, grid, (a, b), (1, ncell), size, work, line)
        for lane in range(nlane):
            flat[a + lane], flat[a + nlane + lane] = work[line + lane, 0, 0], zero
            flat[b + lane], flat[b + nlane + lane] = work[line + lane, 0, 1], zero


@nb.jit(**JIT)
def _split(source: NDArray[Any], factor: NDArray[Any], scale: Any, real: NDArray[Any], imag: NDArray[Any]) -> None:
    """Real and imaginary parts of complex numbers, times ``factor`` and then ``scale``. numba vectorises no loop whose index
    might be negative, so slices say where to begin."""
    for x in range(len(factor)):
        value = source[x]
        real[x] = value.real * factor[x] * scale
        imag[x] = value.imag * factor[x] * scale


@nb.jit(**JIT)
def _join(real: NDArray[Any], imag: NDArray[Any], factor: NDArray[Any], target: NDArray[Any]) -> None:
    """Complex numbers of two rows times ``factor``."""
    for x in range(len(factor)):
        target[x] = complex(real[x] * factor[x], imag[x] * factor[x])


@nb.jit(**JIT)
def crop_row_pairs(
    width: Any,
    padded: NDArray[Any],
    size: int,
    correction_x: NDArray[Any],
    scale: NDArray[Any],
    lanes: NDArray[np.int64],
    pairs: tuple[int, int],
    images: NDArray[Any],
    streamed: bool,
) -> None:
    """Rows of ``padded`` (pair * nlane + lane, size or more), complex, around pixel 0, cropped, corrected and times ``scale``
    (nlane,), into the images of ``lanes`` among ``images`` (nlane, ny, nx). ``streamed``: past the caches, into images of which
    both halves of each row begin at a multiple of a vector's bytes."""
    nlane, ny, nx = images.shape
    half = nx // 2
    lines, planes = padded.reshape(-1), images.reshape(-1)
    for pair in range(pairs[0], pairs[1]):
        one, two = _pair(pair, ny)
        for lane in lanes:
            if streamed:
                line = ((pair - pairs[0]) * nlane + lane) * padded.shape[1]
                rows = (lane * ny + one) * nx, (lane * ny + two) * nx
                stream_parts(width, lines, line + size - half, correction_x, 0, half, scale[lane], planes, rows[0], rows[1])
                stream_parts(width, lines, line, correction_x, half, nx, scale[lane], planes, rows[0], rows[1])
                continue
            source = padded[(pair - pairs[0]) * nlane + lane, :size]
            a, b = images[lane, one], images[lane, two]
            _split(source[size - half :], correction_x[:half], scale[lane], a[:half], b[:half])
            _split(source, correction_x[half:], scale[lane], a[half:], b[half:])
    if streamed:
        finish_streams()


@nb.jit(**JIT)
def pad_row_pairs(
    images: NDArray[Any],
    correction_x: NDArray[Any],
    lanes: NDArray[np.int64],
    nlane: int,
    pairs: tuple[int, int],
    size: int,
    padded: NDArray[Any],
) -> None:
    """Pairs of rows of the images of ``lanes``, corrected and zero-padded around pixel 0, as real and imaginary parts of
    ``padded``, which has room for those of ``nlane`` images."""
    _, ny, nx = images.shape
    half = nx // 2
    for pair in range(pairs[0], pairs[1]):
        one, two = _pair(pair, ny)
        for lane in lanes:
            target = padded[(pair - pairs[0]) * nlane + lane, :size]
            target[nx - half : size - half] = 0.0
            a, b = images[lane, one], images[lane, two]
            _join(a[:half], b[:half], correction_x[:half], target[size - half :])
            _join(a[half:], b[half:], correction_x[half:], target[: nx - half])
