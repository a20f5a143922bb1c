"""The inner loop of Clark's CLEAN of one plane, fast: component for component what the plain list algorithm does, bit for bit.

Algorithm: B. G. Clark, A&A 89, 377 (1980), with the stopping rule of CASA's ClarkCleanLatModel. The readable twin is
:mod:`radps_kernels.clark_reference`.

Clark keeps a list of the brightest pixels and subtracts the middle of the PSF from those alone. Here the pixels stay where
they are in the plane, since what a component changes is then a small rectangle, and the largest of them is known from maxima
of segments of rows and of rows, of which only those that the rectangle touches are looked at again. Integers stand for the
magnitudes: as float32 bits they order as the floats do.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from radps_kernels.hogbom import STOP_DIVERGED, STOP_ITERATIONS, STOP_THRESHOLD
from radps_kernels.options import JIT

SEGMENT = 32
"""Pixels of a row that share a maximum."""

RUNAWAY = 10.0
"""A list's peak above so many times its first means a PSF that can't be cleaned with. At large gains the peaks of good lists
go up and down too, by some 10 %: that they rise is judged with the exact residual, by who calls."""

_MAGNITUDE = np.int32(0x7FFFFFFF)


@numba.jit(**JIT)
def _list_pixels(
    residual: NDArray[np.float32], mask: NDArray[np.uint8], limit: np.float32
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The plane's pixels and their bits that make a magnitude where a pixel is listed, 0 elsewhere: both (ny, nseg SEGMENT),
    0 beyond the plane's end and where a pixel isn't listed."""
    ny, nx = residual.shape
    width = (nx + SEGMENT - 1) // SEGMENT * SEGMENT
    pixels, listed = np.zeros((ny, width), np.float32), np.zeros((ny, width), np.int32)
    for y in range(ny):
        for x in range(nx):
            value = residual[y, x]
            if mask[y, x] != 0 and abs(value) >= limit and np.isfinite(value):
                pixels[y, x] = value
                listed[y, x] = _MAGNITUDE
    return pixels, listed


