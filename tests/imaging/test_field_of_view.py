"""Radii of the primary beam against the textbook's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.field_of_view import half_power_width_rad, radius_at_level_rad
from radps_mpi.imaging.primary_beams import ALMA_12M, VLA_25M, Dish, primary_beam

UNBLOCKED = Dish("unblocked", 12.0, 1e-6, 1e9)


def test_half_power_width_of_an_unblocked_disc_is_1_029_lambda_over_d() -> None:
    freq_hz = 100e9
    assert half_power_width_rad(UNBLOCKED, freq_hz) == pytest.approx(1.0290 * SPEED_OF_LIGHT_M_S / freq_hz / 12.0, rel=1e-3)


def test_blockage_narrows_the_beam() -> None:
    blocked = Dish("blocked", 12.0, 3.0, 1e9)
    assert half_power_width_rad(blocked, 100e9) < 0.99 * half_power_width_rad(UNBLOCKED, 100e9)


@pytest.mark.parametrize("dish", [ALMA_12M, VLA_25M])
@pytest.mark.parametrize("level", [0.9, 0.5, 0.2])
def test_radius_is_where_the_exact_pattern_has_that_level(dish: Dish, level: float) -> None:
    freq_hz = 44e9
    radius = radius_at_level_rad(dish, freq_hz, level)
    pattern = primary_beam(ImageGeometry(16, 16, radius, radius, 0.0, 0.0), freq_hz, dish, "airy")
    assert pattern[8, 7] == pytest.approx(level, abs=1e-5)


def test_radius_shrinks_with_frequency_and_grows_as_the_level_falls() -> None:
    radii = [radius_at_level_rad(ALMA_12M, 100e9, level) for level in (0.8, 0.5, 0.2, 0.01)]
    assert np.all(np.diff(radii) > 0)
    assert radius_at_level_rad(ALMA_12M, 200e9, 0.5) == pytest.approx(0.5 * radii[1], rel=1e-6)


def test_dish_smaller_than_the_wavelength_sees_the_hemisphere() -> None:
    assert radius_at_level_rad(Dish("whip", 1.0, 0.01, 1e9), 30e6, 0.5) == math.pi / 2
