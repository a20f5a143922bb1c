"""Visibilities to dirty images and model images to visibilities, to a given accuracy.

Convolutional gridding on a half uv plane (radps_kernels), FFT, correction by the transform of the window. w is not
corrected for: fields are narrow enough for a plane, or facets of it. Literature: see ``radps_kernels.window``.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from radps_kernels import lanes, plane, vectors
from radps_kernels.window import Window, candidates, even_odd_coefficients, fourier_transform

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityPass
from radps_mpi.errors import UsageError
from radps_mpi.imaging import fftw
from radps_mpi.imaging.fourier import ALIGNMENT, HalfPlaneTransform, good_size, relative_cost
from radps_mpi.precision import GRIDS

GridKind = Literal["lanes", "plane"]

FINEST_EPSILON = {"single": 5e-7, "double": 1e-12}
COARSEST_EPSILON = 1e-2
TYPICAL_ROWS = 50_000
"""Visibilities per channel for which support and oversampling are balanced where nothing better is known."""

_MOST_SPARES = 2
"""The model's grid and the residuals', or the PSF's and the dirty image's."""

_NS_PER_TAP = 0.075
_NS_PER_FFT_POINT = 0.15
"""Costs per channel, measured on one AVX-512 core at 512 x 512 pixels, 16 lanes: per visibility and support * (support +
4), and per point of the padded image and its binary logarithm, transpositions included. Only their ratio counts."""


class Gridder:
    """Grids and degrids for one image geometry and accuracy.

    ``kind`` "lanes": one image channel per lane of the pass, ``nlane`` planes at once. "plane": all channels of a pass
    onto one plane (``nlane`` 1). ``epsilon`` is the relative L2 error against direct Fourier sums over an image or a
    set of visibilities; the largest error over the peak is about as large, but reaches 2.5e-6 in single precision at
    1e-6, where the correction of the corners magnifies rounding. ``precision`` "single" or "double" is the type of grids
    and images. ``rows`` visibilities per channel balance support against oversampling; ranks that must agree on bits
    must pass the same. ``reach`` is the longest baseline that will be gridded, in wavelengths: cells beyond it are
    neither stored nor transformed, which saves half of the work where pixels are small; None for the whole plane.
    ``threads`` are used for the transforms only and change no bit.

    Raises UsageError for an accuracy that the precision can't give.
    """

    def __init__(
        self,
        geometry: ImageGeometry,
        *,
        nlane: int,
        epsilon: float = 1e-4,
        precision: str = "single",
        threads: int = 1,
        kind: GridKind = "lanes",
        rows: int = TYPICAL_ROWS,
        reach: float | None = None,
    ) -> None:
        _check(epsilon, precision, kind, nlane)
        self.geometry, self.nlane, self.kind, self.precision, self.epsilon = geometry, nlane, kind, precision, epsilon
        self.dtype = cast("np.dtype[Any]", GRIDS[precision])
        self.window = choose_window(geometry.shape, epsilon, rows)
        self.guard = lanes.guard_cells(self.window.support)
        self.size = _padded_size(geometry.shape, self.window)
        polynomials = self.window.polynomials()
        self._lane_coefficients = even_odd_coefficients(polynomials).astype(self.dtype)
        self._plane_coefficients = plane.pair_coefficients(polynomials).astype(self.dtype)
        correction = (
            _correction(polynomials, geometry.ny, self.size[0]),
            _correction(polynomials, geometry.nx, self.size[1]),
        )
        self._width = _vector_width(nlane, self.dtype)
        self._plane = _plane_within(reach, geometry, self.size, self.window.support)
        self._transform = HalfPlaneTransform(
            self.size, self._plane, nlane, self.guard, correction, self.dtype, width=self._width, threads=threads
        )
        self._spares: list[NDArray[Any]] = []

    @property
    def identity(self) -> dict[str, Any]:
        """What the bits of results depend on: kept in the manifest, compared at resume."""
        return {
            "kind": self.kind,
            "precision": self.precision,
            "epsilon": self.epsilon,
            "support": self.window.support,
            "oversampling": self.window.oversampling,
            "padded_size": list(self.size),
            "plane": list(self._plane),
            "nlane": self.nlane,
            "vector_width": self._width,
        }

    @property
    def grid_shape(self) -> tuple[int, int, int, int]:
        """(rows of v, columns of u >= 0, 2, nlane), guard cells around rows and columns included."""
        return self._transform.grid_shape

    def new_grid(self) -> NDArray[Any]:
        """A grid of zeros; reuses the memory of a released one."""
        grid = self._take()
        grid.reshape(-1).view(np.uint8).fill(0)  # as bytes numpy has the C library do it, in three quarters of the time
        return grid

    def release(self, grid: NDArray[Any]) -> None:
        """Give back a grid that nobody will use again: the next one takes its memory, which saves the page faults. Those that
        a block needs at once are kept, others freed."""
        _require(grid, self.grid_shape, "grid")
        aligned = grid.dtype == self.dtype and grid.ctypes.data % ALIGNMENT == 0  # not what a message was received in
        if aligned and len(self._spares) < _MOST_SPARES:
            self._spares.append(grid)

    def forget(self) -> None:
        """Free the memory of released grids."""
        self._spares.clear()

    def _take(self) -> NDArray[Any]:
        return self._spares.pop() if self._spares else fftw.empty_aligned(self.grid_shape, self.dtype, n=ALIGNMENT)

    def grid(self, uvw_m: NDArray[np.float64], p: VisibilityPass, grid: NDArray[Any], *, psf: bool = False) -> None:
        """Add weight * vis (``psf``: weight) of a pass to ``grid``. ``uvw_m`` (nrow, 3) float64."""
        scale = self._lane_scale(p.freq_hz)
        self._check_shapes(uvw_m, p.row_scale, len(p.freq_hz), grid)
        self._check_reach(uvw_m, p.row_scale, scale)
        nrow, nchan = len(uvw_m), len(p.freq_hz)
        _require(p.weight, (nrow, nchan), "weights")
        if not psf:
            _require(p.vis, (nrow, 2, nchan), "visibilities")
        if self._by_lanes:
            static = lanes.stencil(self.window.support, self._width, 1 if psf else 2)
            lanes.grid_lanes(static, uvw_m, p.row_scale, scale, p.vis, p.weight, self._lane_coefficients, grid)
        else:
            taps = (0,) * self.window.support
            plane.grid_plane(taps, uvw_m, p.row_scale, scale, p.vis, p.weight, self._plane_coefficients, psf, grid)

    def degrid(self, grid: NDArray[Any], uvw_m: NDArray[np.float64], p: VisibilityPass, out: NDArray[Any]) -> None:
        """Predict the visibilities of a grid from ``from_model`` at the rows and channels of a pass (its freq_hz and
        row_scale alone) into ``out`` (nrow, 2, nlane; for "plane" nchan), float32 or float64."""
        scale = self._lane_scale(p.freq_hz)
        self._check_shapes(uvw_m, p.row_scale, len(p.freq_hz), grid)
        self._check_reach(uvw_m, p.row_scale, scale)
        _require(out, (len(uvw_m), 2, len(p.freq_hz)), "predicted visibilities")
        if self._by_lanes:
            static = lanes.stencil(self.window.support, self._width)
            lanes.degrid_lanes(static, uvw_m, p.row_scale, scale, self._lane_coefficients, grid, out)
        else:
            taps = (0,) * self.window.support
            plane.degrid_plane(taps, uvw_m, p.row_scale, scale, self._plane_coefficients, grid, out)

    def to_dirty(
        self,
        grid: NDArray[Any],
        out: NDArray[Any] | None = None,
        *,
        scale: NDArray[np.float64] | None = None,
        lanes: NDArray[np.int64] | None = None,
    ) -> NDArray[Any]:
        """Dirty images (nlane, ny, nx): sum over rows of weight * Re[V exp(-2 pi i (u l + v m))], times ``scale`` (nlane,).

        Consumes ``grid``: its contents are overwritten (``release`` it when done). Images go to ``out`` if given; fresh
        memory costs about a fifth of the transform. ``lanes`` (ascending): those whose images are wanted, None for all; the
        others hold anything.
        """
        _require(grid, self.grid_shape, "grid")
        images = np.empty(self._transform.image_shape, self.dtype) if out is None else out
        _require(images, self._transform.image_shape, "dirty images")
        if images.dtype != self.dtype:
            raise ValueError(f"dirty images are {images.dtype}, the grid's are {self.dtype}")
        self._transform.to_images(grid, images, scale, lanes)
        return images

    def from_model(self, model: NDArray[Any], lanes: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """The grid from which ``degrid`` predicts V = sum I exp(+2 pi i (u l + v m)) of images (nlane, ny, nx).

        ``release`` it when done, so that the next grid needs no new memory. ``lanes`` as for ``to_dirty``: what is predicted
        for the others is anything, and images behind the last of them may be left out.
        """
        images = np.ascontiguousarray(model, self.dtype)
        planes = self.nlane if lanes is None else max(len(images), int(lanes.max(initial=-1)) + 1)
        _require(images, (min(planes, self.nlane), *self.geometry.shape), "model")
        grid = self._take()
        self._transform.from_images(images, grid, lanes)
        return grid

    @property
    def _by_lanes(self) -> bool:
        return self.kind == "lanes" and self.nlane > 1

    def _lane_scale(self, freq_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cells of u and v per metre of every lane: (2, nlane)."""
        cells = (self.geometry.cell_x_rad * self.size[1], self.geometry.cell_y_rad * self.size[0])
        return np.multiply.outer(cells, np.asarray(freq_hz, np.float64) / SPEED_OF_LIGHT_M_S)

    def _check_shapes(
        self, uvw_m: NDArray[np.float64], row_scale: NDArray[np.float64], nchan: int, grid: NDArray[Any]
    ) -> None:
        _require(uvw_m, (len(uvw_m), 3), "uvw_m")
        _require(row_scale, (len(uvw_m),), "row_scale")
        _require(grid, self.grid_shape, "grid")
        if grid.dtype != self.dtype:
            raise ValueError(f"grid: expected {self.dtype}, got {grid.dtype}")
        if self.kind == "lanes" and nchan != self.nlane:
            raise ValueError(f"a gridder of {self.nlane} lanes got a pass of {nchan} channels")

    def _check_reach(
        self, uvw_m: NDArray[np.float64], row_scale: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> None:
        """On a part of the plane a sample beyond it would be wrapped onto others; on the whole plane that is exact."""
        if self._plane == self.size:
            return
        farthest_v, farthest_u = (
            scale[axis].max() * lanes.farthest_m(uvw_m, row_scale, axis) + 0.5 * self.window.support for axis in (1, 0)
        )
        for farthest, plane_size, size in zip((farthest_v, farthest_u), self._plane, self.size, strict=True):
            if plane_size < size and farthest > 0.5 * plane_size:
                raise ValueError(f"a visibility lies {farthest:.1f} cells from the origin of a plane of {plane_size}")


def _require(array: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    """The kernels trust shapes and strides, so nothing else may reach them."""
    if array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array of shape {shape}, got {array.shape}")


def _check(epsilon: float, precision: str, kind: str, nlane: int) -> None:
    if precision not in GRIDS:
        raise UsageError(f"precision: {precision!r} is not one of {', '.join(GRIDS)}")
    if not FINEST_EPSILON[precision] <= epsilon <= COARSEST_EPSILON:
        finest = FINEST_EPSILON[precision]
        raise UsageError(f"epsilon: {epsilon:g} is outside {finest:g} to {COARSEST_EPSILON:g} of {precision} precision")
    if kind not in ("lanes", "plane") or nlane < 1 or (kind == "plane" and nlane != 1):
        raise ValueError(f"a gridder of kind {kind!r} can't have {nlane} lanes")


def cells_apart(geometry: ImageGeometry, step_hz: float, longest_m: float) -> float:
    """Cells of an unpadded uv plane between visibilities of a baseline of ``longest_m`` in channels ``step_hz`` apart."""
    field_rad = max(geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad)
    return longest_m * step_hz / SPEED_OF_LIGHT_M_S * field_rad


def choose_window(image_shape: tuple[int, int], epsilon: float, rows: int) -> Window:
    """The window of accuracy ``epsilon`` that makes gridding ``rows`` visibilities and one transform cheapest."""

    def cost(window: Window) -> float:
        size_v, size_u = _padded_size(image_shape, window)
        points = size_v * size_u
        gridding = _NS_PER_TAP * rows * window.support * (window.support + 4)
        per_point = 0.5 * (relative_cost(size_v) + relative_cost(size_u))
        return gridding + _NS_PER_FFT_POINT * per_point * points * math.log2(points)

    return min(candidates(epsilon), key=cost)


def _padded_size(image_shape: tuple[int, int], window: Window) -> tuple[int, int]:
    smallest = 2 * lanes.guard_cells(window.support) + 2
    size_v, size_u = (good_size(max(n * window.oversampling, smallest)) for n in image_shape)
    return size_v, size_u


def _plane_within(
    reach: float | None, geometry: ImageGeometry, size: tuple[int, int], support: int
) -> tuple[int, int]:
    """(v, u) cells of the plane that footprints of baselines up to ``reach`` wavelengths touch; of v at least as many as
    there are image rows, which the transforms keep in the same memory."""
    if reach is None or not math.isfinite(reach):
        return size
    cells = (geometry.cell_y_rad, geometry.cell_x_rad)
    needed = [2 * (math.ceil(reach * cell * n + 0.5 * support) + 1) for cell, n in zip(cells, size, strict=True)]
    rows = geometry.ny + geometry.ny % 2
    return min(size[0], max(needed[0], rows)), min(size[1], needed[1])


def _correction(polynomials: NDArray[np.float64], npixel: int, size: int) -> NDArray[np.float64]:
    """What undoes the window in the image: one over its Fourier transform, per pixel of one axis."""
    return 1.0 / fourier_transform(polynomials, (np.arange(npixel) - npixel // 2) / size)


def _vector_width(nlane: int, dtype: np.dtype[Any]) -> int:
    """Elements per vector: as many lanes as fit the registers and divide nlane; of one lane, several cells."""
    widest = vectors.register_bytes() // dtype.itemsize
    return widest if nlane == 1 else math.gcd(nlane, widest)
