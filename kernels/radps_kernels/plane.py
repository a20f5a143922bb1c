"""Gridding and degridding of many channels onto one plane: continuum images, and channels made of many narrower ones.

One visibility at a time, the taps along u in one vector. Grids have the layout of ``lanes`` with nlane 1: (rows of v,
columns of u, 2, 1), so that the taps of a row are contiguous pairs of real and imaginary part.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from radps_kernels.lanes import fold_lane, grid_sizes, guard_cells
from radps_kernels.options import JIT
from radps_kernels.vectors import Vectors, array_data, element_type, intrinsic
from radps_kernels.window import polynomial_degree


def padded_pairs(support: int) -> int:
    """Elements of the vector of taps: two per tap, padded to whole AVX2 registers of floats."""
    return -(-2 * support // 8) * 8


def pair_coefficients(polynomials: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients (degree + 1, padded pairs), highest power first: each tap twice, zeros beyond the last."""
    support = len(polynomials)
    out = np.zeros((polynomials.shape[1], padded_pairs(support)))
    out[:, : 2 * support] = np.repeat(polynomials[:, ::-1].T, 2, axis=1)
    return out


def _window(vec: Vectors, coefficients: ir.Value, s: ir.Value, support: int) -> ir.Value:
    """Weights of all taps, each twice."""
    integer = ir.IntType(64)
    x = vec.splat(Vectors(vec.builder, vec.element, 1).cast(s, ir.DoubleType()))
    value = vec.load(coefficients, ir.Constant(integer, 0))
    for power in range(1, polynomial_degree(support) + 1):
        value = vec.fma(value, x, vec.load(coefficients, ir.Constant(integer, power * vec.width)))
    return value


