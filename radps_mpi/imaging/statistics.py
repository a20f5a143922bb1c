"""What reports say of a plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import MAD_TO_SIGMA


@dataclass(frozen=True, slots=True)
class PlaneStatistics:
    """Statistics of the pixels that are not NaN, in the plane's unit; all NaN where there are none.

    ``mad_sigma`` is 1.4826 times the median absolute deviation from the median: the noise, where sources are few.
    """

    pixels: int
    maximum: float
    minimum: float
    rms: float
    mad_sigma: float


def plane_statistics(plane: NDArray[np.float32]) -> PlaneStatistics:
    """Statistics of ``plane``, of any shape; sums in float64, so that large planes lose nothing."""
    values = plane[~np.isnan(plane)]
    if not values.size:
        return PlaneStatistics(0, math.nan, math.nan, math.nan, math.nan)
    rms = math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))
    return PlaneStatistics(values.size, float(values.max()), float(values.min()), rms, mad_sigma(values))


def mad_sigma(values: NDArray[np.float32]) -> float:
    """1.4826 times the median absolute deviation from the median of ``values``, which has no NaN; NaN if empty."""
    if not values.size:
        return math.nan
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
