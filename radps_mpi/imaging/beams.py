"""The beam of a plane: a gaussian fitted to the main lobe of its PSF, as CASA's tclean does."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.beam_algebra import beam_of

LOBE_RADIUS_PIXELS = 20
"""The main lobe is looked for in a window of 41 x 41 pixels about the phase centre."""

LOBE_MARGIN_PIXELS = 5
"""Pixels added on each side of the lobe before it is interpolated."""

FIRST_CUTOFF = 0.35
CUTOFF_DIVISOR = 1.5
LAST_CUTOFF = 0.009
"""The lobe is what exceeds the cutoff; where no gaussian fits, the cutoff is divided again, down to the last."""

TARGET_POINTS = 3001
"""The lobe's window is interpolated to about this many points."""

MINIMUM_POINTS = 6
"""Fewer points than twice the three parameters are not fitted."""

_TOLERANCES = {"ftol": 1e-8, "xtol": 1e-8, "gtol": 1e-8}
_CONVERGED = (1, 2, 3, 4)
"""MINPACK's codes for a fit that met one of the tolerances."""

_WINDOW_RADIUS = LOBE_RADIUS_PIXELS + LOBE_MARGIN_PIXELS


def fit_beam(psf: NDArray[np.float32], geometry: ImageGeometry) -> Beam | None:
    """Fit an elliptical gaussian of height 1 at the phase centre to the main lobe of ``psf``.

    ``psf`` float32 (ny, nx) of ``geometry``, any scale: it is divided by its central pixel. The lobe, connected to
    the centre above 0.35 in 41 x 41 pixels, is interpolated by bicubic convolution (Keys 1981, IEEE Trans. ASSP 29,
    1153) and fitted by Levenberg-Marquardt least squares. Angles are those of the tangent plane, rad. Agrees with
    tclean to 1e-6; where nx and ny differ tclean interpolates less or not at all, and beams of few pixels differ by
    up to 1 %.

    None, never an error, where there is no such lobe: a blank plane, an image of a few pixels, a fringe. The result
    depends on the pixels alone: same bits on any number of ranks or threads.
    """
    window = _central_window(psf, geometry)
    if window is None:
        return None
    cutoff = FIRST_CUTOFF
    while cutoff > LAST_CUTOFF:
        beam = _fit_lobe(window, cutoff, geometry)
        if beam is not None:
            return beam
        cutoff /= CUTOFF_DIVISOR
    return None


def largest_beam(beams: Iterable[Beam]) -> Beam:
    """The largest by area, the first of equals: what a plane whose fit failed takes. ``NULL_BEAM`` if no plane has one."""
    return max((beam for beam in beams if not beam.is_null), key=lambda beam: beam.area_sr, default=NULL_BEAM)


def _central_window(psf: NDArray[np.float32], geometry: ImageGeometry) -> NDArray[np.float64] | None:
    """51 x 51 pixels about the phase centre, divided by it; NaN outside the image; None if unusable."""
    y0, x0 = geometry.centre
    peak = float(psf[y0, x0])
    if not (math.isfinite(peak) and peak > 0.0):
        return None
    top, left = max(y0 - _WINDOW_RADIUS, 0), max(x0 - _WINDOW_RADIUS, 0)
    part = psf[top : y0 + _WINDOW_RADIUS + 1, left : x0 + _WINDOW_RADIUS + 1]
    if not np.isfinite(part).all():
        return None
    window = np.full((2 * _WINDOW_RADIUS + 1, 2 * _WINDOW_RADIUS + 1), np.nan)
    y, x = top - y0 + _WINDOW_RADIUS, left - x0 + _WINDOW_RADIUS
    window[y : y + part.shape[0], x : x + part.shape[1]] = part / np.float64(peak)
    return window


