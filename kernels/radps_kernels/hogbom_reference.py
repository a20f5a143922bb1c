"""The slow, readable twin of :mod:`radps_kernels.hogbom`: numpy, one full-plane subtraction per component."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radps_kernels.hogbom import DIVERGENCE, STOP_DIVERGED, STOP_ITERATIONS, STOP_THRESHOLD


def _subtract(residual: NDArray[np.float32], psf: NDArray[np.float32], y: int, x: int, flux: np.float32) -> None:
    """residual -= flux * psf about (y, x), over offsets -(n // 2) .. n // 2 - 1 that stay on the plane."""
    ny, nx = residual.shape
    cy, cx = ny // 2, nx // 2
    y0, y1 = max(0, y - cy), min(ny, y + cy)
    x0, x1 = max(0, x - cx), min(nx, x + cx)
    residual[y0:y1, x0:x1] -= flux * psf[cy + y0 - y : cy + y1 - y, cx + x0 - x : cx + x1 - x]


def hogbom(
    residual: NDArray[np.float32],
    psf: NDArray[np.float32],
    mask: NDArray[np.uint8],
    gain: float,
    threshold: float,
    max_iterations: int,
    model: NDArray[np.float32],
) -> tuple[int, int, float, float, float]:
    """Same arguments, results and bits as :func:`radps_kernels.hogbom.hogbom`."""
    work = residual.copy()
    selectable = (mask != 0) & np.isfinite(residual)
    total_flux = 0.0
    iterations = 0
    start = lowest = -1.0
    while True:
        magnitude = np.where(selectable, np.abs(work), np.float32(0.0))
        y, x = np.unravel_index(int(np.argmax(magnitude)), magnitude.shape)
        peak = float(magnitude[y, x])
        if iterations == 0:
            start = lowest = peak
        if peak > DIVERGENCE * lowest:
            return iterations, STOP_DIVERGED, start, peak, total_flux
        if peak <= np.float32(max(threshold, 0.0)):
            return iterations, STOP_THRESHOLD, start, peak, total_flux
        if iterations >= max_iterations:
            return iterations, STOP_ITERATIONS, start, peak, total_flux
        lowest = min(lowest, peak)
        flux = np.float32(gain) * work[y, x]
        model[y, x] += flux
        total_flux += float(flux)
        _subtract(work, psf, int(y), int(x), flux)
        iterations += 1
