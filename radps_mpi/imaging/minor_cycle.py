"""One minor cycle of one plane: arrays in, arrays out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from radps_kernels import hogbom as kernel

from radps_mpi import precision
from radps_mpi.data.beam import Beam
from radps_mpi.data.geometry import ImageGeometry


class MinorStop(IntEnum):
    """Why a minor cycle ended; numbers are those of tclean's minor-cycle summary. ``NO_CRITERION``: Clark's CLEAN has used up
    its exact residuals without having reached any of the others."""

    EMPTY_MASK = 0
    ITERATIONS = kernel.STOP_ITERATIONS
    THRESHOLD = kernel.STOP_THRESHOLD
    DIVERGED = kernel.STOP_DIVERGED
    NO_CRITERION = 5


@dataclass(frozen=True, slots=True)
class MinorCycleResult:
    """What one plane's minor cycle did. Peaks are largest |residual| inside the mask, Jy/beam, before and after;
    ``model_flux`` is the sum of the components added, Jy."""

    iterations: int
    start_peak: float
    peak_residual: float
    model_flux: float
    reason: MinorStop


def hogbom(
    residual: NDArray[np.float32],
    psf: NDArray[np.float32],
    mask: NDArray[np.uint8],
    *,
    gain: float,
    cycle_threshold_jy: float,
    max_iterations: int,
    model_in: NDArray[np.float32],
) -> tuple[NDArray[np.float32], MinorCycleResult]:
    """Hogbom's CLEAN of one plane down to the cycle threshold.

    ``residual`` (ny, nx) float32 Jy/beam is not modified: the next major cycle recomputes it. ``psf`` (ny, nx)
    float32 has its peak, 1, at (ny // 2, nx // 2). ``mask`` (ny, nx) is not 0 where components may be placed; blanked
    (non-finite) pixels never get one. Returns a new model (Jy/pixel) and the account of the cycle. Before each
    component, in this order: stop if the peak is above 1.1 times its minimum so far (tclean looks at that only after
    whole blocks of iterations, and so runs on while it diverges), if it is not above the cycle threshold, if
    ``max_iterations`` are done (tclean's hclean then adds one more component without counting it; this does not).

    Reference: Hogbom, A&AS 15, 417 (1974). The result has the bits of the plain algorithm in float32.
    """
    model = np.array(model_in, dtype=precision.IMAGE, order="C")
    if not np.any(mask):
        return model, MinorCycleResult(0, 0.0, 0.0, 0.0, MinorStop.EMPTY_MASK)
    iterations, code, start, peak, flux = kernel.hogbom(
        np.ascontiguousarray(residual, precision.IMAGE),
        np.ascontiguousarray(psf, precision.IMAGE),
        np.ascontiguousarray(mask, precision.MASK),
        gain,
        cycle_threshold_jy,
        max_iterations,
        model,
    )
    return model, MinorCycleResult(int(iterations), float(start), float(peak), float(flux), MinorStop(code))


def peak_in_mask(residual: NDArray[np.float32], mask: NDArray[np.uint8] | None = None) -> float:
    """Largest |residual| where the mask is set (everywhere for None), Jy/beam; non-finite pixels don't count, 0.0 if
    nothing is left."""
    chosen = np.isfinite(residual)
    if mask is not None:
        chosen &= mask != 0
    return float(np.max(np.abs(residual), where=chosen, initial=0.0))


def sidelobe_level(psf: NDArray[np.float32], beam: Beam, geometry: ImageGeometry) -> float:
    """Largest sidelobe of a PSF of peak 1: max(|min psf|, max(psf - beam)), with the fitted gaussian of height 1 at the
    centre (CASA, SIImageStore::getPSFSidelobeLevel); 0.0 for a blank plane."""
    if beam.is_null or not np.any(np.isfinite(psf)):
        return 0.0
    rest = psf.astype(precision.COORDINATE)
    cy, cx = geometry.centre
    # At three times the larger width the gaussian is 1e-11.
    ry = math.ceil(3.0 * beam.major_rad / geometry.cell_y_rad)
    rx = math.ceil(3.0 * beam.major_rad / geometry.cell_x_rad)
    rows = slice(max(0, cy - ry), cy + ry + 1)
    columns = slice(max(0, cx - rx), cx + rx + 1)
    east, north = np.meshgrid(geometry.l_axis()[columns], geometry.m_axis()[rows])
    along = east * math.sin(beam.pa_rad) + north * math.cos(beam.pa_rad)
    across = east * math.cos(beam.pa_rad) - north * math.sin(beam.pa_rad)
    rest[rows, columns] -= np.exp(
        -4.0 * math.log(2.0) * ((along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2)
    )
    return max(abs(float(np.nanmin(psf))), float(np.nanmax(rest)))
