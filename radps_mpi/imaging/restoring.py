"""The restored image: CLEAN components convolved with a gaussian beam, and what was left over.

The beam is sampled in the image plane with a peak of 1, as in tclean (to 1e-8 of the peak), so that a component of
S Jy/pixel peaks at S Jy/beam however few pixels the beam has.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.beam import Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.imaging.beam_algebra import deconvolve, form_of
from radps_mpi.precision import IMAGE

KERNEL_FLOOR = 2.0**-30
"""The sampled beam ends where it has fallen below this, far below float32's last bit."""

Image = NDArray[np.float32]


def restore(
    model: Image,
    residual: Image,
    beam: Beam,
    geometry: ImageGeometry,
    *,
    fitted_beam: Beam | None = None,
    threads: int = 1,
) -> Image:
    """``model`` (ny, nx) Jy/pixel convolved with ``beam``, plus ``residual`` (ny, nx) Jy/beam: a new float32 (ny, nx).

    With ``fitted_beam``, the beam of the plane's PSF, the residual is first brought to ``beam`` by
    ``rescale_residual``; leave it out where ``beam`` is the fitted one. A blank plane (all NaN) stays blank; pixels
    that are NaN in the residual stay NaN. The bits don't depend on ``threads``. Raises DataError if there are
    components but the beam is null.
    """
    if np.isnan(residual).all():
        return np.full(geometry.shape, np.nan, dtype=IMAGE)
    if fitted_beam is not None:
        residual = rescale_residual(residual, beam, fitted_beam, geometry, threads=threads)
    if not model.any():
        return residual.astype(IMAGE)
    if beam.is_null:
        raise DataError("a plane with CLEAN components has no beam (no PSF could be fitted): give restoringbeam")
    return convolve(model, beam, geometry, threads=threads) + residual


def rescale_residual(
    residual: Image, beam: Beam, fitted_beam: Beam, geometry: ImageGeometry, *, threads: int = 1
) -> Image:
    """``residual`` (ny, nx) in Jy per fitted beam brought to Jy per ``beam``, by tclean's rule.

    Where ``residual_kernel`` gives a gaussian, convolved with it at unit volume and multiplied by the ratio of the
    areas; elsewhere unchanged (the same array). Agrees with tclean to 1e-6 of the peak, except within the
    gaussian's reach of the edges, where tclean's convolution wraps round.
    """
    kernel = residual_kernel(beam, fitted_beam, geometry)
    if kernel is None:
        return residual
    blank = np.isnan(residual)
    filled = np.where(blank, np.float32(0.0), residual)
    smooth = convolve(filled, kernel, geometry, unit_volume=True, threads=threads)
    smooth *= np.float32(beam.area_sr / fitted_beam.area_sr)
    smooth[blank] = np.nan
    return smooth


def residual_kernel(beam: Beam, fitted_beam: Beam, geometry: ImageGeometry) -> Beam | None:
    """The gaussian between the fitted and the wanted beam; None where the residual is left as it is.

    That is where the wanted beam is the fitted one or doesn't enclose it, where either is null, and where the
    gaussian's minor axis is no wider than a pixel's diagonal, too narrow to be sampled.
    """
    if beam == fitted_beam or beam.is_null or fitted_beam.is_null:
        return None
    kernel = deconvolve(beam, fitted_beam)
    if kernel is None or kernel.minor_rad <= math.hypot(geometry.cell_x_rad, geometry.cell_y_rad):
        return None
    return kernel


def convolve(
    image: Image, beam: Beam, geometry: ImageGeometry, *, unit_volume: bool = False, threads: int = 1
) -> Image:
    """``image`` (ny, nx) convolved with the sampled gaussian ``beam``: a new float32 (ny, nx).

    The gaussian has a peak of 1, or a sum of 1 with ``unit_volume``. Beyond its edges the sky is empty: nothing
    wraps round. Only the rectangle of non-zero pixels is transformed.
    """
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    out = np.zeros(geometry.shape, dtype=IMAGE)
    if not rows.size:
        return out
    kernel = sampled_gaussian(beam, geometry)
    if unit_volume:
        kernel /= kernel.sum()
    top, left = int(rows[0]), int(columns[0])
    full = _convolve_fully(image[top : rows[-1] + 1, left : columns[-1] + 1], kernel.astype(IMAGE), threads)
    top, left = top - kernel.shape[0] // 2, left - kernel.shape[1] // 2
    y0, y1 = max(top, 0), min(top + full.shape[0], geometry.ny)
    x0, x1 = max(left, 0), min(left + full.shape[1], geometry.nx)
    out[y0:y1, x0:x1] = full[y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def sampled_gaussian(beam: Beam, geometry: ImageGeometry) -> NDArray[np.float64]:
    """``beam`` with a peak of 1 at the middle pixel of an odd-sized array (no larger than reaches across the image)."""
    s_ll, s_lm, s_mm = form_of(beam)
    # A gaussian of form S is exp(-4 ln 2 x^T S^-1 x); along an axis it reaches as far as the square root of S there.
    reach = math.sqrt(-math.log2(KERNEL_FLOOR) / 4.0)
    radius_x = min(math.ceil(reach * math.sqrt(s_ll) / geometry.cell_x_rad), geometry.nx - 1)
    radius_y = min(math.ceil(reach * math.sqrt(s_mm) / geometry.cell_y_rad), geometry.ny - 1)
    l_rad = -np.arange(-radius_x, radius_x + 1) * geometry.cell_x_rad
    m_rad = np.arange(-radius_y, radius_y + 1)[:, np.newaxis] * geometry.cell_y_rad
    quadratic = s_mm * l_rad**2 - 2.0 * s_lm * l_rad * m_rad + s_ll * m_rad**2
    return np.exp(-4.0 * math.log(2.0) / (beam.major_rad * beam.minor_rad) ** 2 * quadratic)


def _convolve_fully(image: Image, kernel: Image, threads: int) -> Image:
    """Linear convolution of two float32 arrays, of the sum of their shapes less one."""
    # pocketfft: threads share whole rows, so their number doesn't change a bit, and there is no plan to agree upon.
    from scipy import fft

    ny, nx = (a + b - 1 for a, b in zip(image.shape, kernel.shape, strict=True))
    shape = (fft.next_fast_len(ny, real=True), fft.next_fast_len(nx, real=True))
    transform = fft.rfft2(image, shape, workers=threads)
    transform *= fft.rfft2(kernel, shape, workers=threads)
    return fft.irfft2(transform, shape, overwrite_x=True, workers=threads)[:ny, :nx]
