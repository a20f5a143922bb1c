"""Between half uv planes and images: FFTW with reused plans and buffers, in the memory of the grid itself.

FFTW_ESTIMATE only: measured plans would differ from run to run, and with them the last bits. Threads share out whole
strips and row groups, each with plans for one thread, so that their number does not change a bit either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyfftw
from numpy.typing import NDArray
from radps_kernels import half_plane

_STRIP_TRANSFORMS = 32
_ROW_BUFFER_BYTES = 64 * 1024
_ALIGNMENT = 64


def good_size(minimum: float) -> int:
    """The cheapest even size >= ``minimum`` without prime factors beyond 7."""
    first = max(2, math.ceil(minimum))
    first += first % 2
    sizes = [size for size in range(first, 2 * first + 1, 2) if _largest_factor(size) <= 7]
    return min(sizes, key=lambda size: size * relative_cost(size))


def relative_cost(size: int) -> float:
    """Time per point of FFTW's estimated plans against that of sizes divisible by 16: measured for all sizes from 560 to
    1300, single precision, complex and real, with the transposition that goes with them."""
    if size % 128 == 0 and _largest_factor(size) in (2, 5) and size % 25:
        return 0.8
    return 1.0 if size % 16 == 0 else 1.15 if size % 4 == 0 else 1.3


def _largest_factor(number: int) -> int:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number


def _rows_of(count: int, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``count`` transforms of ``length``, each aligned, an odd number of cache lines apart: at distances of many powers
    of two the same cache sets would be hit again and again when transposing."""
    per_line = _ALIGNMENT // dtype.itemsize
    stride = (-(-length // per_line) | 1) * per_line
    array = pyfftw.empty_aligned((count, stride), dtype, n=_ALIGNMENT)
    array[...] = 0
    return array


class _Workspace:
    """Buffers and plans of one thread: strips of columns along v, groups of rows along u."""

    def __init__(self, size: tuple[int, int], strip: int, group: int, dtype: np.dtype[Any]) -> None:
        self._size, self._dtype = size, dtype
        pairs = np.result_type(dtype, np.complex64)
        self._buffers = {
            "v in": _rows_of(strip, size[0], pairs),
            "v out": _rows_of(strip, size[0], pairs),
            "half": _rows_of(group, size[1] // 2 + 1, pairs),
            "real": _rows_of(group, size[1], dtype),
        }
        self._lengths = {"v in": size[0], "v out": size[0], "half": size[1] // 2 + 1, "real": size[1]}
        self._plans: dict[tuple[str, str, str], Any] = {}

    def transform(self, source: str, target: str, direction: str) -> None:
        """Transform all rows of one buffer into another, not normalised; planned at its first use."""
        key = source, target, direction
        if key not in self._plans:
            arrays = (self._buffers[name][:, : self._lengths[name]] for name in (source, target))
            flags = ("FFTW_ESTIMATE", "FFTW_DESTROY_INPUT")
            self._plans[key] = pyfftw.FFTW(*arrays, axes=(1,), direction=direction, flags=flags, threads=1)
        self._plans[key].execute()

    def floats(self, name: str) -> NDArray[Any]:
        """A buffer as real numbers: (transform, length or more) or, of complex ones, (transform, length or more, 2)."""
        buffer = self._buffers[name]
        return buffer if name == "real" else buffer.view(self._dtype).reshape(*buffer.shape, 2)


class HalfPlaneTransform:
    """Transforms of ``nlane`` guarded half uv planes (``lanes`` layout) to images and back.

    ``size`` (v, u) cells of the full uv plane, both even; ``correction`` (y, x) factors of image rows and columns.
    To images: sum over the plane of G exp(+2 pi i (iu x / Nu - iv y / Nv)), real part; back: its adjoint, completed
    in the guard cells. x and y count from the image's centre pixel. ``width`` lanes per vector.
    """

    def __init__(
        self,
        size: tuple[int, int],
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
        self._dtype = dtype
        self._width = (0,) * width
        self._all_rows, self._all_columns = np.ones(size[0], dtype), np.ones(size[1] // 2 + 1, dtype)
        self._halves = self._all_columns / 2
        self._halves[[0, -1]] = 1
        self._columns = max(1, _STRIP_TRANSFORMS // nlane)
        self._rows = max(1, _ROW_BUFFER_BYTES // (nlane * size[1] * dtype.itemsize))
        self._workspaces: list[_Workspace] = []

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(nlane, ny, nx)."""
        return self.nlane, len(self._correction_y), len(self._correction_x)

    def to_images(self, grid: NDArray[Any], images: NDArray[Any]) -> None:
        """Overwrite ``images`` (nlane, ny, nx) with those of a gridded plane, which is overwritten too."""
        half_plane.fold_guards(grid, self.guard)
        self._for_each(self._strips(), lambda work, strip: self._columns_to_rows(work, grid, strip))
        self._for_each(self._row_groups(), lambda work, group: self._rows_to_images(work, grid, images, group))

    def from_images(self, images: NDArray[Any], grid: NDArray[Any]) -> None:
        """Overwrite ``grid`` with the uv plane of the images (nlane, ny, nx), guard cells included."""
        self._for_each(self._row_groups(), lambda work, group: self._images_to_rows(work, images, grid, group))
        self._for_each(self._strips(), lambda work, strip: self._rows_to_columns(work, grid, strip))
        half_plane.mirror_guards(grid, self.guard)

    def _columns_to_rows(self, work: _Workspace, grid: NDArray[Any], strip: tuple[int, int]) -> None:
        size = self.size[0]
        half_plane.load_columns(self._width, grid, self.guard, strip, self._all_rows, size, work.floats("v in"))
        work.transform("v in", "v out", "FFTW_FORWARD")
        half_plane.store_columns(self._width, work.floats("v out"), size, self._correction_y, grid, self.guard, strip)

    def _rows_to_columns(self, work: _Workspace, grid: NDArray[Any], strip: tuple[int, int]) -> None:
        size = self.size[0]
        half_plane.load_columns(self._width, grid, self.guard, strip, self._correction_y, size, work.floats("v in"))
        work.transform("v in", "v out", "FFTW_BACKWARD")
        half_plane.store_columns(self._width, work.floats("v out"), size, self._all_rows, grid, self.guard, strip)

    def _rows_to_images(
        self, work: _Workspace, grid: NDArray[Any], images: NDArray[Any], rows: tuple[int, int]
    ) -> None:
        half_plane.load_half_rows(self._width, grid, self.guard, rows, self._halves, work.floats("half"))
        work.transform("half", "real", "FFTW_BACKWARD")
        half_plane.crop_rows(work.floats("real"), self.size[1], self._correction_x, rows, images)

    def _images_to_rows(
        self, work: _Workspace, images: NDArray[Any], grid: NDArray[Any], rows: tuple[int, int]
    ) -> None:
        half_plane.pad_rows(images, self._correction_x, rows, self.size[1], work.floats("real"))
        work.transform("real", "half", "FFTW_FORWARD")
        half_plane.store_half_rows(self._width, work.floats("half"), self._all_columns, grid, self.guard, rows)

    def _strips(self) -> list[tuple[int, int]]:
        return _ranges(self.guard, self.guard + self.size[1] // 2 + 1, self._columns)

    def _row_groups(self) -> list[tuple[int, int]]:
        return _ranges(0, len(self._correction_y), self._rows)

    def _for_each(self, tasks: list[tuple[int, int]], action: Callable[[_Workspace, tuple[int, int]], None]) -> None:
        while len(self._workspaces) < self.threads:
            self._workspaces.append(
                _Workspace(self.size, self._columns * self.nlane, self._rows * self.nlane, self._dtype)
            )

        def share(thread: int) -> None:
            for task in tasks[thread :: self.threads]:
                action(self._workspaces[thread], task)

        if self.threads == 1:
            share(0)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(share, range(self.threads)))


def _ranges(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
