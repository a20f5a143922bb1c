"""CLEAN masks: where a component may be placed.

A pixel belongs to a region if its centre is inside or on the boundary, as in casacore's lattice regions; the inner
circle of an annulus belongs to the hole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi import precision
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import UsageError
from radps_mpi.imaging.region_text import Quantity, Region, parse_regions
from radps_mpi.imaging.sin_projection import pixel_of, to_frame

# Boundaries are inclusive to this many pixels, so that rounding of coordinates doesn't decide.
_TOLERANCE_PIX = 1e-7


@dataclass(frozen=True, slots=True)
class UserMask:
    """The regions of a mask text, to be drawn once per image, or per channel where a region has a channel range."""

    regions: tuple[Region, ...]

    @classmethod
    def parse(cls, text: str | Sequence[str]) -> UserMask:
        """Read CASA region text; raises UsageError naming the piece that can't be read."""
        return cls(parse_regions(text))

    @property
    def depends_on_channel(self) -> bool:
        """True if any region is limited to some channels."""
        return any(r.channels is not None for r in self.regions)

    def draw(self, geometry: ImageGeometry, channel: int = 0) -> NDArray[np.uint8]:
        """(ny, nx) uint8 of one image channel.

        Regions are taken in order: united with what was there, or, with a leading '-', cut out of it; a mask that
        starts with '-' starts from the whole image.

        Raises
        ------
        UsageError
            If a region covers no pixel of the image at all, or lies beyond the SIN projection's hemisphere.
        """
        mask = np.full(geometry.shape, self.regions[0].exclude, dtype=bool)
        for region in self.regions:
            if region.channels is not None and not region.channels[0] <= channel <= region.channels[1]:
                continue
            window, inside = _DRAW[region.shape](region, geometry)
            if not (region.exclude or inside.any()):
                raise UsageError(f"mask: {region.text!r} covers no pixel of the {geometry.nx} x {geometry.ny} image")
            mask[window] = mask[window] & ~inside if region.exclude else mask[window] | inside
        return mask.astype(precision.MASK)


def region_mask(text: str | Sequence[str], geometry: ImageGeometry, channel: int = 0) -> NDArray[np.uint8]:
    """(ny, nx) uint8, 1 inside the regions of tclean's ``mask`` text: ``'circle[[128pix,128pix],80pix]'``."""
    return UserMask.parse(text).draw(geometry, channel)


def full_mask(geometry: ImageGeometry) -> NDArray[np.uint8]:
    """(ny, nx) uint8 of ones: no mask."""
    return np.ones(geometry.shape, precision.MASK)


def mask_from_pb(pb: NDArray[np.float32], pbmask: float) -> NDArray[np.uint8]:
    """(ny, nx) uint8, 1 where the primary beam is above ``pbmask``; NaN is outside."""
    return (np.nan_to_num(pb, nan=-np.inf) > pbmask).astype(precision.MASK)


def mask_from_array(values: NDArray[np.generic], geometry: ImageGeometry) -> NDArray[np.uint8]:
    """A mask image as (ny, nx) uint8: 1 where the value is above 0.5 (as tclean's hclean reads one); NaN is outside.

    Raises
    ------
    UsageError
        If the plane has another size than the image.
    """
    if values.shape != geometry.shape:
        raise UsageError(
            f"mask image is {values.shape[-1]} x {values.shape[0]} pixels; the image has {geometry.nx} x {geometry.ny}"
        )
    return (np.nan_to_num(np.asarray(values, dtype=np.float64)) > 0.5).astype(precision.MASK)


_Window = tuple[slice, slice]
_Drawn = tuple[_Window, NDArray[np.bool_]]


def _pixel(region: Region, geometry: ImageGeometry, point: tuple[Quantity, Quantity]) -> tuple[float, float]:
    """Zero-based (x, y) of a position."""
    x, y = point
    if x.in_pixels:
        return x.value, y.value
    ra, dec = to_frame(x.value, y.value, region.frame or geometry.direction_frame, geometry.direction_frame)
    pixel = pixel_of(geometry, ra, dec)
    if pixel is None:
        raise UsageError(f"mask: {region.text!r} is more than 90 degrees from the image's centre")
    return pixel


def _pixel_size(length: Quantity, geometry: ImageGeometry) -> tuple[float, float]:
    """(x, y) of a pixel in the unit of a length."""
    return (1.0, 1.0) if length.in_pixels else (geometry.cell_x_rad, geometry.cell_y_rad)