@numba.jit(**JIT)
def _look_again(
    bits: NDArray[np.int32],
    listed: NDArray[np.int32],
    of_segments: NDArray[np.int32],
    of_rows: NDArray[np.int32],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    """Set the maxima of the segments and rows that have pixels in the rectangle rows[0]:rows[1], columns[0]:columns[1]."""
    for y in range(rows[0], rows[1]):
        for k in range(columns[0] // SEGMENT, (columns[1] + SEGMENT - 1) // SEGMENT):
            these, chosen = bits[y, k * SEGMENT : (k + 1) * SEGMENT], listed[y, k * SEGMENT : (k + 1) * SEGMENT]
            best = np.int32(0)
            for i in range(SEGMENT):
                best = max(best, these[i] & chosen[i])
            of_segments[y, k] = best
        best, segments = np.int32(0), of_segments[y]
        for k in range(segments.size):
            best = max(best, segments[k])
        of_rows[y] = best


@numba.jit(**JIT)
def _largest(
    bits: NDArray[np.int32], listed: NDArray[np.int32], of_segments: NDArray[np.int32], of_rows: NDArray[np.int32]
) -> tuple[int, int]:
    """(y, x) of the largest magnitude in the list; of equal ones the lowest flat index."""
    y = int(np.argmax(of_rows))
    k = int(np.argmax(of_segments[y]))
    for x in range(k * SEGMENT, (k + 1) * SEGMENT):
        if listed[y, x] != 0 and (bits[y, x] & _MAGNITUDE) == of_rows[y]:
            return y, x
    return -1, -1


@numba.jit(**JIT)
def _subtract(
    pixels: NDArray[np.float32], patch: NDArray[np.float32], y: int, x: int, flux: np.float32, nx: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """pixels -= flux * patch about (y, x), clipped at the plane's edges; (first, last + 1) row and column that changed."""
    oy, ox = y - patch.shape[0] // 2, x - patch.shape[1] // 2
    rows = max(0, oy), min(pixels.shape[0], oy + patch.shape[0])
    columns = max(0, ox), min(nx, ox + patch.shape[1])
    for i in range(rows[0], rows[1]):
        target, source = pixels[i, columns[0] : columns[1]], patch[i - oy, columns[0] - ox : columns[1] - ox]
        for j in range(target.size):
            target[j] -= flux * source[j]
    return rows, columns


@numba.jit(**JIT)
def clark_list(
    residual: NDArray[np.float32],
    patch: NDArray[np.float32],
    mask: NDArray[np.uint8],
    gain: float,
    list_limit: float,
    threshold: float,
    iterations_before: int,
    max_iterations: int,
    model: NDArray[np.float32],
) -> tuple[int, int, float, float]:
    """CLEAN the list of brightest pixels by the middle of the PSF, until the list no longer says what the plane holds.

    Parameters
    ----------
    residual : (ny, nx) float32, Jy/beam, C order; not modified. Non-finite pixels are never listed.
    patch : (py, px) float32, middle of the PSF, of peak 1 at (py // 2, px // 2); beyond it nothing is subtracted.
    mask : (ny, nx) uint8, not 0 where a component may be placed.
    gain : fraction of the peak taken; acts as float32.
    list_limit, threshold : Jy/beam, acting as float32; pixels of at least the larger of both are listed.
    iterations_before, max_iterations : components placed before in this minor cycle; most components of this list.
    model : (ny, nx) float32, Jy/pixel: components are added to it (the named output).

    Returns
    -------
    iterations, stop code (``STOP_...`` of :mod:`radps_kernels.hogbom`), last peak |residual| of the list (Jy/beam; 0.0 for
        an empty list), flux added (Jy). Checked before each component, in order: a peak above ``RUNAWAY`` times the
        list's first, one not above the limit, the count.

    The limit is at first the larger of ``list_limit`` and ``threshold``, after k components the larger of
    ``threshold`` and peak_0 (1 / (n + 1) + ... + 1 / (n + k)), with peak_0 the list's first peak and n the
    ``iterations_before``: the errors that sidelobes beyond the patch leave grow like that (Clark, eq. 5, with CASA's
    exponent -1). So the first list gives one component, and n grows by a factor of at most e from list to list.

    Rounding: flux = gain * peak, then residual - (flux * psf), each operation rounded to float32, never fused.
    """
    nx = residual.shape[1]
    floor = max(np.float32(threshold), np.float32(0.0))
    pixels, listed = _list_pixels(residual, mask, max(np.float32(list_limit), floor))
    bits = pixels.view(np.int32)
    of_segments = np.zeros((pixels.shape[0], pixels.shape[1] // SEGMENT), np.int32)
    of_rows = np.zeros(pixels.shape[0], np.int32)
    _look_again(bits, listed, of_segments, of_rows, (0, pixels.shape[0]), (0, nx))
    limit, share, flux, iterations = float(max(np.float32(list_limit), floor)), 0.0, 0.0, 0
    first = float(of_rows.view(np.float32).max())
    while True:
        y, x = _largest(bits, listed, of_segments, of_rows)
        if y < 0:
            return iterations, STOP_THRESHOLD, 0.0, flux
        peak = float(abs(pixels[y, x]))
        if peak > RUNAWAY * first:
            return iterations, STOP_DIVERGED, peak, flux
        if peak <= limit:
            return iterations, STOP_THRESHOLD, peak, flux
        if iterations >= max_iterations:
            return iterations, STOP_ITERATIONS, peak, flux
        component = np.float32(gain) * pixels[y, x]
        model[y, x] += component
        flux += float(component)
        rows, columns = _subtract(pixels, patch, y, x, component, nx)
        _look_again(bits, listed, of_segments, of_rows, rows, columns)
        iterations += 1
        share += 1.0 / (iterations_before + iterations)
        limit = max(first * share, float(floor))
