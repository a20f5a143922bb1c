"""Gridding and degridding with one image channel per vector lane.

Neighbouring channels of a row fall on the same uv cell nearly always, so one row of all channels is gridded by vector
instructions without gathers. Rows whose channels fall on several cells go channel by channel through the same code at
width 1, which rounds alike: a channel's bits depend neither on its neighbours nor on the vector width.

Grids: (rows of v, columns of u, 2, nlane), real and imaginary part apart, lanes innermost. Column ``guard + i`` holds
u = i cells, row ``guard + half_v + j`` holds v = j cells. Samples with u < 0 are conjugated onto u > 0 (the image is
real), samples beyond half the grid are wrapped (exact, as pixels are a grid too), and samples that are not finite are
skipped. The ``guard`` cells around take the footprints' overhang; ``half_plane`` folds them in.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from radps_kernels.options import JIT
from radps_kernels.vectors import Vectors, array_data, element_type, intrinsic
from radps_kernels.window import polynomial_degree

Stencil = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def stencil(support: int, width: int, parts: int = 2) -> Stencil:
    """What the kernels must know when they are compiled, as the lengths of three tuples: taps per axis, lanes per
    vector, and 2 for complex samples or 1 for real ones (the point spread function)."""
    return (0,) * support, (0,) * width, (0,) * parts


@nb.jit(**JIT)
def guard_cells(support: int) -> int:
    """Cells around the grid that take the overhang of footprints; one more than half the support, and a spare one
    because vectors of taps are padded beyond the footprint (``plane``)."""
    return support // 2 + 2


def _window(vec: Vectors, coefficients: ir.Value, s: ir.Value, support: int) -> list[ir.Value]:
    """Weights of all taps by Horner's rule; a tap and its mirror image share the even and the odd part."""
    terms = (polynomial_degree(support) + 1) // 2
    square = vec.builder.fmul(s, s)
    minus_s = vec.builder.fneg(s)
    weights: list[Any] = [None] * support
    for tap in range((support + 1) // 2):
        even, odd = (_horner(vec, coefficients, (2 * tap + part) * terms, terms, square) for part in (0, 1))
        weights[tap] = vec.fma(s, odd, even)
        weights[support - 1 - tap] = vec.fma(minus_s, odd, even)
    return weights


def _horner(vec: Vectors, coefficients: ir.Value, first: int, terms: int, x: ir.Value) -> ir.Value:
    def coefficient(k: int) -> ir.Value:
        at = vec.builder.gep(coefficients, [ir.Constant(ir.IntType(64), first + k)])
        return vec.splat(vec.builder.load(at, typ=vec.element))

    value = coefficient(0)
    for k in range(1, terms):
        value = vec.fma(value, x, coefficient(k))
    return value


class _Footprint:
    """The code common to gridding and degridding: where the lanes of one row lie and which weights they have.

    The intrinsics' common arguments: ``static`` a stencil, ``grid``, ``first`` the flat index of the footprint's first
    cell, ``steps`` (row, cell) in elements, ``coefficients`` of the window, ``scale`` (2, nlane) cells per metre,
    ``position`` (u, v in metres; u, v of the footprint's centre in cells), ``lanes`` (first lane, nlane).
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        static, grid_type, coefficients_type = signature.args[0], signature.args[1], signature.args[4]
        self.support, self.width, self.parts = (part.count for part in static)
        self.builder = builder
        self.vec = Vectors(builder, element_type(context, grid_type), self.width)
        self.grid = array_data(context, builder, grid_type, args[1])
        self.steps = _unpack(builder, args[3], 2)
        self.first = args[2]
        coefficients = array_data(context, builder, coefficients_type, args[4])
        scale = array_data(context, builder, signature.args[5], args[5])
        position = _unpack(builder, args[6], 4)
        lane, nlane = _unpack(builder, args[7], 2)
        self.weights_u = self._weights(coefficients, scale, lane, position[0], position[2])
        self.weights_v = self._weights(coefficients, scale, builder.add(lane, nlane), position[1], position[3])

    def _weights(self, coefficients: ir.Value, scale: ir.Value, at: ir.Value, x: ir.Value, centre: ir.Value) -> list:
        double = Vectors(self.builder, ir.DoubleType(), self.width)
        cells = self.builder.fmul(double.load(scale, at), double.splat(x))
        offset = self.builder.fsub(double.splat(centre), cells)
        s = self.vec.cast(self.builder.fadd(offset, offset), ir.DoubleType())
        return _window(self.vec, coefficients, s, self.support)

    def cell(self, tap_v: int, tap_u: int, part: int) -> ir.Value:
        """Index of the first lane of a cell's real or imaginary part."""
        row_step, cell_step = self.steps
        index, integer = self.first, ir.IntType(64)
        index = self.builder.add(index, self.builder.mul(row_step, ir.Constant(integer, tap_v)))
        index = self.builder.add(index, self.builder.mul(cell_step, ir.Constant(integer, tap_u)))
        half = self.builder.lshr(cell_step, ir.Constant(integer, 1))
        return self.builder.add(index, half) if part else index


def _unpack(builder: ir.IRBuilder, value: ir.Value, count: int) -> list[ir.Value]:
    """The elements of a tuple."""
    return [builder.extract_value(value, i) for i in range(count)]


@intrinsic
def _add_footprint(
    typingctx: Any,
    static: Any,
    grid: Any,
    first: Any,
    steps: Any,
    coefficients: Any,
    scale: Any,
    position: Any,
    lanes: Any,
    vis: Any,
    weight: Any,
    row: Any,
    sign: Any,
) -> Any:
    """Add ``weight * vis`` of one row (``sign`` -1 conjugates) to its footprint on the grid."""
    signature = types.void(
        static, grid, first, steps, coefficients, scale, position, lanes, vis, weight, row, types.float32
    )

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        footprint = _Footprint(context, builder, sig, args)
        samples = _weighted_samples(context, builder, sig, args, footprint)
        vec = footprint.vec
        for tap_v, weight_v in enumerate(footprint.weights_v):
            parts = [builder.fmul(weight_v, sample) for sample in samples]
            for tap_u, weight_u in enumerate(footprint.weights_u):
                for part, value in enumerate(parts):
                    at = footprint.cell(tap_v, tap_u, part)
                    vec.store(vec.fma(weight_u, value, vec.load(footprint.grid, at)), footprint.grid, at)
        return context.get_dummy_value()

    return signature, codegen


def _weighted_samples(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, footprint: _Footprint) -> list:
    """``weight * vis``, real and imaginary; of a real stencil the weights alone."""
    lane, nlane = _unpack(builder, args[7], 2)
    row, sign = args[10], args[11]
    weight = _load_row(context, builder, sig.args[9], args[9], builder.mul(row, nlane), lane, footprint.vec)
    if footprint.parts == 1:
        return [weight]
    start = builder.mul(builder.add(row, row), nlane)
    real = _load_row(context, builder, sig.args[8], args[8], start, lane, footprint.vec)
    imaginary = _load_row(context, builder, sig.args[8], args[8], builder.add(start, nlane), lane, footprint.vec)
    signs = footprint.vec.splat(Vectors(builder, footprint.vec.element, 1).cast(sign, ir.FloatType()))
    return [builder.fmul(weight, real), builder.fmul(signs, builder.fmul(weight, imaginary))]


def _load_row(
    context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, start: ir.Value, lane: ir.Value, vec: Vectors
) -> ir.Value:
    source = element_type(context, array_type)
    data = array_data(context, builder, array_type, array)
    return vec.cast(Vectors(builder, source, vec.width).load(data, builder.add(start, lane)), source)


@intrinsic
def _read_footprint(
    typingctx: Any,
    static: Any,
    grid: Any,
    first: Any,
    steps: Any,
    coefficients: Any,
    scale: Any,
    position: Any,
    lanes: Any,
    out: Any,
    row: Any,
    sign: Any,
) -> Any:
    """Store the window-weighted sum of one row's footprint (``sign`` -1 conjugates)."""
    signature = types.void(static, grid, first, steps, coefficients, scale, position, lanes, out, row, types.float32)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        footprint = _Footprint(context, builder, sig, args)
        real, imaginary = (_interpolate(footprint, part) for part in (0, 1))
        scalar = Vectors(builder, footprint.vec.element, 1)
        imaginary = builder.fmul(footprint.vec.splat(scalar.cast(args[10], ir.FloatType())), imaginary)
        target = Vectors(builder, element_type(context, sig.args[8]), footprint.width)
        data = array_data(context, builder, sig.args[8], args[8])
        lane, nlane = _unpack(builder, args[7], 2)
        start = builder.add(builder.mul(builder.add(args[9], args[9]), nlane), lane)
        target.store(target.cast(real, footprint.vec.element), data, start)
        target.store(target.cast(imaginary, footprint.vec.element), data, builder.add(start, nlane))
        return context.get_dummy_value()

    return signature, codegen


def _interpolate(footprint: _Footprint, part: int) -> ir.Value:
    vec = footprint.vec
    total = vec.constant(0.0)
    for tap_v, weight_v in enumerate(footprint.weights_v):
        along_u = vec.constant(0.0)
        for tap_u, weight_u in enumerate(footprint.weights_u):
            along_u = vec.fma(weight_u, vec.load(footprint.grid, footprint.cell(tap_v, tap_u, part)), along_u)
        total = vec.fma(weight_v, along_u, total)
    return total


@nb.jit(**JIT)
def wrap(cells: float, size: int) -> float:
    """A position moved by a multiple of ``size`` into [-size / 2, size / 2]; NaN stays NaN."""
    return cells - size * np.rint(cells / size)


@nb.jit(**JIT)
def farthest_m(uvw_m: NDArray[np.float64], row_scale: NDArray[np.float64], axis: int) -> float:
    """Largest |u| (``axis`` 0) or |v| (1) of the rows in metres, times their ``row_scale``; what is not finite
    counts for nothing, as in gridding."""
    farthest = 0.0
    for row in range(uvw_m.shape[0]):
        distance = abs(uvw_m[row, axis] * row_scale[row])
        if farthest < distance < np.inf:
            farthest = distance
    return farthest


@nb.jit(**JIT)
def grid_sizes(grid: NDArray[Any], support: int) -> tuple[int, int]:
    """(rows of v, columns of u) of the full uv plane behind a guarded half-plane grid."""
    guard = guard_cells(support)
    return grid.shape[0] - 2 * guard, 2 * (grid.shape[1] - 2 * guard - 1)


@nb.jit(**JIT)
def _shared_start(low: float, high: float, x: float, support: int, size: int) -> tuple[bool, float]:
    """Whether the lanes of a row share one footprint that needs no wrapping, along one axis, and its first cell.

    Rounding is monotonic, so the lanes of the lowest and the highest frequency speak for all.
    """
    start = math.ceil(low * x - 0.5 * support)
    end = math.ceil(high * x - 0.5 * support)
    return start == end and abs(high * x) <= 0.5 * size, start


@nb.jit(**JIT)
def _first(start_u: float, start_v: float, grid: NDArray[Any], support: int) -> int:
    """Flat index of the lane 0 of a footprint's first cell."""
    size_v, _ = grid_sizes(grid, support)
    guard = guard_cells(support)
    row = int(start_v) + size_v // 2 + guard
    column = int(start_u) + guard
    return (row * grid.shape[1] + column) * 2 * grid.shape[3]


@nb.jit(**JIT)
def fold_lane(u: float, v: float, size_u: int, size_v: int) -> tuple[bool, float, float, float]:
    """One position in cells, wrapped and folded onto u >= 0: (usable, u, v, sign of the imaginary part)."""
    u, v = wrap(u, size_u), wrap(v, size_v)
    sign = 1.0
    if u < 0.0:
        u, v, sign = -u, -v, -1.0
    return u < 0.5 * size_u + 0.5 and abs(v) < 0.5 * size_v + 0.5, u, v, sign


@nb.jit(**JIT)
def _grid_lane_by_lane(
    static: Any,
    u: float,
    v: float,
    row: int,
    lane_scale: NDArray[np.float64],
    unit_scale: NDArray[np.float64],
    vis: NDArray[np.float32],
    weight: NDArray[np.float32],
    coefficients: NDArray[Any],
    grid: NDArray[Any],
) -> None:
    support, nlane = len(static[0]), grid.shape[3]
    single = (static[0], (0,), static[2])
    size_v, size_u = grid_sizes(grid, support)
    steps = (grid.shape[1] * 2 * nlane, 2 * nlane)
    centre = 0.5 * (support - 1)
    for lane in range(nlane):
        if weight[row, lane] == 0.0:  # a flagged sample, or a lane without a channel: it would add zeros
            continue
        ok, cu, cv, sign = fold_lane(lane_scale[0, lane] * u, lane_scale[1, lane] * v, size_u, size_v)
        if ok:
            start_u, start_v = math.ceil(cu - 0.5 * support), math.ceil(cv - 0.5 * support)
            first = _first(start_u, start_v, grid, support) + lane
            position = (cu, cv, start_u + centre, start_v + centre)
            _add_footprint(
                single, grid, first, steps, coefficients, unit_scale, position, (lane, nlane), vis, weight, row, sign
            )


@nb.jit(**JIT)
def grid_lanes(
    static: Any,
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    vis: NDArray[np.float32],
    weight: NDArray[np.float32],
    coefficients: NDArray[Any],
    grid: NDArray[Any],
) -> None:
    """Add ``weight * vis`` to the grid, row by row in the given order.

    ``static`` from ``stencil`` (with 1 part: weights alone, vis unused), ``uvw_m`` (nrow, 3) m, ``row_scale`` (nrow,),
    ``lane_scale`` (2, nlane) cells of u and v per metre, ``vis`` (nrow, 2, nlane), ``weight`` (nrow, nlane),
    ``coefficients`` as ``even_odd_coefficients`` in the grid's dtype, ``grid`` (rows, columns, 2, nlane), all
    C-contiguous. nlane is a multiple of the stencil's width. Twin: ``reference.grid_lanes``.
    """
    support, width, nlane = len(static[0]), len(static[1]), grid.shape[3]
    size_v, size_u = grid_sizes(grid, support)
    steps = (grid.shape[1] * 2 * nlane, 2 * nlane)
    low, high = int(np.argmin(lane_scale[0])), int(np.argmax(lane_scale[0]))
    unit_scale = np.ones((2, nlane))
    centre = 0.5 * (support - 1)
    for row in range(uvw_m.shape[0]):
        sign = -1.0 if uvw_m[row, 0] < 0.0 else 1.0
        u, v = sign * (uvw_m[row, 0] * row_scale[row]), sign * (uvw_m[row, 1] * row_scale[row])
        same_u, start_u = _shared_start(lane_scale[0, low], lane_scale[0, high], u, support, size_u)
        same_v, start_v = _shared_start(lane_scale[1, low], lane_scale[1, high], v, support, size_v)
        if same_u and same_v:
            first = _first(start_u, start_v, grid, support)
            position = (u, v, start_u + centre, start_v + centre)
            for lane in range(0, nlane, width):
                _add_footprint(
                    static, grid, first + lane, steps, coefficients, lane_scale, position, (lane, nlane), vis, weight,
                    row, sign,
                )
        else:
            u, v = sign * u, sign * v
            _grid_lane_by_lane(static, u, v, row, lane_scale, unit_scale, vis, weight, coefficients, grid)


@nb.jit(**JIT)
def _degrid_lane_by_lane(
    static: Any,
    u: float,
    v: float,
    row: int,
    lane_scale: NDArray[np.float64],
    unit_scale: NDArray[np.float64],
    coefficients: NDArray[Any],
    grid: NDArray[Any],
    out: NDArray[Any],
) -> None:
    support, nlane = len(static[0]), grid.shape[3]
    single = (static[0], (0,), static[2])
    size_v, size_u = grid_sizes(grid, support)
    steps = (grid.shape[1] * 2 * nlane, 2 * nlane)
    centre = 0.5 * (support - 1)
    for lane in range(nlane):
        ok, cu, cv, sign = fold_lane(lane_scale[0, lane] * u, lane_scale[1, lane] * v, size_u, size_v)
        if ok:
            start_u, start_v = math.ceil(cu - 0.5 * support), math.ceil(cv - 0.5 * support)
            first = _first(start_u, start_v, grid, support) + lane
            position = (cu, cv, start_u + centre, start_v + centre)
            _read_footprint(
                single, grid, first, steps, coefficients, unit_scale, position, (lane, nlane), out, row, sign
            )
        else:
            out[row, 0, lane] = 0.0
            out[row, 1, lane] = 0.0


@nb.jit(**JIT)
def degrid_lanes(
    static: Any,
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    coefficients: NDArray[Any],
    grid: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Interpolate every row and lane from the grid into ``out`` (nrow, 2, nlane), float32 or float64.

    Arguments as in ``grid_lanes``; samples that are not finite become 0. Twin: ``reference.degrid_lanes``.
    """
    support, width, nlane = len(static[0]), len(static[1]), grid.shape[3]
    size_v, size_u = grid_sizes(grid, support)
    steps = (grid.shape[1] * 2 * nlane, 2 * nlane)
    low, high = int(np.argmin(lane_scale[0])), int(np.argmax(lane_scale[0]))
    unit_scale = np.ones((2, nlane))
    centre = 0.5 * (support - 1)
    for row in range(uvw_m.shape[0]):
        sign = -1.0 if uvw_m[row, 0] < 0.0 else 1.0
        u, v = sign * (uvw_m[row, 0] * row_scale[row]), sign * (uvw_m[row, 1] * row_scale[row])
        same_u, start_u = _shared_start(lane_scale[0, low], lane_scale[0, high], u, support, size_u)
        same_v, start_v = _shared_start(lane_scale[1, low], lane_scale[1, high], v, support, size_v)
        if same_u and same_v:
            first = _first(start_u, start_v, grid, support)
            position = (u, v, start_u + centre, start_v + centre)
            for lane in range(0, nlane, width):
                _read_footprint(
                    static, grid, first + lane, steps, coefficients, lane_scale, position, (lane, nlane), out, row, sign
                )
        else:
            u, v = sign * u, sign * v
            _degrid_lane_by_lane(static, u, v, row, lane_scale, unit_scale, coefficients, grid, out)