def _pair(vec: Vectors, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    """The vector (real, imaginary, real, imaginary, ...)."""
    index = ir.IntType(32)
    pair = vec.builder.insert_element(ir.Constant(vec.type, ir.Undefined), real, ir.Constant(index, 0))
    pair = vec.builder.insert_element(pair, imaginary, ir.Constant(index, 1))
    pattern = ir.Constant(ir.VectorType(index, vec.width), [0, 1] * (vec.width // 2))
    return vec.builder.shuffle_vector(pair, pair, pattern)


def _element(vec: Vectors, vector: ir.Value, position: int) -> ir.Value:
    return vec.builder.extract_element(vector, ir.Constant(ir.IntType(32), position))


def _row_index(builder: ir.IRBuilder, first: ir.Value, row_step: ir.Value, tap: int) -> ir.Value:
    return builder.add(first, builder.mul(row_step, ir.Constant(ir.IntType(64), tap)))


@intrinsic
def _add_taps(
    typingctx: Any, taps: Any, grid: Any, first: Any, coefficients: Any, s_u: Any, s_v: Any, real: Any, imaginary: Any
) -> Any:
    """Add one sample to its footprint, the first cell of which is ``first`` (flat); s_u, s_v as in ``window``."""
    value = grid.dtype
    signature = types.void(taps, grid, types.int64, coefficients, types.float64, types.float64, value, value)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        support = sig.args[0].count
        vec = Vectors(builder, element_type(context, grid), padded_pairs(support))
        data = array_data(context, builder, grid, args[1])
        row_step = _row_step(context, builder, grid, args[1])
        table = array_data(context, builder, coefficients, args[3])
        along_v = _window(vec, table, args[5], support)
        products = builder.fmul(_window(vec, table, args[4], support), _pair(vec, args[6], args[7]))
        for tap in range(support):
            at = _row_index(builder, args[2], row_step, tap)
            weight = vec.splat(_element(vec, along_v, 2 * tap))
            vec.store(vec.fma(weight, products, vec.load(data, at)), data, at)
        return context.get_dummy_value()

    return signature, codegen


def _row_step(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value) -> ir.Value:
    """Elements from one row of the grid to the next."""
    columns = builder.extract_value(context.make_array(array_type)(context, builder, array).shape, 1)
    return builder.mul(columns, ir.Constant(ir.IntType(64), 2))


@intrinsic
def _read_taps(typingctx: Any, taps: Any, grid: Any, first: Any, coefficients: Any, s_u: Any, s_v: Any) -> Any:
    """The window-weighted sum of a footprint: (real, imaginary)."""
    signature = types.UniTuple(grid.dtype, 2)(
        taps, grid, types.int64, coefficients, types.float64, types.float64
    )

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        support = sig.args[0].count
        vec = Vectors(builder, element_type(context, grid), padded_pairs(support))
        data = array_data(context, builder, grid, args[1])
        row_step = _row_step(context, builder, grid, args[1])
        table = array_data(context, builder, coefficients, args[3])
        along_v = _window(vec, table, args[5], support)
        total = vec.constant(0.0)
        for tap in range(support):
            weight = vec.splat(_element(vec, along_v, 2 * tap))
            total = vec.fma(weight, vec.load(data, _row_index(builder, args[2], row_step, tap)), total)
        products = builder.fmul(_window(vec, table, args[4], support), total)
        parts = [_sum_taps(vec, products, support, part) for part in (0, 1)]
        return context.make_tuple(builder, sig.return_type, parts)

    return signature, codegen


def _sum_taps(vec: Vectors, products: ir.Value, support: int, part: int) -> ir.Value:
    """Sum of one part over the taps, from the first to the last."""
    total = _element(vec, products, part)
    for tap in range(1, support):
        total = vec.builder.fadd(total, _element(vec, products, 2 * tap + part))
    return total


@nb.jit(**JIT)
def _place(u: float, v: float, support: int, grid: NDArray[Any]) -> tuple[bool, int, float, float, float]:
    """Where a sample at (u, v) cells goes: (usable, flat index of its first cell, s_u, s_v, sign)."""
    size_v, size_u = grid_sizes(grid, support)
    guard = guard_cells(support)
    ok, u, v, sign = fold_lane(u, v, size_u, size_v)
    if not ok:
        return False, 0, 0.0, 0.0, sign
    start_u, start_v = math.ceil(u - 0.5 * support), math.ceil(v - 0.5 * support)
    first = ((int(start_v) + size_v // 2 + guard) * grid.shape[1] + int(start_u) + guard) * 2
    centre = 0.5 * (support - 1)
    return True, first, 2.0 * (start_u + centre - u), 2.0 * (start_v + centre - v), sign


@nb.jit(**JIT)
def grid_plane(
    taps: Any,
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    vis: NDArray[np.float32],
    weight: NDArray[np.float32],
    coefficients: NDArray[Any],
    psf: bool,
    grid: NDArray[Any],
) -> None:
    """Add ``weight * vis`` (``psf``: ``weight``) of all rows and channels to the one plane, in row, then channel order.

    ``taps`` a tuple of as many zeros as the window has taps, ``uvw_m`` (nrow, 3) m, ``row_scale`` (nrow,),
    ``lane_scale`` (2, nchan) cells of u and v per metre, ``vis`` (nrow, 2, nchan), ``weight`` (nrow, nchan),
    ``coefficients`` as ``pair_coefficients`` in the grid's dtype, ``grid`` (rows, columns, 2, 1), all C-contiguous.
    Samples without weight are skipped. Twin: ``reference.grid_plane``.
    """
    support = len(taps)
    kind = grid.dtype.type
    for row in range(uvw_m.shape[0]):
        u, v = uvw_m[row, 0] * row_scale[row], uvw_m[row, 1] * row_scale[row]
        for chan in range(lane_scale.shape[1]):
            w = kind(weight[row, chan])
            if w == 0.0:
                continue
            ok, first, s_u, s_v, sign = _place(lane_scale[0, chan] * u, lane_scale[1, chan] * v, support, grid)
            if ok and psf:
                _add_taps(taps, grid, first, coefficients, s_u, s_v, w, kind(0.0))
            elif ok:
                real, imaginary = w * kind(vis[row, 0, chan]), kind(sign) * (w * kind(vis[row, 1, chan]))
                _add_taps(taps, grid, first, coefficients, s_u, s_v, real, imaginary)


@nb.jit(**JIT)
def degrid_plane(
    taps: Any,
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    coefficients: NDArray[Any],
    grid: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Interpolate every row and channel from the one plane into ``out`` (nrow, 2, nchan), float32 or float64.

    Arguments as in ``grid_plane``; samples that are not finite become 0. Twin: ``reference.degrid_plane``.
    """
    support = len(taps)
    for row in range(uvw_m.shape[0]):
        u, v = uvw_m[row, 0] * row_scale[row], uvw_m[row, 1] * row_scale[row]
        for chan in range(lane_scale.shape[1]):
            real, imaginary = grid.dtype.type(0.0), grid.dtype.type(0.0)
            ok, first, s_u, s_v, sign = _place(lane_scale[0, chan] * u, lane_scale[1, chan] * v, support, grid)
            if ok:
                real, imaginary = _read_taps(taps, grid, first, coefficients, s_u, s_v)
            out[row, 0, chan] = real
            out[row, 1, chan] = sign * imaginary
