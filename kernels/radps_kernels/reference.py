"""Slow, readable twins of the gridding kernels: what they are tested against.

Grids have the layout of ``lanes``; all sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_kernels.lanes import guard_cells


@dataclass(frozen=True)
class Footprint:
    """Where the sample of one row and channel lies: slices of the grid, their weights, and -1 if conjugated."""

    row: int
    chan: int
    cells: tuple[slice, slice]
    weights: NDArray[np.float64]
    sign: float


def window_weights(polynomials: NDArray[np.float64], position: float) -> tuple[int, NDArray[np.float64]]:
    """First cell of the footprint of a position (cells) and the weights of all its taps."""
    support = len(polynomials)
    start = math.ceil(position - support / 2)
    s = 2.0 * (start - position) + support - 1
    return start, polynomials @ s ** np.arange(polynomials.shape[1])


def footprints(
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    polynomials: NDArray[np.float64],
    grid_shape: tuple[int, ...],
) -> Iterator[Footprint]:
    """Footprints of all finite samples in row, then channel order, wrapped and folded onto u >= 0."""
    support = len(polynomials)
    guard = guard_cells(support)
    size_v, size_u = grid_shape[0] - 2 * guard, 2 * (grid_shape[1] - 2 * guard - 1)
    for row in range(len(uvw_m)):
        for chan in range(lane_scale.shape[1]):
            u, v = lane_scale[:, chan] * (uvw_m[row, :2] * row_scale[row])
            if not (math.isfinite(u) and math.isfinite(v)):
                continue
            u, v = u - size_u * np.rint(u / size_u), v - size_v * np.rint(v / size_v)
            sign = -1.0 if u < 0.0 else 1.0
            start_u, weights_u = window_weights(polynomials, sign * u)
            start_v, weights_v = window_weights(polynomials, sign * v)
            first_v, first_u = start_v + size_v // 2 + guard, start_u + guard
            cells = slice(first_v, first_v + support), slice(first_u, first_u + support)
            yield Footprint(row, chan, cells, np.outer(weights_v, weights_u), sign)


def grid_lanes(
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    vis: NDArray[np.float32],
    weight: NDArray[np.float32],
    polynomials: NDArray[np.float64],
    grid_shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """The grid of ``weight * vis``, each channel on the plane of its lane; on the only plane if there is one."""
    grid = np.zeros(grid_shape)
    for at in footprints(uvw_m, row_scale, lane_scale, polynomials, grid_shape):
        lane = at.chan if grid_shape[3] > 1 else 0
        sample = weight[at.row, at.chan] * vis[at.row, :, at.chan].astype(np.float64)
        grid[at.cells][:, :, 0, lane] += at.weights * sample[0]
        grid[at.cells][:, :, 1, lane] += at.weights * sample[1] * at.sign
    return grid


def degrid_lanes(
    uvw_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_scale: NDArray[np.float64],
    polynomials: NDArray[np.float64],
    grid: NDArray[Any],
) -> NDArray[np.float64]:
    """Visibilities (nrow, 2, nchan) interpolated from the plane of each channel's lane, or from the only plane."""
    out = np.zeros((len(uvw_m), 2, lane_scale.shape[1]))
    for at in footprints(uvw_m, row_scale, lane_scale, polynomials, grid.shape):
        cells = grid[at.cells][..., at.chan if grid.shape[3] > 1 else 0]
        out[at.row, :, at.chan] = np.tensordot(at.weights, cells, axes=2) * (1.0, at.sign)
    return out


def grid_plane(*arguments: Any) -> NDArray[np.float64]:
    """As ``grid_lanes``, for a grid of one lane."""
    return grid_lanes(*arguments)


def degrid_plane(*arguments: Any) -> NDArray[np.float64]:
    """As ``degrid_lanes``, for a grid of one lane."""
    return degrid_lanes(*arguments)


def whole_plane(grid: NDArray[Any], guard: int) -> NDArray[np.complex128]:
    """The uv plane (nlane, size_v, size_u), zero first on both axes, of a gridded half plane, guard cells added: not
    completed to u < 0, so that the real part of its transform is the dirty image."""
    size_v, size_u = grid.shape[0] - 2 * guard, 2 * (grid.shape[1] - 2 * guard - 1)
    plane = np.zeros((grid.shape[3], size_v, size_u), np.complex128)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            cell = grid[row, column, 0] + 1j * grid[row, column, 1]
            plane[:, (row - guard - size_v // 2) % size_v, (column - guard) % size_u] += cell
    return plane
