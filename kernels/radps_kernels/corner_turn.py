"""The corner turn of visibilities: rows as a MeasurementSet has them become lines of one channel and correlation.

Kernels move bits and change none, but for the sign of a conjugate and the bits of blank samples: the result is the same for
any number of ranks and any band of channels.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT

ROW_TAG, FLAG, BAD_WEIGHT, ZERO_WEIGHT, NONFINITE = range(5)
"""Why a sample is blank, in the order in which it is tested: indices of ``counts``."""

_BLOCK_ROWS = 128
_BLOCK_LINES = 512
"""A block of 128 rows x 512 lines, of a channel and correlation each, stays in the second-level cache while it is turned: 512
KB of visibilities. Rows come in any order, so 4 KB of one are read at a time, for the processor to fetch ahead; 1 KB of a line
is written."""
_PADDING = 8
"""Lines by which a block is longer than it needs to be: a column of rows 4 KB apart would share one set of the first cache."""

_MAGNITUDE, _INFINITY = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
_IMAG_EXPONENT, _REAL_EXPONENT = np.uint64(0x7F80000000000000), np.uint64(0x000000007F800000)
_BLANK, _CONJUGATE = np.uint64(0x7FC000007FC00000), np.uint64(0x8000000000000000)
"""Bits of float32 and, imaginary part above, complex64."""

_NO, _YES = np.uint64(0), np.uint64(1)


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
    order: NDArray[np.int64],
    descending: bool,
    out_vis: NDArray[np.complex64],
    out_weight: NDArray[np.float32],
    counts: NDArray[np.int64],
    good: NDArray[np.int64],
) -> None:
    """Sort, orient, blank, count and transpose a band of channels of some rows, in one pass.

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
    order : (nrow,) int64, every row once: those of the result.
    descending : channels change their order.
    out_vis : (nchan, npol, nrow) complex64, Jy, written; NaN + NaN j where blank.
    out_weight : with ``spectral`` (nchan, npol, nrow) float32, written, 0 where blank; else unused.
    counts : (5,) int64, added to: blank samples by reason.
    good : (nchan, npol) int64, added to: samples that aren't blank.
    """
    nrow, nchan, npol = vis.shape
    if nrow == 0:
        return
    words, flags = vis.view(np.uint64).reshape(nrow, nchan * npol), flag.view(np.uint8).reshape(nrow, nchan * npol)
    weights = weight.view(np.uint32).reshape(nrow, weight.shape[1] * npol)
    lines = out_vis.view(np.uint64).reshape(nchan * npol, nrow)
    weight_lines = out_weight.view(np.uint32).reshape(out_weight.size // nrow, nrow)
    step = max(1, _BLOCK_LINES // npol) * npol
    straight, crossed = _sources(np.arange(npol), nchan, descending), _sources(partner, nchan, descending)
    tags = np.repeat(blank_chan, npol).view(np.uint8)
    block = np.empty((_BLOCK_ROWS, step + _PADDING), np.uint64)
    weight_block = np.empty((_BLOCK_ROWS, step + 2 * _PADDING), np.uint32)
    picked, picked_flags, picked_weights = np.empty(step, np.uint64), np.empty(step, np.uint8), np.empty(step, np.uint32)
    for row0 in range(0, nrow, _BLOCK_ROWS):
        rows = order[row0 : row0 + _BLOCK_ROWS]
        for at in range(0, nchan * npol, step):
            stop = min(at + step, nchan * npol)
            for i in range(len(rows)):
                row, n = rows[i], stop - at
                source = crossed[at:stop] if swapped[row] else straight[at:stop]
                if swapped[row] or descending:
                    _pick(words[row], source, picked)
                    _pick(flags[row], source, picked_flags)
                    values, flagged = picked[:n], picked_flags[:n]
                else:
                    values, flagged = words[row, at:stop], flags[row, at:stop]
                if spectral:
                    _pick(weights[row], source, picked_weights)
                else:
                    _repeat(weights[row], picked_weights[:n])
                _judge(
                    values, flagged, picked_weights[:n], tags[at:stop], _YES if blank_row[row] else _NO,
                    _CONJUGATE if swapped[row] else _NO, block[i, :n], counts,
                )  # fmt: skip
                if spectral:
                    _weigh(picked_weights[:n], block[i, :n], weight_block[i, :n])
            _turn_block(block, lines[at:stop, row0 : row0 + len(rows)])
            if spectral:
                _turn_block(weight_block, weight_lines[at:stop, row0 : row0 + len(rows)])
            for line in range(at, stop):
                good[line // npol, line % npol] += _count_good(lines[line, row0 : row0 + len(rows)])


@nb.jit(**JIT)
def _sources(partner: NDArray[np.int64], nchan: int, descending: bool) -> NDArray[np.int64]:
    """Where in a row the sample of every line (nchan * npol,) comes from."""
    npol = len(partner)
    sources = np.empty(nchan * npol, np.int64)
    for chan in range(nchan):
        for pol in range(npol):
            sources[chan * npol + pol] = (nchan - 1 - chan if descending else chan) * npol + partner[pol]
    return sources


@nb.jit(**JIT)
def _pick(values: NDArray[Any], sources: NDArray[np.int64], out: NDArray[Any]) -> None:
    """The samples at ``sources``, in that order."""
    for k in range(len(sources)):
        out[k] = values[sources[k]]


@nb.jit(**JIT)
def _repeat(weights: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """A row's weights for each of its channels."""
    for pol in range(len(weights)):
        out[pol :: len(weights)] = weights[pol]