def _fit_lobe(window: NDArray[np.float64], cutoff: float, geometry: ImageGeometry) -> Beam | None:
    inner = window[LOBE_MARGIN_PIXELS:-LOBE_MARGIN_PIXELS, LOBE_MARGIN_PIXELS:-LOBE_MARGIN_PIXELS]
    lobe = _main_lobe(inner, cutoff)
    rows, columns = np.flatnonzero(lobe.any(axis=1)), np.flatnonzero(lobe.any(axis=0))
    radius = max(np.abs(edge - LOBE_RADIUS_PIXELS) for axis in (rows, columns) for edge in (axis[0], axis[-1]))
    radius = int(radius) + LOBE_MARGIN_PIXELS
    cut = slice(_WINDOW_RADIUS - radius, _WINDOW_RADIUS + radius + 1)
    oversampling = max(math.isqrt(TARGET_POINTS // (2 * radius + 1) ** 2), 1)
    fine = _interpolate(_interpolate(window[cut, cut], oversampling).T, oversampling).T
    middle = radius * oversampling
    points = np.nonzero(_main_lobe(fine, cutoff))
    if len(points[0]) < MINIMUM_POINTS:
        return None
    y, x = ((index - middle).astype(np.float64) / oversampling for index in points)
    beam = _fit_gaussian(-x * geometry.cell_x_rad, y * geometry.cell_y_rad, fine[points])
    extent_rad = math.hypot(geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad)
    # A fringe falls off in one direction only: what is fitted to the other is noise.
    return beam if beam is not None and beam.major_rad <= extent_rad else None


def _main_lobe(psf: NDArray[np.float64], cutoff: float) -> NDArray[np.bool_]:
    """The pixels above ``cutoff`` that are connected to the middle one, which is among them."""
    from scipy import ndimage

    labels, _ = ndimage.label(psf >= cutoff)
    return labels == labels[psf.shape[0] // 2, psf.shape[1] // 2]


def _interpolate(rows: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """``rows`` (n, k), cubic convolution to ``factor`` times the samples along axis 0: ((n - 1) * factor + 1, k)."""
    if factor == 1:
        return rows
    fine = np.empty(((len(rows) - 1) * factor + 1, rows.shape[1]))
    fine[::factor] = rows
    before, here, after, beyond = (np.pad(rows, ((1, 1), (0, 0)), mode="edge")[k : k + len(rows) - 1] for k in range(4))
    for step in range(1, factor):
        t = step / factor
        fine[step::factor] = (
            before * (t * (t * (1.0 - 0.5 * t) - 0.5))
            + here * (1.0 + t * t * (1.5 * t - 2.5))
            + after * (t * (0.5 + t * (2.0 - 1.5 * t)))
            + beyond * (0.5 * t * t * (t - 1.0))
        )
    return fine


def _fit_gaussian(l_rad: NDArray[np.float64], m_rad: NDArray[np.float64], values: NDArray[np.float64]) -> Beam | None:
    """Least-squares gaussian of height 1 centred at 0 through ``values``; None if it has no finite widths.

    Fitted as exp(-(a l^2 + b l m + c m^2)), which unlike widths and an angle is regular for round beams.
    """
    from scipy import optimize

    scale_rad = max(float(np.abs(l_rad).max()), float(np.abs(m_rad).max()))
    terms = np.stack([l_rad * l_rad, l_rad * m_rad, m_rad * m_rad]) / scale_rad**2
    start = _start(terms, values)

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return _gaussian(p, terms) - values

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return -(terms * _gaussian(p, terms)).T

    # MINPACK by its older door: that of least_squares takes longer to open than the fit does.
    (a, b, c), _, _, _, code = optimize.leastsq(residual, start, Dfun=jacobian, full_output=True, maxfev=200, **_TOLERANCES)
    determinant = 4.0 * a * c - b * b
    if not (code in _CONVERGED and a > 0.0 and c > 0.0 and determinant > 0.0):
        return None
    # exp(-x^T Q x) has half its height where x^T (Q / ln 2) x = 1: the form is 4 ln 2 times the inverse of Q.
    form = np.array([c, -0.5 * b, a]) * (4.0 * 4.0 * math.log(2.0) / determinant) * scale_rad**2
    return beam_of(form)


def _gaussian(p: NDArray[np.float64], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    # Clipped so that a wild step of the solver can't overflow; written out because BLAS may round by thread count.
    return np.exp(np.minimum(-(p[0] * terms[0] + p[1] * terms[1] + p[2] * terms[2]), 50.0))


def _start(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A round gaussian of about the lobe's width: -ln(value) / r^2, weighted towards the half-power points."""
    r2 = terms[0] + terms[2]
    weight = values * values * r2
    steepness = float((weight * -np.log(values)).sum() / max(float((weight * r2).sum()), 1e-300))
    return np.array([steepness, 0.0, steepness])
