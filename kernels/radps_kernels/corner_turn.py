"""The corner turn of visibilities: rows as a MeasurementSet has them become lines of one channel and correlation.

Kernels move bits and change none, but for the sign of a conjugate and the bits of blank samples: the result is the same for
any number of ranks and any band of channels.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT

ROW_TAG, FLAG, BAD_WEIGHT, ZERO_WEIGHT, NONFINITE = range(5)
"""Why a sample is blank, in the order in which it is tested: indices of ``counts``."""

_BLOCK_ROWS = 64
_BLOCK_CHANNELS = 16
"""A block of 64 rows x 16 channels stays in the first-level cache while it is turned: 32 KB with two correlations."""


@nb.jit(**JIT)
def turn_rows(
    vis: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    spectral: bool,
    blank_row: NDArray[np.bool_],
    blank_chan: NDArray[np.bool_],
    swapped: NDArray[np.bool_],
    partner: NDArray[np.int64],
    descending: bool,
    out_vis: NDArray[np.complex64],
    out_weight: NDArray[np.float32],
    counts: NDArray[np.int64],
    good: NDArray[np.int64],
) -> None:
    """Orient, blank, count and transpose a band of channels of some rows, in one pass.

    In a ``swapped`` row correlation p is the conjugate of ``partner[p]`` (V_ji = conj(V_ij), cross hands exchanged). A sample
    is blank for the first reason that holds: its row or channel is (``ROW_TAG``), its flag is set (``FLAG``), its weight is
    NaN, infinite or negative (``BAD_WEIGHT``) or zero (``ZERO_WEIGHT``), its visibility is NaN or infinite (``NONFINITE``).

    Parameters
    ----------
    vis : (nrow, nchan, npol) complex64, Jy, in the MeasurementSet's order, as are flag and a spectral weight.
    flag : (nrow, nchan, npol) bool.
    weight : float32, 1/Jy^2; with ``spectral`` (nrow, nchan, npol); else (nrow, 1, npol), one for all channels of a row, with
        the correlations of swapped rows exchanged already.
    blank_row, swapped : (nrow,) bool.
    blank_chan : (nchan,) bool, in the order of the result.
    partner : (npol,) int64, correlation that takes each one's place in a swapped row.
    descending : channels change their order.
    out_vis : (nchan, npol, nrow) complex64, Jy, written; NaN + NaN j where blank.
    out_weight : with ``spectral`` (nchan, npol, nrow) float32, written, 0 where blank; else unused.
    counts : (5,) int64, added to: blank samples by reason.
    good : (nchan, npol) int64, added to: samples that aren't blank.
    """
    nrow, nchan, npol = vis.shape
    blank = np.complex64(complex(np.nan, np.nan))
    for row0 in range(0, nrow, _BLOCK_ROWS):
        row1 = min(row0 + _BLOCK_ROWS, nrow)
        for first in range(0, nchan, _BLOCK_CHANNELS):
            for chan in range(first, min(first + _BLOCK_CHANNELS, nchan)):
                source = nchan - 1 - chan if descending else chan
                for pol in range(npol):
                    left = 0
                    for row in range(row0, row1):
                        here = partner[pol] if swapped[row] else pol
                        w = weight[row, source, here] if spectral else weight[row, 0, pol]
                        value = vis[row, source, here]
                        reason = -1
                        if blank_row[row] or blank_chan[chan]:
                            reason = ROW_TAG
                        elif flag[row, source, here]:
                            reason = FLAG
                        elif not (w >= 0.0 and w < np.inf):
                            reason = BAD_WEIGHT
                        elif w == 0.0:
                            reason = ZERO_WEIGHT
                        elif not (math.isfinite(value.real) and math.isfinite(value.imag)):
                            reason = NONFINITE
                        if reason >= 0:
                            counts[reason] += 1
                            left += 1
                            value, w = blank, np.float32(0.0)
                        elif swapped[row]:
                            value = np.complex64(complex(value.real, -value.imag))
                        out_vis[chan, pol, row] = value
                        if spectral:
                            out_weight[chan, pol, row] = w
                    good[chan, pol] += row1 - row0 - left


@nb.jit(**JIT)
def place_rows(lines: NDArray[Any], place: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Put each sample of some lines where its row belongs.

    Parameters
    ----------
    lines : (nline, nrow) of any dtype: a line is one channel and correlation.
    place : (nrow,) int64, without repetition: 0 <= place < out.shape[1].
    out : (nline, nplace), written at ``place`` only.
    """
    nline, nrow = lines.shape
    for line in range(nline):
        for row in range(nrow):
            out[line, place[row]] = lines[line, row]
