"""Slow, readable twin of the prediction kernel: what it is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def predicted(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int32],
    per_m: float,
    lmn: NDArray[np.float64],
    shape: NDArray[np.float64],
    flux_jy: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """(nrow,) visibilities in Jy; arguments as ``predict.add_components``."""
    wavelengths = uvw_m * per_m
    u, v, _ = wavelengths
    total = np.zeros(uvw_m.shape[1], complex)
    for direction, (a, b, c), flux in zip(lmn, shape, flux_jy, strict=True):
        taper = np.exp(-(a * u**2 + 2.0 * b * u * v + c * v**2))
        at_row = flux[time_index] if len(flux) > 1 else flux[0]
        total += at_row * taper * np.exp(2j * np.pi * (direction @ wavelengths))
    return total
