"""The major cycle's arithmetic for one leaf: predict, subtract, grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import precision
from radps_mpi.data.visibilities import VisibilityPass
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.imaging.preparation import PreparedPiece


def grid_residual(
    gridder: Gridder, pieces: list[PreparedPiece], model_grid: NDArray[Any] | None
) -> NDArray[Any]:
    """Grid of weighted residual visibilities of a leaf; of the visibilities themselves where there is no model."""
    grid = gridder.new_grid()
    for piece in pieces:
        for p in piece.block.passes:
            gridder.grid(piece.block.uvw_m, p if model_grid is None else _subtract(gridder, piece, p, model_grid), grid)
    return grid


def _subtract(gridder: Gridder, piece: PreparedPiece, p: VisibilityPass, model_grid: NDArray[Any]) -> VisibilityPass:
    predicted = np.empty_like(p.vis)
    gridder.degrid(model_grid, piece.block.uvw_m, p, predicted)
    np.subtract(p.vis, predicted, out=predicted)
    return VisibilityPass(predicted, p.weight, p.freq_hz, p.row_scale)


def grid_psf(gridder: Gridder, pieces: list[PreparedPiece]) -> NDArray[Any]:
    """Grid of the weights of a leaf: what a point source of 1 Jy at the phase centre gives."""
    grid = gridder.new_grid()
    for piece in pieces:
        for p in piece.block.passes:
            gridder.grid(piece.block.uvw_m, p, grid, psf=True)
    return grid


def normal_images(
    gridder: Gridder, grid: NDArray[Any], sum_of_weights: NDArray[np.float64], out: NDArray[Any] | None = None,
    lanes: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Images (nlane, ny, nx) of a grid over their sums of weights (nlane,); one without data becomes NaN. ``grid``, ``out`` and
    ``lanes`` as for :meth:`Gridder.to_dirty`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(sum_of_weights > 0, 1.0 / sum_of_weights, np.nan)
    return gridder.to_dirty(grid, out, scale=scale, lanes=lanes).astype(precision.IMAGE, copy=False)
