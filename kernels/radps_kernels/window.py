"""The gridding function: a Kaiser-Bessel window as one polynomial per grid cell of its support.

Literature: Beatty, Nishimura & Pauly 2005 (IEEE Trans. Med. Imaging 24, 799) for the window and its shape parameter at
any oversampling; Ye, Gull, Tan & Nikolic 2020 (MNRAS 491, 1146) for the error of a gridding function as its aliased
power; Arras et al. 2021 (A&A 646, A58) for piecewise polynomials in place of the function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SUPPORT = 16
MIN_SUPPORT = 3
OVERSAMPLINGS = tuple(round(1.2 + 0.05 * i, 2) for i in range(17))
"""Ratios of padded to image size that are considered, 1.2 to 2."""

_QUADRATURE_NODES = 48
_ALIASES = 6
_ERROR_MARGIN = 2.5


def polynomial_degree(support: int) -> int:
    """Degree of the polynomials: the first odd number from support + 1 on (odd: the even and the odd part then have
    equally many terms). The fit is then at least 10 times better than the window's own aliasing error up to an
    oversampling of 2, measured for every support; the window is an entire function, unlike the exponential of a
    semicircle, which needs two to three degrees more."""
    return (support + 1) | 1


@dataclass(frozen=True)
class Window:
    """A gridding function of ``support`` cells for images padded by at least ``oversampling``.

    ``shape`` is the Kaiser-Bessel parameter beta; ``error`` the predicted relative L2 error of gridding or degridding.
    """

    support: int
    oversampling: float
    shape: float
    error: float

    def polynomials(self) -> NDArray[np.float64]:
        """Coefficients (support, degree + 1), lowest power first, in s of [-1, 1].

        The first sample of the footprint of a point at ``pos`` is ``i0 = ceil(pos - support / 2)``; tap j then has the
        weight ``sum_k c[j, k] s**k`` with ``s = 2 (i0 - pos) + support - 1``.
        """
        degree = polynomial_degree(self.support)
        fits = [self._fit_of_tap(tap, degree) for tap in range(self.support)]
        return np.array(fits)

    def _fit_of_tap(self, tap: int, degree: int) -> NDArray[np.float64]:
        """Chebyshev interpolation at many nodes, cut at ``degree`` (nearly the minimax polynomial)."""

        def window(s: Any) -> Any:
            return kaiser_bessel((s + 1.0) / 2.0 + tap - self.support / 2.0, self.support, self.shape)

        fit = np.polynomial.chebyshev.chebinterpolate(window, 3 * degree)
        power = np.polynomial.chebyshev.cheb2poly(fit[: degree + 1])
        return np.pad(power, (0, degree + 1 - len(power)))


def even_odd_coefficients(polynomials: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the first half of the taps, split for Horner's rule in s**2: (half, 2, (degree + 1) / 2),
    [tap, even or odd powers, highest power first].

    The window is symmetric, so that with E and O the even and odd parts of tap j, tap j is E + s O and tap
    ``support - 1 - j`` is E - s O; of the middle tap of an odd support only E is left.
    """
    support = len(polynomials)
    half = polynomials[: (support + 1) // 2, ::-1]
    return np.ascontiguousarray(np.stack([half[:, 1::2], half[:, 0::2]], axis=1))


def kaiser_bessel(z: NDArray[np.float64], support: int, shape: float) -> NDArray[np.float64]:
    """The window at distance z (cells) from its centre, 1 there; 0 beyond half the support."""
    inside = 1.0 - (2.0 * z / support) ** 2
    root = np.sqrt(np.clip(inside, 0.0, None))
    return np.where(inside >= 0.0, np.i0(shape * root), 0.0) / np.i0(shape)


def fourier_transform(polynomials: NDArray[np.float64], nu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fourier transform of the piecewise polynomials at frequencies ``nu`` (cycles per cell), by Gauss-Legendre
    quadrature of each piece: what gridding multiplies the image by at ``nu`` = pixel / padded size."""
    support = len(polynomials)
    node, weight = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    value = np.polynomial.polynomial.polyval(node, polynomials.T) * weight / 2.0
    z = (node + 1.0) / 2.0 + np.arange(support)[:, None] - support / 2.0
    return np.einsum("jq,jqn->n", value, np.cos(2.0 * math.pi * z[..., None] * nu))


def beatty_shape(support: int, oversampling: float) -> float:
    """Kaiser-Bessel beta of Beatty et al. 2005, eq. 5; within 1 % of the best one for all supports used here."""
    return math.pi * math.sqrt((support / oversampling * (oversampling - 0.5)) ** 2 - 0.8)


@cache
def predicted_error(support: int, oversampling: float) -> float:
    """Relative L2 error over a two-dimensional image of gridding with this window: the root of the aliased power over
    the power kept, averaged over the image (Ye et al. 2020, eq. 13, for two axes)."""
    node, weight = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    z = ((node + 1.0) / 2.0 + np.arange(support)[:, None] - support / 2.0).ravel()
    window = kaiser_bessel(z, support, beatty_shape(support, oversampling)) * np.tile(weight / 2.0, support)
    x = (np.arange(16) + 0.5) / 16 * 0.5 / oversampling
    order = np.concatenate([np.arange(-_ALIASES, 0), np.arange(1, _ALIASES + 1)])
    kept = np.cos(2.0 * math.pi * x[:, None] * z) @ window
    aliased = np.cos(2.0 * math.pi * (x[:, None] + order)[..., None] * z) @ window
    return math.sqrt(2.0 * float(np.mean((aliased**2).sum(axis=1) / kept**2)))


@cache
def candidates(epsilon: float) -> tuple[Window, ...]:
    """For each support the window with the least oversampling whose L2 error stays below ``epsilon`` / 2.5, so that the
    largest error, in the corners of the image, stays near ``epsilon`` of the peak."""
    found = []
    for support in range(MIN_SUPPORT, MAX_SUPPORT + 1):
        for oversampling in OVERSAMPLINGS:
            error = predicted_error(support, oversampling)
            if error * _ERROR_MARGIN <= epsilon:
                found.append(Window(support, oversampling, beatty_shape(support, oversampling), error))
                if oversampling == OVERSAMPLINGS[0]:  # more support would buy nothing
                    return tuple(found)
                break
    return tuple(found)
