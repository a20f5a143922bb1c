"""Moving half uv planes between the gridding layout and the arrays that FFTW transforms.

Grids are (rows of v, columns of u, 2, nlane) with ``guard`` cells around, as ``lanes`` describes. Both passes of the
two-dimensional transform work on the grid's own memory: along v in strips of columns, along u in groups of rows;
between them row ``guard + y`` of the grid holds image row y. So no second array of the grid's size is needed, and all
transpositions happen in cache.

Real images need u >= 0 only: with H(u, v) = G(u, v) + conj G(-u, -v), the complex-to-real transform of H / 2 (of G
itself at u = 0 and u = N / 2, which are their own mirrors) is the real part of the transform of G.
"""

from __future__ import annotations

from typing import Any

import numba as nb
from numpy.typing import NDArray

from radps_kernels.options import JIT
from radps_kernels.transpose import cells_per_block, load_block, store_block


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
    guard: int,
    columns: tuple[int, int],
    factor: NDArray[Any],
    size: int,
    work: NDArray[Any],
) -> None:
    """Columns [columns[0], columns[1]) of the grid, transposed for transforms of length ``size`` along v.

    Grid row ``guard + i`` times ``factor[i]`` becomes element ``i - len(factor) // 2`` (modulo size) of ``work``
    (column * nlane + lane, size or more, 2); the other elements become 0. ``width``: a tuple of as many zeros as there
    are lanes per vector.
    """
    n, nlane, step = len(factor), grid.shape[3], 2 * grid.shape[3]
    half, row_step = n // 2, grid.shape[1] * 2 * grid.shape[3]
    work[:, n - half : size - half] = 0.0
    for start, stop, shift in ((0, half, size - half), (half, n, -half)):
        for block in range(start, stop, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), stop)
            i0 = max(start, i1 - cells_per_block(width))
            for column in range(columns[0], columns[1]):
                cell = guard * row_step + column * step, row_step
                load_block(width, grid, cell, factor, i0, i1, work, (column - columns[0]) * nlane, shift)


@nb.jit(**JIT)
def store_columns(
    width: Any,
    work: NDArray[Any],
    size: int,
    factor: NDArray[Any],
    grid: NDArray[Any],
    guard: int,
    columns: tuple[int, int],
) -> None:
    """The way back: elements of ``work`` times ``factor`` into rows ``guard`` and following of the grid."""
    n, nlane, step = len(factor), grid.shape[3], 2 * grid.shape[3]
    half, row_step = n // 2, grid.shape[1] * 2 * grid.shape[3]
    for start, stop, shift in ((0, half, size - half), (half, n, -half)):
        for block in range(start, stop, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), stop)
            i0 = max(start, i1 - cells_per_block(width))
            for column in range(columns[0], columns[1]):
                cell = guard * row_step + column * step, row_step
                store_block(width, grid, cell, factor, i0, i1, work, (column - columns[0]) * nlane, shift)


@nb.jit(**JIT)
def load_half_rows(
    width: Any, grid: NDArray[Any], guard: int, rows: tuple[int, int], factor: NDArray[Any], half: NDArray[Any]
) -> None:
    """Image rows [rows[0], rows[1]) of the grid times ``factor`` (N / 2 + 1,), transposed for complex-to-real
    transforms along u, into ``half`` (row * nlane + lane, N / 2 + 1 or more, 2)."""
    count, nlane, step = len(factor), grid.shape[3], 2 * grid.shape[3]
    for y in range(rows[0], rows[1]):
        cell = ((guard + y) * grid.shape[1] + guard) * step, step
        for block in range(0, count, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), count)
            i0 = max(0, i1 - cells_per_block(width))
            load_block(width, grid, cell, factor, i0, i1, half, (y - rows[0]) * nlane, 0)


@nb.jit(**JIT)
def store_half_rows(
    width: Any, half: NDArray[Any], factor: NDArray[Any], grid: NDArray[Any], guard: int, rows: tuple[int, int]
) -> None:
    """Real-to-complex transforms times ``factor`` (N / 2 + 1,) into image rows [rows[0], rows[1]) of the grid."""
    count, nlane, step = len(factor), grid.shape[3], 2 * grid.shape[3]
    for y in range(rows[0], rows[1]):
        cell = ((guard + y) * grid.shape[1] + guard) * step, step
        for block in range(0, count, cells_per_block(width)):
            i1 = min(block + cells_per_block(width), count)
            i0 = max(0, i1 - cells_per_block(width))
            store_block(width, grid, cell, factor, i0, i1, half, (y - rows[0]) * nlane, 0)


@nb.jit(**JIT)
def _multiply(source: NDArray[Any], factor: NDArray[Any], target: NDArray[Any]) -> None:
    """target = source * factor, elements from 0 on (numba vectorises no loop whose index might be negative)."""
    for x in range(len(target)):
        target[x] = source[x] * factor[x]


@nb.jit(**JIT)
def crop_rows(
    padded: NDArray[Any], size: int, correction_x: NDArray[Any], rows: tuple[int, int], images: NDArray[Any]
) -> None:
    """``padded`` (row * nlane + lane, size or more) around pixel 0, cropped and corrected, into ``images`` (nlane, ny,
    nx)."""
    nlane, half = images.shape[0], images.shape[2] // 2
    for y in range(rows[0], rows[1]):
        for lane in range(nlane):
            source, target = padded[(y - rows[0]) * nlane + lane, :size], images[lane, y]
            _multiply(source[size - half :], correction_x[:half], target[:half])
            _multiply(source, correction_x[half:], target[half:])


@nb.jit(**JIT)
def pad_rows(
    images: NDArray[Any], correction_x: NDArray[Any], rows: tuple[int, int], size: int, padded: NDArray[Any]
) -> None:
    """Rows [rows[0], rows[1]) of ``images``, corrected and zero-padded around pixel 0, into ``padded``."""
    nlane, nx = images.shape[0], images.shape[2]
    half = nx // 2
    for y in range(rows[0], rows[1]):
        for lane in range(nlane):
            source, target = images[lane, y], padded[(y - rows[0]) * nlane + lane, :size]
            _multiply(source[:half], correction_x[:half], target[size - half :])
            _multiply(source[half:], correction_x[half:], target[: nx - half])
            target[nx - half : size - half] = 0.0
