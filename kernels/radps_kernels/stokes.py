"""From stored correlations to Stokes I on image channels.

A blanked sample is NaN in the store: samples are selected, never multiplied by zero.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT


@nb.jit(**JIT)
def stokes_i(
    vis: NDArray[np.complex64],
    weight: NDArray[np.float32],
    first: int,
    second: int,
    single_hand: bool,
    out_vis: NDArray[np.complex64],
    out_weight: NDArray[np.float32],
) -> None:
    """Mean of the two parallel hands, with the mean of their weights (tclean's convention).

    Parameters
    ----------
    vis : (nchan, npol, nrow) complex64, NaN where blank.
    weight : (nweight, npol, nrow) float32, nweight is nchan or 1 (the same for all channels).
    first, second : correlation indices of the hands; equal where the data have one hand.
    single_hand : a sample with one hand counts (pseudoI, or data of one hand), at half that hand's weight: an I visibility from
        two hands of weight w has variance 1 / (2 w), one from a single hand 1 / w.
    out_vis, out_weight : (nchan, nrow), written; weight 0 and visibility 0 where there is no datum.
    """
    nchan, _, nrow = vis.shape
    for chan in range(nchan):
        wchan = chan if weight.shape[0] > 1 else 0
        for row in range(nrow):
            a, b = vis[chan, first, row], vis[chan, second, row]
            wa, wb = weight[wchan, first, row], weight[wchan, second, row]
            has_a = not (math.isnan(a.real) or math.isnan(a.imag)) and wa > 0.0
            has_b = not (math.isnan(b.real) or math.isnan(b.imag)) and wb > 0.0 and first != second
            value, w = np.complex64(0.0), np.float32(0.0)
            if has_a and has_b:
                value = np.complex64(complex(0.5 * (a.real + b.real), 0.5 * (a.imag + b.imag)))
                w = np.float32(0.5) * (wa + wb)
            elif single_hand and has_a:
                value, w = a, np.float32(0.5) * wa
            elif single_hand and has_b:
                value, w = b, np.float32(0.5) * wb
            out_vis[chan, row] = value
            out_weight[chan, row] = w


@nb.jit(**JIT)
def to_image_channels(
    vis: NDArray[np.complex64],
    weight: NDArray[np.float32],
    time_index: NDArray[np.int32],
    lower: NDArray[np.int32],
    fraction: NDArray[np.float32],
    nearest: NDArray[np.int32],
    share: NDArray[np.float32],
    shift_m: NDArray[np.float64],
    row_scale: NDArray[np.float64],
    lane_per_m: NDArray[np.float64],
    out_vis: NDArray[np.float32],
    out_weight: NDArray[np.float32],
) -> None:
    """Interpolate native channels to image channels and turn phases to the image's phase centre.

    Parameters
    ----------
    vis, weight : (nnative, nrow), from :func:`stokes_i`.
    time_index : (nrow,) int32.
    lower, fraction, nearest, share : (ntime, nlane); ``lower`` and ``nearest`` index axis 0 of ``vis``, -1 for none.
    shift_m : (nrow,) float64, path difference b . (s_image - s_field), metres; phases turn by -2 pi shift f / c.
    row_scale : (nrow,); lane_per_m : (nlane,), frequency / c; f / c = row_scale * lane_per_m.
    out_vis : (nrow, 2, nlane) float32 and out_weight (nrow, nlane) float32, written.
    """
    nrow, _, nlane = out_vis.shape
    for row in range(nrow):
        t = time_index[row]
        for lane in range(nlane):
            out_vis[row, 0, lane] = 0.0
            out_vis[row, 1, lane] = 0.0
            out_weight[row, lane] = 0.0
            j = lower[t, lane]
            if j < 0 or weight[j, row] <= 0.0:
                continue
            value = vis[j, row]
            re, im = value.real, value.imag
            a = fraction[t, lane]
            if a > 0.0:
                if weight[j + 1, row] <= 0.0:
                    continue
                other = vis[j + 1, row]
                re = (np.float32(1.0) - a) * re + a * other.real
                im = (np.float32(1.0) - a) * im + a * other.imag
            w = weight[nearest[t, lane], row] * share[t, lane]
            if w <= 0.0:
                continue
            if shift_m[row] != 0.0:
                phase = -2.0 * math.pi * shift_m[row] * row_scale[row] * lane_per_m[lane]
                c, s = math.cos(phase), math.sin(phase)
                re, im = np.float32(re * c - im * s), np.float32(re * s + im * c)
            out_vis[row, 0, lane] = re
            out_vis[row, 1, lane] = im
            out_weight[row, lane] = w
