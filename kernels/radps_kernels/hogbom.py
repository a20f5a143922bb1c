"""Hogbom CLEAN of one plane, fast: component for component what plain Hogbom does, bit for bit.

Algorithm: J. A. Hogbom, A&AS 15, 417 (1974). The readable twin is :mod:`radps_kernels.hogbom_reference`.

The plane is cut into square tiles. Every tile keeps the number of components that have been subtracted from it and an
upper bound on its largest |residual|, exact when nothing is pending. A new component raises each tile's bound by
|flux| x (largest |psf| over the offsets between the two tiles); pixels are touched only when a tile's bound is the
highest of all. Then the pending components are subtracted in their order, so every pixel sees the same float32
operations in the same order as in plain Hogbom; most tiles see them in batches that stay in cache, and some never.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

from radps_kernels.options import JIT

TILE = 32
"""Pixels along a tile's side; a row's mask is one 32-bit word."""
PENDING = 8192

STOP_ITERATIONS = 1
STOP_THRESHOLD = 2
STOP_DIVERGED = 4
DIVERGENCE = 1.1

# Two roundings per subtraction (product, difference) can lift a pixel above the exact bound by 2^-24 each.
_SLACK = np.float32(1.000001)
_MAGNITUDE = np.int32(0x7FFFFFFF)


def _subtract_row_code(typing_context: Any, tile: Any, i: Any, psf: Any, y: Any, x: Any, flux: Any) -> Any:
    """tile[i, :] -= flux * psf[y, x : x + TILE] as one vector: a plain loop runs six times slower, because numba guards
    every index against negative values and LLVM guards every row against overlap. Product and difference are rounded
    separately. The caller keeps the indices inside both arrays."""
    if not all(isinstance(a, types.Array) and a.layout == "C" and a.dtype == types.float32 for a in (tile, psf)):
        raise TypingError("needs C-ordered float32 arrays")
    signature = types.void(tile, types.intp, psf, types.intp, types.intp, types.float32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tile_array = context.make_array(signature.args[0])(context, builder, args[0])
        psf_array = context.make_array(signature.args[2])(context, builder, args[2])
        vector = ir.VectorType(ir.FloatType(), TILE)
        undefined = ir.Constant(vector, ir.Undefined)
        row = ir.Constant(ir.IntType(64), TILE)
        nx = cgutils.unpack_tuple(builder, psf_array.shape)[1]
        source = builder.gep(psf_array.data, [builder.add(builder.mul(args[3], nx), args[4])])
        target = builder.bitcast(builder.gep(tile_array.data, [builder.mul(args[1], row)]), vector.as_pointer())
        lane0 = builder.insert_element(undefined, args[5], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), TILE), [0] * TILE)
        scale = builder.shuffle_vector(lane0, undefined, zeros)
        psf_row = builder.load(builder.bitcast(source, vector.as_pointer()), align=4)
        tile_row = builder.load(target, align=4)
        builder.store(builder.fsub(tile_row, builder.fmul(scale, psf_row)), target, align=4)
        return context.get_dummy_value()

    return signature, codegen


_subtract_row: Any = intrinsic(_subtract_row_code)


@numba.jit(**JIT)
def _tile_psf_maxima(psf: NDArray[np.float32], nty: int, ntx: int) -> NDArray[np.float32]:
    """Largest |psf| over all offsets between a pixel of one tile and a component in another, (2 nty - 1, 2 ntx - 1),
    by tile offset (pixel's tile minus component's tile); 0 where the PSF does not reach."""
    ny, nx = psf.shape
    cy, cx = ny // 2, nx // 2
    maxima = np.zeros((2 * nty - 1, 2 * ntx - 1), np.float32)
    maxima_bits = maxima.view(np.int32)
    psf_bits = psf.view(np.int32)
    column = np.zeros(nx, np.int32)
    for dy in range(1 - nty, nty):
        column[:] = 0
        for y in range(max(0, cy + (dy - 1) * TILE + 1), min(2 * cy, cy + (dy + 1) * TILE)):
            row = psf_bits[y]
            for x in range(nx):
                column[x] = max(column[x], row[x] & _MAGNITUDE)
        for dx in range(1 - ntx, ntx):
            best = np.int32(0)
            for x in range(max(0, cx + (dx - 1) * TILE + 1), min(2 * cx, cx + (dx + 1) * TILE)):
                best = max(best, column[x])
            maxima_bits[dy + nty - 1, dx + ntx - 1] = best
    return maxima


@numba.jit(**JIT)
def _padded(psf: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of the PSF that is subtracted (CASA's hclean clips it so), with TILE zeros around: a tile that it covers
    in part is handled like any other, by vectors, and what it does not cover has 0 subtracted."""
    ny, nx = 2 * (psf.shape[0] // 2), 2 * (psf.shape[1] // 2)
    padded = np.zeros((ny + 2 * TILE, nx + 2 * TILE), np.float32)
    padded[TILE : TILE + ny, TILE : TILE + nx] = psf[:ny, :nx]
    return padded


@numba.jit(**JIT)
def _subtract_pending(
    tile: NDArray[np.float32],
    y0: int,
    x0: int,
    psf: NDArray[np.float32],
    position: NDArray[np.int32],
    flux: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Subtract components first..last-1 from one tile in place; ``psf`` from ``_padded``."""
    ny, nx = psf.shape
    for k in range(first, last):
        py = ny // 2 + y0 - position[k, 0]
        px = nx // 2 + x0 - position[k, 1]
        if 0 < px < nx - TILE:
            for i in range(max(0, TILE - py), min(TILE, ny - TILE - py)):
                _subtract_row(tile, i, psf, py + i, px, flux[k])


def _largest_bits_code(typing_context: Any, tile: Any, selectable: Any) -> Any:
    """Largest |value| of a tile (TILE, TILE) among the pixels whose bit is set in ``selectable`` (TILE,), as float32 bits:
    integers vectorise, and order as floats do. A row's bits are a vector's mask, so that they take no room in the cache."""
    if not (isinstance(tile, types.Array) and tile.layout == "C" and tile.dtype == types.float32):
        raise TypingError("needs a C-ordered float32 array")
    if not (isinstance(selectable, types.Array) and selectable.layout == "C" and selectable.dtype == types.uint32):
        raise TypingError("needs a C-ordered uint32 array")
    signature = types.int32(tile, selectable)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pixels, chosen = (
            context.make_array(kind)(context, builder, value).data for kind, value in zip(signature.args, args, strict=True)
        )
        row, length = ir.VectorType(ir.IntType(32), TILE), ir.Constant(ir.IntType(64), TILE)
        nothing, sign = ir.Constant(row, [0] * TILE), ir.Constant(row, [int(_MAGNITUDE)] * TILE)
        best = cgutils.alloca_once_value(builder, nothing)
        with cgutils.for_range(builder, length) as loop:
            start = builder.gep(pixels, [builder.mul(loop.index, length)])
            magnitude = builder.and_(builder.load(builder.bitcast(start, row.as_pointer()), align=4), sign)
            bits = builder.load(builder.gep(chosen, [loop.index]))
            mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), TILE))
            builder.store(_larger(builder, builder.select(mask, magnitude, nothing), builder.load(best)), best)
        left, width = builder.load(best), TILE
        while width > 1:
            width //= 2
            undefined, halves = ir.Constant(left.type, ir.Undefined), (range(width), range(width, 2 * width))
            wanted = [ir.Constant(ir.VectorType(ir.IntType(32), width), list(half)) for half in halves]
            left = _larger(builder, *(builder.shuffle_vector(left, undefined, half) for half in wanted))
        return builder.extract_element(left, ir.Constant(ir.IntType(32), 0))

    return signature, codegen


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


_largest_bits: Any = intrinsic(_largest_bits_code)


@numba.jit(**JIT)
def _first_pixel_with(tile: NDArray[np.float32], selectable: NDArray[np.uint32], wanted: np.int32) -> int:
    """Index of a tile's first selectable pixel, in row-major order, whose magnitude has these bits; -1 if there is none."""
    bits = tile.view(np.int32)
    for i in range(TILE):
        found = 0
        for j in range(TILE):
            found |= (bits[i, j] & _MAGNITUDE) == wanted
        if found:
            for j in range(TILE):
                if (selectable[i] >> np.uint32(j)) & np.uint32(1) and (bits[i, j] & _MAGNITUDE) == wanted:
                    return i * TILE + j
    return -1


@numba.jit(**JIT)
def _raise_bounds(
    bounds: NDArray[np.float32], slack: NDArray[np.float32], maxima: NDArray[np.float32], ty: int, tx: int, size: np.float32
) -> None:
    """Allow for a component of |flux| ``size`` in tile (ty, tx)."""
    nty, ntx = bounds.shape
    for i in range(nty):
        rise = maxima[i - ty + nty - 1, ntx - 1 - tx : 2 * ntx - 1 - tx]
        bound, factor = bounds[i], slack[i]
        for j in range(ntx):
            bound[j] = (bound[j] + size * rise[j]) * factor[j]


@numba.jit(**JIT)
def _slack(selectable: NDArray[np.uint32], nty: int, ntx: int) -> NDArray[np.float32]:
    """What bounds are multiplied by when they are raised (nty, ntx): 0 for a tile without selectable pixels, whose bound so
    stays 0: nothing is subtracted from it while any other has a residual."""
    slack = np.zeros((nty, ntx), np.float32)
    for tile in range(nty * ntx):
        if selectable[tile].any():
            slack[tile // ntx, tile % ntx] = _SLACK
    return slack


@numba.jit(**JIT)
def _cut_into_tiles(
    residual: NDArray[np.float32], mask: NDArray[np.uint8], oy: int, ox: int, nty: int, ntx: int
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Copy the plane from (oy, ox) on into (nty * ntx, TILE, TILE); with it (nty * ntx, TILE), a word for each row, whose
    bit j is set where a component may be placed in column j (mask set, value finite)."""
    ny, nx = residual.shape
    tiles = np.zeros((nty * ntx, TILE, TILE), np.float32)
    selectable = np.zeros((nty * ntx, TILE), np.uint32)
    for y in range(oy, min(ny, oy + nty * TILE)):
        ty, i = divmod(y - oy, TILE)
        source, chosen = residual[y], mask[y]
        for tx in range(ntx):
            x0 = ox + tx * TILE
            target, bits = tiles[ty * ntx + tx, i], np.uint32(0)
            for j in range(min(TILE, nx - x0)):
                if chosen[x0 + j] != 0 and np.isfinite(source[x0 + j]):
                    target[j] = source[x0 + j]
                    bits |= np.uint32(1) << np.uint32(j)
            selectable[ty * ntx + tx, i] = bits
    return tiles, selectable


@numba.jit(**JIT)
def _bring_up_to_date(
    tiles: NDArray[np.float32],
    selectable: NDArray[np.uint32],
    bounds: NDArray[np.int32],
    applied: NDArray[np.int64],
    layout: tuple[int, int, int],
    tile: int,
    psf: NDArray[np.float32],
    position: NDArray[np.int32],
    flux: NDArray[np.float32],
    count: int,
) -> None:
    """Subtract what is pending from one tile and make its bound exact."""
    oy, ox, ntx = layout
    ty, tx = divmod(tile, ntx)
    pixels = tiles[tile]
    _subtract_pending(pixels, oy + ty * TILE, ox + tx * TILE, psf, position, flux, applied[tile], count)
    applied[tile] = count
    bounds[tile] = _largest_bits(pixels, selectable[tile])


@numba.jit(**JIT)
def _bring_all_up_to_date(
    tiles: NDArray[np.float32],
    selectable: NDArray[np.uint32],
    bounds: NDArray[np.int32],
    applied: NDArray[np.int64],
    layout: tuple[int, int, int],
    psf: NDArray[np.float32],
    position: NDArray[np.int32],
    flux: NDArray[np.float32],
    count: int,
) -> None:
    """Subtract everything that is pending, so that the list of components can start again."""
    for tile in range(bounds.size):
        if selectable[tile].any():
            _bring_up_to_date(tiles, selectable, bounds, applied, layout, tile, psf, position, flux, count)
    applied[:] = 0


@numba.jit(**JIT)
def _find_peak(
    tiles: NDArray[np.float32],
    selectable: NDArray[np.uint32],
    bounds: NDArray[np.int32],
    applied: NDArray[np.int64],
    layout: tuple[int, int, int],
    psf: NDArray[np.float32],
    position: NDArray[np.int32],
    flux: NDArray[np.float32],
    count: int,
) -> tuple[int, int, np.float32]:
    """(y, x, value) of the largest |residual|; of equal ones the lowest flat index. Brings tiles up to date until no
    bound that is not exact is above, or equal to, the largest exact one."""
    best = np.int32(0)
    highest = np.argmax(bounds)
    for step in range(bounds.size + 1):
        tile = highest if step == 0 else step - 1
        if bounds[tile] >= best:
            if applied[tile] != count:
                _bring_up_to_date(tiles, selectable, bounds, applied, layout, tile, psf, position, flux, count)
            best = max(best, bounds[tile])
    oy, ox, ntx = layout
    py, px, value = -1, -1, np.float32(0.0)
    for tile in range(bounds.size):
        if bounds[tile] == best:
            i = _first_pixel_with(tiles[tile], selectable[tile], best)
            y, x = oy + tile // ntx * TILE + i // TILE, ox + tile % ntx * TILE + i % TILE
            if i >= 0 and (py < 0 or y < py or (y == py and x < px)):
                py, px, value = y, x, tiles[tile, i // TILE, i % TILE]
    return py, px, value


@numba.jit(**JIT)
def _mask_window(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(first row, first column, rows, columns) that hold all set pixels; (0, 0, 0, 0) for an empty mask."""
    ny, nx = mask.shape
    y0, y1, x0, x1 = ny, 0, nx, 0
    for y in range(ny):
        for x in range(nx):
            if mask[y, x] != 0:
                y0, y1 = min(y0, y), y + 1
                x0, x1 = min(x0, x), max(x1, x + 1)
    if y1 == 0:
        return 0, 0, 0, 0
    return y0, x0, y1 - y0, x1 - x0


@numba.jit(**JIT)
def hogbom(
    residual: NDArray[np.float32],
    psf: NDArray[np.float32],
    mask: NDArray[np.uint8],
    gain: float,
    threshold: float,
    max_iterations: int,
    model: NDArray[np.float32],
) -> tuple[int, int, float, float, float]:
    """One minor cycle by Hogbom's method; the largest |residual| inside the mask is the next component.

    Parameters
    ----------
    residual : (ny, nx) float32, Jy/beam, C order; not modified. Non-finite pixels are never chosen.
    psf : (ny, nx) float32, peak 1 at (ny // 2, nx // 2). Subtracted over its whole extent, clipped as CASA's hclean
        does: offsets from -(n // 2) to n // 2 - 1 on each axis.
    mask : (ny, nx) uint8, not 0 where a component may be placed.
    gain, threshold, max_iterations : fraction of the peak taken, Jy/beam, most components; both floats act as float32.
    model : (ny, nx) float32, Jy/pixel: components are added to it (the named output).

    Returns
    -------
    iterations, stop code (``STOP_...``), first and last peak |residual| in the mask (Jy/beam), flux added (Jy).
        Checked before each step, in order: a peak above ``DIVERGENCE`` times the lowest so far, one not above the
        threshold, the count.

    Rounding: flux = gain * peak, then residual - (flux * psf), each operation rounded to float32, never fused.
    """
    oy, ox, rows, columns = _mask_window(mask)
    nty, ntx = max(1, (rows + TILE - 1) // TILE), max(1, (columns + TILE - 1) // TILE)
    layout = (oy, ox, ntx)
    tiles, selectable = _cut_into_tiles(residual, mask, oy, ox, nty, ntx)
    slack, maxima, psf = _slack(selectable, nty, ntx), _tile_psf_maxima(psf, nty, ntx), _padded(psf)
    heights = np.zeros((nty, ntx), np.float32)
    bounds = heights.view(np.int32).reshape(-1)
    applied = np.zeros(nty * ntx, np.int64)
    position, flux = np.zeros((PENDING, 2), np.int32), np.zeros(PENDING, np.float32)
    total_flux, start, lowest, iterations, count = 0.0, 0.0, 0.0, 0, 0
    while True:
        if iterations == 0 or count == PENDING:
            _bring_all_up_to_date(tiles, selectable, bounds, applied, layout, psf, position, flux, count)
            count = 0
        y, x, value = _find_peak(tiles, selectable, bounds, applied, layout, psf, position, flux, count)
        peak = float(abs(value))
        if iterations == 0:
            start = lowest = peak
        if peak > DIVERGENCE * lowest:
            return iterations, STOP_DIVERGED, start, peak, total_flux
        if peak <= np.float32(max(threshold, 0.0)):
            return iterations, STOP_THRESHOLD, start, peak, total_flux
        if iterations >= max_iterations:
            return iterations, STOP_ITERATIONS, start, peak, total_flux
        lowest = min(lowest, peak)
        component = np.float32(gain) * value
        position[count, 0], position[count, 1], flux[count] = y, x, component
        model[y, x] += component
        total_flux += float(component)
        _raise_bounds(heights, slack, maxima, (y - oy) // TILE, (x - ox) // TILE, abs(component))
        count += 1
        iterations += 1
