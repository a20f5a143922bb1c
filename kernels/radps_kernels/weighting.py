"""Weight density on the uv plane and the imaging weights made from it.

Cells follow casacore's imager so that weights agree with tclean's: ``index = round(cell_scale * u + n / 2)`` for cubes
(BriggsCubeWeightor), truncation towards zero instead of rounding for continuum images (VisImagingWeight). Index 0 and
indices from n upwards are outside. ``cell_scale = n * cell_rad``; u in wavelengths at the data's own frequency.
Briggs, D. 1995, PhD thesis, New Mexico Tech, chapter 3.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT


@nb.jit(**JIT)
def _cell(scaled: float, half: float, truncate: bool) -> int:
    at = scaled + half
    if truncate:
        return int(at)
    return math.floor(at + 0.5)


@nb.jit(**JIT)
def add_density(
    uv_m: NDArray[np.float64],
    time_index: NDArray[np.int32],
    cell_per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    density: NDArray[np.float64],
    scale_u: float,
    scale_v: float,
    truncate: bool,
) -> None:
    """Add weights to their cells at (u, v) and (-u, -v), in row order.

    Parameters
    ----------
    uv_m : (nrow, >=2) float64, metres.
    time_index : (nrow,) int32, row of ``cell_per_m``.
    cell_per_m : (ntime, nlane) float64, frequency / c, wavelengths per metre.
    weight : (nrow, nlane) float32, 0 where there is no datum.
    density : (ny, nx, ndest) float64, changed; lane k goes to k, or to 0 where ndest is 1.
    scale_u, scale_v : nx * cell_x_rad, ny * cell_y_rad.
    truncate : VisImagingWeight's integer conversion instead of rounding.
    """
    ny, nx, ndest = density.shape
    half_x, half_y = float(nx // 2), float(ny // 2)
    for row in range(uv_m.shape[0]):
        u, v = uv_m[row, 0] * scale_u, uv_m[row, 1] * scale_v
        for lane in range(weight.shape[1]):
            w = weight[row, lane]
            if w > 0.0:
                f = cell_per_m[time_index[row], lane]
                dest = lane if ndest > 1 else 0
                iu, iv = _cell(u * f, half_x, truncate), _cell(v * f, half_y, truncate)
                if 0 < iu < nx and 0 < iv < ny:
                    density[iv, iu, dest] += w
                iu, iv = _cell(-u * f, half_x, truncate), _cell(-v * f, half_y, truncate)
                if 0 < iu < nx and 0 < iv < ny:
                    density[iv, iu, dest] += w


@nb.jit(**JIT)
def apply_density(
    uv_m: NDArray[np.float64],
    time_index: NDArray[np.int32],
    cell_per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    density: NDArray[np.float64],
    f2: NDArray[np.float64],
    floor: float,
    scale_u: float,
    scale_v: float,
    truncate: bool,
    fractional_bandwidth: float,
) -> None:
    """Turn natural weights into imaging weights, in place: w / (W f2 / taper + floor).

    ``floor`` is 1 for Briggs and 0 for uniform weights (with f2 = 1). ``f2`` (ndest,). A weight becomes 0 outside the
    grid and where the density is 0. ``fractional_bandwidth`` > 0 applies briggsbwtaper: with
    n = fractional_bandwidth * |uv| in cells, taper m = n + 0.5, or (4 - n) / (4 - 2 n) where m < 1.5 (CASA 6.2
    BriggsCubeWeightor). Other parameters as in :func:`add_density`.
    """
    ny, nx, ndest = density.shape
    half_x, half_y = float(nx // 2), float(ny // 2)
    for row in range(uv_m.shape[0]):
        u, v = uv_m[row, 0] * scale_u, uv_m[row, 1] * scale_v
        for lane in range(weight.shape[1]):
            if weight[row, lane] <= 0.0:
                continue
            f = cell_per_m[time_index[row], lane]
            dest = lane if ndest > 1 else 0
            iu, iv = _cell(u * f, half_x, truncate), _cell(v * f, half_y, truncate)
            total = 0.0
            if 0 < iu < nx and 0 < iv < ny:
                total = density[iv, iu, dest]
            if total <= 0.0:
                weight[row, lane] = 0.0
                continue
            if fractional_bandwidth > 0.0:
                n = fractional_bandwidth * math.sqrt(u * f * u * f + v * f * v * f)
                taper = n + 0.5
                if taper < 1.5:
                    taper = (4.0 - n) / (4.0 - 2.0 * n)
                total /= taper
            weight[row, lane] = np.float32(weight[row, lane] / (total * f2[dest] + floor))


@nb.jit(**JIT)
def blank_beyond(
    uv_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    limit_u: float,
    limit_v: float,
) -> int:
    """Set to 0 the weights of samples that the image's cells can't hold (|u| or |v| in wavelengths beyond the limit).

    ``row_scale`` (nrow,), ``lane_per_m`` (nlane,): row r of lane k lies at uv_m[r] * row_scale[r] * lane_per_m[k].
    Returns how many there were.
    """
    count = 0
    for row in range(uv_m.shape[0]):
        for lane in range(weight.shape[1]):
            if weight[row, lane] > 0.0:
                f = row_scale[row] * lane_per_m[lane]
                if abs(uv_m[row, 0] * f) > limit_u or abs(uv_m[row, 1] * f) > limit_v:
                    weight[row, lane] = 0.0
                    count += 1
    return count
