"""Primary beams: the power pattern of the array's dishes over the image, at each channel's own frequency."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import DEG_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.precision import IMAGE

PbModel = Literal["casa", "airy", "none"]

TABLE_SAMPLES = 10_000
"""Samples of CASA's tabulated voltage pattern, from the axis to the maximum radius."""


@dataclass(frozen=True, slots=True)
class Dish:
    """A circular aperture with a central blockage, uniformly illuminated.

    ``diameter_m`` is the effective diameter, smaller than the real one where the feed tapers; ``max_radius_rad_hz``
    is the radius beyond which CASA's model is 0, times the frequency (rad Hz).
    """

    name: str
    diameter_m: float
    blockage_m: float
    max_radius_rad_hz: float


ALMA_12M = Dish("ALMA 12 m", 10.7, 0.75, 1.784 * DEG_RAD * 1e9)
ALMA_7M = Dish("ALMA 7 m", 6.25, 0.75, 3.568 * DEG_RAD * 1e9)
VLA_25M = Dish("VLA 25 m", 25.0, 2.36, 0.8564 * DEG_RAD * 1e9)

KNOWN_DISHES: dict[str, dict[float, Dish]] = {
    "ALMA": {12.0: ALMA_12M, 7.0: ALMA_7M},
    "ACA": {12.0: ALMA_12M, 7.0: ALMA_7M},
    "VLA": {25.0: VLA_25M},
    "EVLA": {25.0: VLA_25M},
}
"""Dish by telescope (OBSERVATION/TELESCOPE_NAME) and real diameter (ANTENNA/DISH_DIAMETER, m)."""

DIAMETER_TOLERANCE_M = 0.1


def dish_of(telescope: str, dish_diameter_m: float | Iterable[float]) -> Dish:
    """The dish of a telescope whose antennas have ``dish_diameter_m`` (one value, or one for each antenna), metres.

    Raises DataError, saying what is known, for telescopes and diameters that aren't, and for mixed arrays.
    """
    diameters_m = np.unique(np.atleast_1d(np.asarray(dish_diameter_m, dtype=np.float64)).round(3))
    if diameters_m.size == 0 or diameters_m[-1] - diameters_m[0] > DIAMETER_TOLERANCE_M:
        listed = ", ".join(f"{d:g}" for d in diameters_m) or "no"
        raise DataError(f"{telescope}: dishes of {listed} m have no single primary beam: image them apart")
    for diameter_m, dish in KNOWN_DISHES.get(telescope.strip().upper(), {}).items():
        if abs(diameter_m - diameters_m[0]) <= DIAMETER_TOLERANCE_M:
            return dish
    known = ", ".join(f"{name} {d:g} m" for name, dishes in KNOWN_DISHES.items() for d in dishes)
    raise DataError(
        f"no primary beam is known for {telescope} with dishes of {diameters_m[0]:g} m (known: {known}); "
        "pb_model = 'none' images without one"
    )