@nb.jit(**JIT)
def _judge(
    values: NDArray[np.uint64],
    flags: NDArray[np.uint8],
    weights: NDArray[np.uint32],
    tags: NDArray[np.uint8],
    row_tag: np.uint64,
    conjugate: np.uint64,
    out: NDArray[np.uint64],
    counts: NDArray[np.int64],
) -> None:
    """Samples of a row, oriented, and ``_BLANK`` in place of those that can't be used, whose number by reason goes to
    ``counts``. On the bits, and without branches, since flags come in all patterns and this loop sees every sample; it writes
    one array, or numba would not vectorise it."""
    tagged, flagged, bad, zero, odd = _NO, _NO, _NO, _NO, _NO
    for k in range(len(out)):
        value, weight = values[k], weights[k]
        usable = _YES - (np.uint64(tags[k]) | row_tag)
        tagged += _YES - usable
        reason = usable & np.uint64(flags[k])
        flagged, usable = flagged + reason, usable ^ reason
        reason = usable & np.uint64(weight >= _INFINITY) & np.uint64((weight & _MAGNITUDE) != np.uint32(0))
        bad, usable = bad + reason, usable ^ reason
        reason = usable & np.uint64((weight & _MAGNITUDE) == np.uint32(0))
        zero, usable = zero + reason, usable ^ reason
        reason = usable & (
            np.uint64((value & _REAL_EXPONENT) == _REAL_EXPONENT) | np.uint64((value & _IMAG_EXPONENT) == _IMAG_EXPONENT)
        )
        odd, usable = odd + reason, usable ^ reason
        out[k] = value ^ conjugate if usable != _NO else _BLANK
    for index, count in ((ROW_TAG, tagged), (FLAG, flagged), (BAD_WEIGHT, bad), (ZERO_WEIGHT, zero), (NONFINITE, odd)):
        counts[index] += np.int64(count)


@nb.jit(**JIT)
def _weigh(weights: NDArray[np.uint32], values: NDArray[np.uint64], out: NDArray[np.uint32]) -> None:
    """Weights of a row, 0 where the sample is blank."""
    for k in range(len(out)):
        out[k] = np.uint32(0) if values[k] == _BLANK else weights[k]


@nb.jit(**JIT)
def _turn_block(block: NDArray[Any], lines: NDArray[Any]) -> None:
    """``lines`` (nline, nrow) are the columns of ``block`` (nrow or more, nline or more)."""
    for line in range(lines.shape[0]):
        for i in range(lines.shape[1]):
            lines[line, i] = block[i, line]


@nb.jit(**JIT)
def _count_good(values: NDArray[np.uint64]) -> int:
    good = 0
    for i in range(len(values)):
        good += values[i] != _BLANK
    return good


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
