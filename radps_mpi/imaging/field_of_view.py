"""How far a dish sees: radii of levels of its primary beam."""

from __future__ import annotations

import math

import numpy as np

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.imaging.primary_beams import Dish, airy_voltage

_FIRST_NULL = 3.83
"""x = pi D sin(theta) / lambda of the first null of an unblocked disc; a blocked one's is a little nearer."""


def radius_at_level_rad(dish: Dish, freq_hz: float, level: float) -> float:
    """Angle from the axis at which the power pattern of the blocked disc falls to ``level`` (0 < level < 1), inside its main
    lobe."""
    low, high = 0.0, _FIRST_NULL
    for _ in range(50):
        middle = 0.5 * (low + high)
        voltage = float(airy_voltage(np.array([middle]), dish)[0])
        if voltage > 0.0 and voltage**2 > level:
            low = middle
        else:
            high = middle
    sine = low * SPEED_OF_LIGHT_M_S / (math.pi * dish.diameter_m * freq_hz)
    return math.asin(min(1.0, sine))


def half_power_width_rad(dish: Dish, freq_hz: float) -> float:
    """Full width at half power."""
    return 2.0 * radius_at_level_rad(dish, freq_hz, 0.5)