def primary_beam(
    geometry: ImageGeometry, freq_hz: float, dish: Dish | None, pb_model: PbModel = "casa",
    axis_lm: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:  # fmt: skip
    """Power pattern towards each pixel, 1 where the dishes point: float32 (ny, nx).

    ``axis_lm`` are the direction cosines, east and north of the phase centre, of where they point.

    "casa" is tclean's: not quite the diffraction pattern, tabulated (the sample below is taken, not the nearest), and
    0 beyond the dish's maximum radius.
    "airy" is the exact pattern of the blocked aperture. "none" is 1 everywhere, and needs no ``dish``;
    the others raise DataError without one.
    """
    if pb_model == "none":
        return np.ones(geometry.shape, dtype=IMAGE)
    if dish is None:
        raise DataError(f"pb_model = {pb_model!r} needs to know the dishes; pb_model = 'none' images without a beam")
    # Direction cosines are sines of the offset: what diffraction depends on, and what CASA takes for the angle itself.
    if axis_lm != (0.0, 0.0):
        return _pattern(_sine_from(geometry, axis_lm), freq_hz, dish, pb_model)
    # The pattern is round: one quadrant has all of it.
    l_sine = np.arange(geometry.nx // 2 + 1) * geometry.cell_x_rad
    m_sine = np.arange(geometry.ny // 2 + 1) * geometry.cell_y_rad
    quadrant = _pattern(np.hypot(l_sine[np.newaxis, :], m_sine[:, np.newaxis]), freq_hz, dish, pb_model)
    return _whole(quadrant, geometry.ny, geometry.nx)


def _whole(quadrant: NDArray[np.float32], ny: int, nx: int) -> NDArray[np.float32]:
    """(ny, nx) from the quadrant of offsets 0, 1, ... on both axes (by slices: to index takes three times as long)."""
    cy, cx = ny // 2, nx // 2
    whole = np.empty((ny, nx), quadrant.dtype)
    whole[cy:, cx:] = quadrant[: ny - cy, : nx - cx]
    whole[cy:, :cx] = quadrant[: ny - cy, cx:0:-1]
    whole[:cy, cx:] = quadrant[cy:0:-1, : nx - cx]
    whole[:cy, :cx] = quadrant[cy:0:-1, cx:0:-1]
    return whole


def _sine_from(geometry: ImageGeometry, axis_lm: tuple[float, float]) -> NDArray[np.float64]:
    """Sine of the angle between each pixel and a direction: the length of the unit vectors' cross product. 1 beyond the
    horizon."""
    l, m = geometry.l_axis()[np.newaxis, :], geometry.m_axis()[:, np.newaxis]  # noqa: E741
    l0, m0 = axis_lm
    square = 1.0 - l * l - m * m
    n, n0 = np.sqrt(np.maximum(square, 0.0)), math.sqrt(1.0 - l0 * l0 - m0 * m0)
    cross = np.square(m * n0 - n * m0) + np.square(n * l0 - l * n0) + np.square(l * m0 - m * l0)
    return np.where((square > 0.0) & (l * l0 + m * m0 + n * n0 > 0.0), np.sqrt(cross), 1.0)


def _pattern(sine: NDArray[np.float64], freq_hz: float, dish: Dish, pb_model: PbModel) -> NDArray[np.float32]:
    """Power pattern at offsets whose sine is given, float32 of the same shape."""
    if pb_model == "airy":
        x = math.pi * dish.diameter_m * freq_hz / SPEED_OF_LIGHT_M_S * sine
        return np.square(airy_voltage(x, dish)).astype(IMAGE)
    step_rad = dish.max_radius_rad_hz / freq_hz / (TABLE_SAMPLES - 1)
    return _casa_table(dish)[np.minimum(sine / step_rad, TABLE_SAMPLES).astype(np.intp)]


def airy_voltage(x: NDArray[np.float64], dish: Dish) -> NDArray[np.float64]:
    """Voltage pattern at ``x`` = pi D sin(theta) / lambda of an aperture of diameter D with a central blockage.

    [J(x) - e^2 J(e x)] / (1 - e^2), where J(x) = 2 J1(x) / x and e is the blocked fraction of the diameter (Born &
    Wolf, Principles of Optics, 8.6.2).
    """
    blocked = dish.blockage_m / dish.diameter_m
    return (_jinc(x) - blocked**2 * _jinc(blocked * x)) / (1.0 - blocked**2)


@functools.cache
def _casa_table(dish: Dish) -> NDArray[np.float32]:
    """CASA's power pattern at equal steps of angle times frequency, and a last 0: float32 (TABLE_SAMPLES + 1,)."""
    theta_rad_hz = np.arange(TABLE_SAMPLES, dtype=np.float64) * (dish.max_radius_rad_hz / (TABLE_SAMPLES - 1))
    arcmin_ghz = theta_rad_hz / (DEG_RAD / 60.0 * 1e9)
    x = arcmin_ghz * 7.016 / (1.566 * 60.0) * dish.diameter_m / 24.5
    # The second pattern should be that of the blockage, x / ratio: CASA multiplies, 1.4 % at half power.
    ratio = dish.diameter_m / dish.blockage_m
    voltage = (ratio**2 * _jinc(x) - _jinc(x * ratio)) / (ratio**2 - 1.0)
    table = np.append(np.square(voltage), 0.0).astype(IMAGE)
    table.setflags(write=False)
    return table


def load() -> None:
    """Import what primary beams take: a tenth of a second, of use to ranks that are about to wait for the first one."""
    from scipy import special  # noqa: F401


def _jinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 J1(x) / x, 1 at 0."""
    from scipy import special

    safe = np.where(x == 0.0, 1.0, x)
    return np.where(x == 0.0, 1.0, 2.0 * special.j1(safe) / safe)


def apply_pb_mask(image: NDArray[np.float32], pb: NDArray[np.float32], pblimit: float) -> NDArray[np.float32]:
    """``image`` with NaN where ``pb`` <= ``pblimit``: a new array (ny, nx). A negative limit masks nothing."""
    if pblimit < 0.0:
        return image.copy()
    return np.where(pb <= np.float32(pblimit), np.float32(np.nan), image)


def pb_correct(image: NDArray[np.float32], pb: NDArray[np.float32], pblimit: float) -> NDArray[np.float32]:
    """``image`` / ``pb``, the sky's own brightness: a new array (ny, nx), NaN where ``pb`` <= abs(``pblimit``) or 0.

    tclean's pb image carries that mask whatever the sign of the limit, and so does what is divided by it.
    """
    seen = pb > np.float32(abs(pblimit))
    return np.divide(image, pb, out=np.full_like(image, np.nan), where=seen)
