"""Between half uv planes and images: FFTW with reused plans and buffers, in the memory of the grid itself.

FFTW_ESTIMATE only: measured plans would differ from run to run, and with them the last bits. Threads share out whole
strips and row groups, each with plans for one thread, so that their number does not change a bit either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radps_kernels import half_plane

from radps_mpi.imaging import fftw

_STRIP_BYTES = 640 * 1024
_PAIR_BYTES = 512 * 1024
"""Both buffers of a strip of columns, of a group of row pairs: larger ones move longer pieces of memory at a time, but have
to stay in the second-level cache."""

_LINES = 8
"""Cache lines of a row in a strip where less than one would fit, of very tall planes of few lanes: 64 columns instead of 4 took
0.55 of the time for 8192 x 8192 pixels and one lane."""

_STREAMED_BYTES = 8 << 20
"""A block's images, of all lanes, that are as large won't be in the second-level cache any more when they are looked at."""

ALIGNMENT = 64
"""Bytes, of grids, buffers and images: a cache line, and the widest vector."""

_COSTS = (0.8, 1.0, 1.15, 1.3)
"""Of sizes by their factors, see ``relative_cost``."""


@cache
def good_size(minimum: float) -> int:
    """The cheapest even size >= ``minimum`` without prime factors beyond 7."""
    first = max(2, math.ceil(minimum))
    first += first % 2
    farthest = int(first * max(_COSTS) / min(_COSTS)) + 2
    sizes = [size for size in range(first, farthest, 2) if _without_small_factors(size) == 1]
    return min(sizes, key=lambda size: size * relative_cost(size))


def relative_cost(size: int) -> float:
    """Time per point of FFTW's estimated plans against that of sizes divisible by 16: measured for all sizes from 256 to
    2600, single precision, with the transposition that goes with them."""
    fastest, fast, slow, slowest = _COSTS
    if size in (size & -size, 5 * (size & -size)) and size >= 128:  # a power of two, or five of them
        return fastest
    return fast if size % 16 == 0 else slow if size % 4 == 0 else slowest


def _without_small_factors(number: int) -> int:
    """What is left of a number when its prime factors up to 7 are taken out."""
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number


def _rows_of(count: int, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``count`` transforms of ``length``, each aligned, an odd number of cache lines apart: at distances of many powers
    of two the same cache sets would be hit again and again when transposing."""
    per_line = ALIGNMENT // dtype.itemsize
    stride = (-(-length // per_line) | 1) * per_line
    array = fftw.empty_aligned((count, stride), dtype, n=ALIGNMENT)
    array[...] = 0
    return array


class _Workspace:
    """Buffers and plans of one thread: strips of columns along v, groups of pairs of rows along u. Every lane has plans of its
    own, so that those without work cost none, and no lane's bits depend on which others are transformed."""

    def __init__(self, size: tuple[int, int], strip: int, group: int, nlane: int, dtype: np.dtype[Any]) -> None:
        self._dtype, self._nlane = dtype, nlane
        complex_dtype = np.result_type(dtype, np.complex64)
        self._lengths = {"v": size[0], "u": size[1]}
        counts = {"v": strip * nlane, "u": group * nlane}
        self._buffers = {
            (axis, end): _rows_of(counts[axis], length, complex_dtype)
            for axis, length in self._lengths.items()
            for end in ("in", "out")
        }
        self._plans: dict[tuple[str, str], list[Any]] = {}

    def transform(self, axis: str, direction: str, lanes: NDArray[np.int64]) -> None:
        """Transform all lines of these lanes in an axis' "in" buffer to its "out", not normalised; planned at its first use."""
        key = axis, direction
        if key not in self._plans:
            self._plans[key] = [self._plan(axis, direction, lane) for lane in range(self._nlane)]
        for lane in lanes:
            self._plans[key][lane].execute()

    def _plan(self, axis: str, direction: str, lane: int) -> Any:
        arrays = (self._buffers[axis, end][lane :: self._nlane, : self._lengths[axis]] for end in ("in", "out"))
        return fftw.FFTW(*arrays, axes=(1,), direction=direction, flags=("FFTW_ESTIMATE", "FFTW_DESTROY_INPUT"), threads=1)

    def lines(self, axis: str, end: str) -> NDArray[Any]:
        """A buffer: (line * nlane + lane, length or more), complex."""
        return self._buffers[axis, end]

    def floats(self, axis: str, end: str) -> NDArray[Any]:
        """A buffer as real numbers: (line * nlane + lane, length or more, 2)."""
        buffer = self._buffers[axis, end]
        return buffer.view(self._dtype).reshape(*buffer.shape, 2)


class HalfPlaneTransform:
    """Transforms of ``nlane`` guarded half uv planes (``lanes`` layout) to images and back.

    ``size`` (v, u) cells of the full uv plane, ``plane`` (v, u) cells of the part of it, about the origin, that grids
    hold: cells beyond are zero, or nobody asks for them. All are even, and ``plane[0]`` is no less than the image rows,
    which take the same memory. ``correction`` (y, x) factors of image rows and columns.
    To images: sum over the plane of G exp(+2 pi i (iu x / Nu - iv y / Nv)), real part; back: its adjoint, completed
    in the guard cells. x and y count from the image's centre pixel. ``width`` elements per vector. Both ways ``lanes``,
    ascending, are those that are wanted, None for all: others hold anything afterwards.
    """

    def __init__(
        self,
        size: tuple[int, int],
        plane: tuple[int, int],
        nlane: int,
        guard: int,
        correction: tuple[NDArray[np.float64], NDArray[np.float64]],
        dtype: np.dtype[Any],
        *,
        width: int,
        threads: int = 1,
    ) -> None:
        self.size, self.nlane, self.guard, self.threads = size, nlane, guard, threads
        self._correction_y, self._correction_x = (factor.astype(dtype) for factor in correction)
        self._dtype, self._all_lanes = dtype, np.arange(nlane)
        self._width = (0,) * width
        self._plane, self._plane_rows = plane, np.ones(plane[0], dtype)
        bytes_per_cell = 2 * 2 * dtype.itemsize * nlane
        line = 2 * ALIGNMENT // bytes_per_cell  # columns in a cache line, 0 where a cell has more
        columns = _STRIP_BYTES // (bytes_per_cell * size[0])
        self._columns = max(1, columns if columns >= line else _LINES * line)
        self._pairs = max(1, _PAIR_BYTES // (bytes_per_cell * size[1]))
        self._workspaces: list[_Workspace] = []

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(nlane, ny, nx)."""
        return self.nlane, len(self._correction_y), len(self._correction_x)

    @property
    def grid_shape(self) -> tuple[int, int, int, int]:
        """(rows of v, columns of u >= 0, 2, nlane), guard cells around rows and columns included."""
        return self._plane[0] + 2 * self.guard, self._plane[1] // 2 + 1 + 2 * self.guard, 2, self.nlane

    def to_images(
        self,
        grid: NDArray[Any],
        images: NDArray[Any],
        scale: NDArray[np.float64] | None = None,
        lanes: NDArray[np.int64] | None = None,
    ) -> None:
        """Overwrite ``images`` (nlane, ny, nx), contiguous, with those of a gridded plane, times ``scale`` (nlane,); the plane
        is overwritten too. Large ones that begin at a multiple of ALIGNMENT bytes are written faster."""
        lanes = self._all_lanes if lanes is None else lanes
        scale = np.ones(self.nlane, self._dtype) if scale is None else scale.astype(self._dtype)
        half_plane.fold_guards(grid, self.guard)
        self._for_each(self._strips(), lambda work, strip: self._columns_to_rows(work, grid, lanes, strip))
        self._for_each(
            self._row_pairs(), lambda work, pairs: self._rows_to_images(work, grid, images, scale, lanes, pairs)
        )

    def from_images(self, images: NDArray[Any], grid: NDArray[Any], lanes: NDArray[np.int64] | None = None) -> None:
        """Overwrite ``grid`` with the uv plane of the images (nlane, ny, nx), guard cells included. There may be fewer images
        where ``lanes`` says which are looked at."""
        lanes = self._all_lanes if lanes is None else lanes
        self._for_each(self._row_pairs(), lambda work, pairs: self._images_to_rows(work, images, grid, lanes, pairs))
        self._for_each(self._strips(), lambda work, strip: self._rows_to_columns(work, grid, lanes, strip))
        half_plane.mirror_guards(grid, self.guard)

    def _columns_to_rows(
        self, work: _Workspace, grid: NDArray[Any], lanes: NDArray[np.int64], strip: tuple[int, int]
    ) -> None:
        size, ends = self.size[0], (work.floats("v", "in"), work.floats("v", "out"))
        half_plane.load_columns(self._width, grid, self.guard, strip, self._plane_rows, size, ends[0])
        work.transform("v", "FFTW_FORWARD", lanes)
        half_plane.store_columns(self._width, ends[1], size, self._correction_y, grid, self.guard, strip)

    def _rows_to_columns(
        self, work: _Workspace, grid: NDArray[Any], lanes: NDArray[np.int64], strip: tuple[int, int]
    ) -> None:
        size, ends = self.size[0], (work.floats("v", "in"), work.floats("v", "out"))
        half_plane.load_columns(self._width, grid, self.guard, strip, self._correction_y, size, ends[0])
        work.transform("v", "FFTW_BACKWARD", lanes)
        half_plane.store_columns(self._width, ends[1], size, self._plane_rows, grid, self.guard, strip)

    def _rows_to_images(
        self,
        work: _Workspace,
        grid: NDArray[Any],
        images: NDArray[Any],
        scale: NDArray[Any],
        lanes: NDArray[np.int64],
        pairs: tuple[int, int],
    ) -> None:
        size, ny = self.size[1], images.shape[1]
        half_plane.load_row_pairs(self._width, grid, self.guard, pairs, ny, size, work.floats("u", "in"))
        work.transform("u", "FFTW_BACKWARD", lanes)
        half_plane.crop_row_pairs(
            self._width, work.lines("u", "out"), size, self._correction_x, scale, lanes, pairs, images, _can_be_streamed(images)
        )

    def _images_to_rows(
        self,
        work: _Workspace,
        images: NDArray[Any],
        grid: NDArray[Any],
        lanes: NDArray[np.int64],
        pairs: tuple[int, int],
    ) -> None:
        size, ny = self.size[1], images.shape[1]
        half_plane.pad_row_pairs(images, self._correction_x, lanes, self.nlane, pairs, size, work.lines("u", "in"))
        work.transform("u", "FFTW_FORWARD", lanes)
        half_plane.store_row_pairs(self._width, work.floats("u", "out"), size, grid, self.guard, pairs, ny)

    def _strips(self) -> list[tuple[int, int]]:
        return _ranges(self.guard, self.guard + self._plane[1] // 2 + 1, self._columns)

    def _row_pairs(self) -> list[tuple[int, int]]:
        return _ranges(0, (len(self._correction_y) + 1) // 2, self._pairs)

    def _for_each(self, tasks: list[tuple[int, int]], action: Callable[[_Workspace, tuple[int, int]], None]) -> None:
        while len(self._workspaces) < self.threads:
            self._workspaces.append(_Workspace(self.size, self._columns, self._pairs, self.nlane, self._dtype))

        def share(thread: int) -> None:
            for task in tasks[thread :: self.threads]:
                action(self._workspaces[thread], task)

        if self.threads == 1:
            share(0)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(share, range(self.threads)))


def _can_be_streamed(images: NDArray[Any]) -> bool:
    """Whether images (nlane, ny, nx) are better written past the caches, and may be: halves of rows must fall on whole vectors,
    of ALIGNMENT bytes at most."""
    aligned = images.ctypes.data % ALIGNMENT == 0 and images.shape[2] * images.itemsize % (2 * ALIGNMENT) == 0
    return aligned and images.nbytes >= _STREAMED_BYTES


def _ranges(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