def _window(geometry: ImageGeometry, x: float, y: float, reach_x: float, reach_y: float) -> _Window:
    """Rows and columns within reach of (x, y), clipped to the image."""

    def clip(centre: float, reach: float, n: int) -> slice:
        first = min(max(math.ceil(centre - reach - _TOLERANCE_PIX), 0), n)
        return slice(first, max(min(math.floor(centre + reach + _TOLERANCE_PIX) + 1, n), first))

    return clip(y, reach_y, geometry.ny), clip(x, reach_x, geometry.nx)


def _rotated(
    region: Region, geometry: ImageGeometry, reach: float
) -> tuple[_Window, NDArray[np.float64], NDArray[np.float64], float]:
    """Window, offsets along and across the position angle (in the unit of the region's lengths), and the tolerance."""
    x, y = _pixel(region, geometry, region.points[0])
    size_x, size_y = _pixel_size(region.lengths[0], geometry)
    window = _window(geometry, x, y, reach / size_x, reach / size_y)
    east = -(np.arange(window[1].start, window[1].stop)[None, :] - x) * size_x
    north = (np.arange(window[0].start, window[0].stop)[:, None] - y) * size_y
    sin_pa, cos_pa = math.sin(region.angle_rad), math.cos(region.angle_rad)
    return window, east * sin_pa + north * cos_pa, east * cos_pa - north * sin_pa, _TOLERANCE_PIX * min(size_x, size_y)


def _draw_annulus(region: Region, geometry: ImageGeometry) -> _Drawn:
    outer = region.lengths[-1].value
    window, along, across, tolerance = _rotated(region, geometry, outer)
    radius = np.hypot(along, across)
    inside = radius <= outer + tolerance
    if region.shape == "annulus":
        inside &= radius > region.lengths[0].value + tolerance
    return window, inside


def _draw_ellipse(region: Region, geometry: ImageGeometry) -> _Drawn:
    first, second = (q.value for q in region.lengths)
    window, along, across, tolerance = _rotated(region, geometry, max(first, second))
    return window, np.hypot(along / (first + tolerance), across / (second + tolerance)) <= 1.0


def _draw_rotbox(region: Region, geometry: ImageGeometry) -> _Drawn:
    width, height = (q.value for q in region.lengths)
    window, along, across, tolerance = _rotated(region, geometry, 0.5 * math.hypot(width, height))
    return window, (np.abs(along) <= 0.5 * height + tolerance) & (np.abs(across) <= 0.5 * width + tolerance)


def _draw_box(region: Region, geometry: ImageGeometry) -> _Drawn:
    (x1, y1), (x2, y2) = (_pixel(region, geometry, p) for p in region.points)
    window = _window(geometry, 0.5 * (x1 + x2), 0.5 * (y1 + y2), 0.5 * abs(x2 - x1), 0.5 * abs(y2 - y1))
    return window, np.ones((window[0].stop - window[0].start, window[1].stop - window[1].start), dtype=bool)


def _draw_poly(region: Region, geometry: ImageGeometry) -> _Drawn:
    """Even-odd fill along rows; vertices counted both ways, and edges along the row, make it boundary-inclusive."""
    corners = np.array([_pixel(region, geometry, p) for p in region.points])
    x, y = corners[:, 0], corners[:, 1]
    reach = 0.5 * (np.ptp(x)), 0.5 * (np.ptp(y))
    window = _window(geometry, x.min() + reach[0], y.min() + reach[1], *reach)
    rows, columns = window
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    for row in range(rows.start, rows.stop):
        for x1, x2 in _spans(x, y, float(row)):
            first = max(math.ceil(x1 - _TOLERANCE_PIX) - columns.start, 0)
            inside[row - rows.start, first : max(math.floor(x2 + _TOLERANCE_PIX) + 1 - columns.start, first)] = True
    return window, inside


def _spans(x: NDArray[np.float64], y: NDArray[np.float64], row: float) -> list[tuple[float, float]]:
    """Closed intervals of a row that lie in the polygon."""
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    low, high = np.minimum(y, y2), np.maximum(y, y2)
    spans: list[tuple[float, float]] = []
    for crossing in ((low <= row) & (row < high), (low < row) & (row <= high)):
        at = np.sort(x[crossing] + (row - y[crossing]) * (x2[crossing] - x[crossing]) / (y2[crossing] - y[crossing]))
        spans += zip(at[0::2].tolist(), at[1::2].tolist(), strict=True)
    along = (y == row) & (y2 == row)
    return spans + list(zip(np.minimum(x, x2)[along].tolist(), np.maximum(x, x2)[along].tolist(), strict=True))


_DRAW = {
    "circle": _draw_annulus,
    "annulus": _draw_annulus,
    "ellipse": _draw_ellipse,
    "box": _draw_box,
    "centerbox": _draw_rotbox,
    "rotbox": _draw_rotbox,
    "poly": _draw_poly,
}
