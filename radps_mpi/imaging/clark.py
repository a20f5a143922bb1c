"""One minor cycle of one plane by Clark's CLEAN, with the constants and the order of CASA's ClarkCleanLatModel.

The brightest pixels are cleaned with the middle of the PSF (:mod:`radps_kernels.clark`), then the exact residual is taken by
Fourier transforms of the components and the whole PSF, and so on. All of it happens within the rectangle of the mask:
beyond it nothing can be chosen, and the major cycle computes anew what is there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from radps_kernels.clark import clark_list
from radps_kernels.hogbom import DIVERGENCE, STOP_DIVERGED

from radps_mpi import precision
from radps_mpi.data.beam import Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.minor_cycle import MinorCycleResult, MinorStop, peak_in_mask

Plane = NDArray[np.float32]

SMALLEST_BEAM = 4
"""Pixels: narrower beams get the patch of such a one."""

PATCH_BEAMS = 3
"""The patch of the PSF is this many beams wide, and one pixel."""

LIST_DEPTH = 1.0 / 3.0
"""Pixels are listed down to the peak times the largest sidelobe beyond the patch times this (CASA's 1.5 / 4.5)."""

REFRESHES = 10
"""Lists, each with its exact residual, of one step."""

STEP_ABOVE, STEP = 5000, 2000
"""A minor cycle of at least so many iterations is done in steps of so many."""

BAD_SIDELOBES = ((0.5, 5), (0.35, 50))
"""Sidelobes beyond the patch above so much: no list gives more than so many components."""

RISEN_FACTOR, RISEN_ITERATIONS = 3.0, 10
"""After a list that ended higher than the one before: the depth is raised so much, and lists are as short as this."""

EMPTY_FACTOR = 1.2
"""After a list that came out empty, the exact residual being below the last list's peak: the depth is raised so much, once."""

HIGHEST_LIMIT = 0.95
"""Of the peak. CASA looks at that only once the depth has been raised above 1; a PSF with sidelobes of three times its peak
would then get no component, and the run no end."""


def patch_pixels(beam: Beam, geometry: ImageGeometry) -> tuple[int, int]:
    """(rows, columns) of the PSF's patch: three beams and a pixel, and no more than the image has."""
    across = max(SMALLEST_BEAM, math.ceil(beam.major_rad / geometry.cell_x_rad))
    side = PATCH_BEAMS * across + 1
    return min(side, geometry.ny), min(side, geometry.nx)


def exterior_sidelobe(psf: Plane, patch: tuple[int, int]) -> float:
    """Largest |psf| beyond a patch of (rows, columns) about the centre, 0.0 if the patch is the whole (ny, nx) plane.

    As in CASA, the column at half the patch's width to the right counts as beyond, the one to the left does not.
    """
    ny, nx = psf.shape
    if patch == (ny, nx):
        return 0.0
    (cy, cx), (half_y, half_x) = (ny // 2, nx // 2), (patch[0] // 2, patch[1] // 2)
    beyond = np.ones(psf.shape, bool)
    beyond[max(0, cy - half_y) : cy + half_y + 1, max(0, cx - half_x) : cx + half_x] = False
    return float(np.max(np.abs(psf), where=beyond, initial=0.0))


def clark(
    residual: Plane,
    psf: Plane,
    mask: NDArray[np.uint8],
    *,
    patch: tuple[int, int],
    gain: float,
    cycle_threshold_jy: float,
    max_iterations: int,
    model_in: Plane,
) -> tuple[Plane, MinorCycleResult]:
    """Clark's CLEAN of one plane down to the cycle threshold; arguments and result as of
    :func:`radps_mpi.imaging.minor_cycle.hogbom`, and ``patch``, (rows, columns) from ``patch_pixels``.

    Pixels of at least peak x ``exterior_sidelobe`` / 3 are cleaned with the patch, each list as far as ``clark_list`` goes;
    then the exact residual is taken. After ten lists that have reached neither threshold nor ``max_iterations`` the minor
    cycle ends, as tclean's does (``MinorStop.NO_CRITERION``): a major cycle has to tell how things stand. From 5,000
    iterations on that is done in steps of 2,000. Peaks after a list are those of its pixels, as in tclean.

    Reference: B. G. Clark, A&A 89, 377 (1980); CASA's SDAlgorithmClarkClean2 and ClarkCleanLatModel. Different from
    CASA: a peak of ten times a list's first ends everything (CASA compares after steps alone), the last step does not exceed
    ``max_iterations``, a peak above the threshold gives one component at least, and pixels outside of the mask are left
    alone where everything is listed.
    """
    model = np.array(model_in, dtype=precision.IMAGE, order="C")
    if not np.any(mask):
        return model, MinorCycleResult(0, 0.0, 0.0, 0.0, MinorStop.EMPTY_MASK)
    plane = _Plane(residual, psf, mask, patch, gain, cycle_threshold_jy)
    start = lowest = peak = peak_in_mask(plane.residual, plane.mask)
    iterations, reason = 0, _reason(peak, lowest, cycle_threshold_jy, max_iterations)
    while reason is None:
        limit = min(STEP if max_iterations >= STEP_ABOVE else max_iterations, max_iterations - iterations)
        done, peak, diverged = plane.step(limit)
        iterations += done
        reason = _reason(peak, lowest, cycle_threshold_jy, max_iterations - iterations)
        if diverged:
            reason = MinorStop.DIVERGED
        elif reason is None and done != limit:
            reason = MinorStop.NO_CRITERION
        lowest = min(lowest, peak)
    model[plane.window] += plane.components
    return model, MinorCycleResult(iterations, start, peak, plane.flux, reason)


def _reason(peak: float, lowest: float, threshold: float, iterations_left: int) -> MinorStop | None:
    """tclean's rules between steps, in its order of precedence."""
    if peak > DIVERGENCE * lowest:
        return MinorStop.DIVERGED
    if peak <= np.float32(max(threshold, 0.0)):
        return MinorStop.THRESHOLD
    return MinorStop.ITERATIONS if iterations_left <= 0 else None


class _Plane:
    """The rectangle of the mask while it is cleaned. ``components`` (Jy/pixel) are those of all steps, ``flux`` (Jy) their
    sum; ``residual`` is as the last refresh left it."""

    def __init__(
        self, residual: Plane, psf: Plane, mask: NDArray[np.uint8], patch: tuple[int, int], gain: float, threshold: float
    ) -> None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self.window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        self.mask = np.ascontiguousarray(mask[self.window], precision.MASK)
        self._dirty = np.ascontiguousarray(residual[self.window], precision.IMAGE)
        self.residual, self.components, self.flux = self._dirty, np.zeros_like(self._dirty), 0.0
        self._gain, self._threshold = gain, threshold
        first = [n // 2 - side // 2 for n, side in zip(psf.shape, patch, strict=True)]
        middle = tuple(slice(start, start + side) for start, side in zip(first, patch, strict=True))
        self._patch = np.ascontiguousarray(psf[middle], precision.IMAGE)
        self._exterior = exterior_sidelobe(psf, patch)
        self._convolution = _Convolution(psf, self._dirty.shape)

    def step(self, max_iterations: int) -> tuple[int, float, bool]:
        """Up to ten lists and refreshes: iterations, the last list's peak, whether it diverged."""
        peak = previous = peak_in_mask(self.residual, self.mask)
        factor, done, warned = LIST_DEPTH, 0, False
        of_list = next((most for level, most in BAD_SIDELOBES if self._exterior > level), max_iterations)
        refreshes = 0
        while done < max_iterations and peak > np.float32(self._threshold) and refreshes < REFRESHES:
            limit = min(peak * self._exterior * factor, HIGHEST_LIMIT * peak)
            if peak_in_mask(self.residual, self.mask) < max(np.float32(limit), np.float32(self._threshold)):
                if warned:
                    break
                factor, warned = factor * EMPTY_FACTOR, True
                continue
            count, code, peak, flux = clark_list(
                self.residual, self._patch, self.mask, self._gain, limit, self._threshold, done,
                min(of_list, max_iterations - done), self.components,
            )  # fmt: skip
            done, refreshes, self.flux = done + count, refreshes + 1, self.flux + flux
            self.residual = self._dirty - self._convolution.of(self.components)
            if code == STOP_DIVERGED:
                return done, peak, True
            if peak > previous:
                factor, of_list, warned = factor * RISEN_FACTOR, RISEN_ITERATIONS, True
            previous = peak
        return done, peak, False


class _Convolution:
    """Linear convolution with a PSF of images of one shape, of which only that same rectangle is wanted."""

    def __init__(self, psf: Plane, shape: tuple[int, int]) -> None:
        from scipy import fft

        # What the PSF does farther away than the rectangle is long falls outside of it; so does, on so large a transform,
        # what wraps round.
        reach = [
            (min(n // 2, size - 1), min((n - 1) // 2, size - 1)) for n, size in zip(psf.shape, shape, strict=True)
        ]
        self._shape = shape
        self._size = tuple(
            fft.next_fast_len(size + max(ends), real=True) for size, ends in zip(shape, reach, strict=True)
        )
        offsets = [np.arange(-below, above + 1) for below, above in reach]
        placed = np.zeros(self._size, precision.IMAGE)
        source = np.ix_(*(n // 2 + offset for n, offset in zip(psf.shape, offsets, strict=True)))
        placed[np.ix_(*(offset % n for n, offset in zip(self._size, offsets, strict=True)))] = psf[source]
        self._transform = fft.rfft2(placed)

    def of(self, image: Plane) -> Plane:
        """``image`` convolved: a new float32 array of its shape."""
        from scipy import fft

        transform = fft.rfft2(image, self._size)
        transform *= self._transform
        convolved: Plane = fft.irfft2(transform, self._size, overwrite_x=True)[: self._shape[0], : self._shape[1]]
        return convolved
