"""Visibilities of points and gaussians by direct summation.

Sine and cosine are polynomials of our own: loops over them are vectorised, every sample is rounded in the same way wherever it
stands in the loop, and no library's version decides the last bit.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT

_SIN = tuple((-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(10))
_COS = tuple((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(11))
"""Taylor series of sin(pi t) and cos(pi t): below 1e-15 off for abs(t) <= 1/2."""


@nb.jit(**JIT)
def _amplitudes(
    uvw_m: NDArray[np.float64], time_index: NDArray[np.int32], per_m: float, shape: NDArray[np.float64],
    flux_jy: NDArray[np.float64], amplitude: NDArray[np.float64],
) -> None:  # fmt: skip
    """Flux of one component at each row's time, tapered by the transform of its gaussian."""
    moves = len(flux_jy) > 1
    for row in range(len(amplitude)):
        amplitude[row] = flux_jy[time_index[row] if moves else 0]
    if shape[0] == 0.0 and shape[1] == 0.0 and shape[2] == 0.0:
        return
    for row in range(len(amplitude)):
        u, v = uvw_m[0, row] * per_m, uvw_m[1, row] * per_m
        amplitude[row] *= math.exp(-(shape[0] * u * u + 2.0 * shape[1] * u * v + shape[2] * v * v))


@nb.jit(**JIT)
def _add_waves(
    uvw_m: NDArray[np.float64], per_m: float, lmn: NDArray[np.float64], amplitude: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add amplitude times exp(+2 pi i phase), phase in turns, by the double angle of the half."""
    l, m, n_1 = lmn[0] * per_m, lmn[1] * per_m, lmn[2] * per_m  # noqa: E741
    for row in range(len(amplitude)):
        turns = uvw_m[0, row] * l + uvw_m[1, row] * m + uvw_m[2, row] * n_1
        t = turns - np.floor(turns + 0.5)
        x = t * t
        s = _SIN[9]
        c = _COS[10]
        for k in range(9):
            s = s * x + _SIN[8 - k]
        for k in range(10):
            c = c * x + _COS[9 - k]
        s *= t
        out[0, row] += amplitude[row] * (1.0 - 2.0 * s * s)
        out[1, row] += amplitude[row] * (2.0 * s * c)


@nb.jit(**JIT)
def add_components(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int32],
    per_m: float,
    lmn: NDArray[np.float64],
    shape: NDArray[np.float64],
    flux_jy: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add V = sum over components of I exp(+2 pi i (u l + v m + w (n - 1))) of one channel, in the order of the components.

    Thompson, Moran & Swenson (2017), equation 3.7 with the sign of our stored uvw.

    Parameters
    ----------
    uvw_m : (3, nrow) float64, metres.
    time_index : (nrow,) int32 into the second axis of ``flux_jy``.
    per_m : wavelengths per metre, frequency / c.
    lmn : (ncomponent, 3) float64, direction cosines l, m and n - 1.
    shape : (ncomponent, 3) float64 a, b, c: a gaussian's amplitude is exp(-(a u^2 + 2 b u v + c v^2)), u and v in
        wavelengths; all zero for a point.
    flux_jy : (ncomponent, ntime) float64, Jy; with ntime 1 the same at all times.
    out : (2, nrow) float64, real and imaginary part in Jy, added to.
    """
    amplitude = np.empty(uvw_m.shape[1])
    for k in range(len(lmn)):
        _amplitudes(uvw_m, time_index, per_m, shape[k], flux_jy[k], amplitude)
        _add_waves(uvw_m, per_m, lmn[k], amplitude, out)
