"""The slow, readable twin of :mod:`radps_kernels.clark`: numpy, a list of pixels as Clark's paper describes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radps_kernels.clark import RUNAWAY
from radps_kernels.hogbom import STOP_DIVERGED, STOP_ITERATIONS, STOP_THRESHOLD


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
    """Same arguments, results and bits as :func:`radps_kernels.clark.clark_list`."""
    floor = np.float32(max(threshold, 0.0))
    limit = float(max(np.float32(list_limit), floor))
    with np.errstate(invalid="ignore"):
        listed = (mask != 0) & np.isfinite(residual) & (np.abs(residual) >= np.float32(limit))
    if not listed.any():
        return 0, STOP_THRESHOLD, 0.0, 0.0
    positions, values = np.argwhere(listed), residual[listed]
    first = float(np.abs(values).max())
    share, flux, iterations = 0.0, 0.0, 0
    while True:
        k = int(np.argmax(np.abs(values)))
        peak = float(np.abs(values[k]))
        if peak > RUNAWAY * first:
            return iterations, STOP_DIVERGED, peak, flux
        if peak <= limit:
            return iterations, STOP_THRESHOLD, peak, flux
        if iterations >= max_iterations:
            return iterations, STOP_ITERATIONS, peak, flux
        component = np.float32(gain) * values[k]
        model[tuple(positions[k])] += component
        flux += float(component)
        at = positions - positions[k] + np.array(patch.shape) // 2
        reached = np.all((at >= 0) & (at < patch.shape), axis=1)
        values[reached] -= component * patch[tuple(at[reached].T)]
        iterations += 1
        share += 1.0 / (iterations_before + iterations)
        limit = max(first * share, float(floor))
