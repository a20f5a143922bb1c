"""Statistics of planes with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radps_mpi.imaging.statistics import mad_sigma, plane_statistics


def test_statistics_of_a_known_plane_ignore_nan() -> None:
    statistics = plane_statistics(np.array([[1.0, -2.0, np.nan], [3.0, 4.0, np.nan]], dtype=np.float32))
    assert (statistics.pixels, statistics.maximum, statistics.minimum) == (4, 4.0, -2.0)
    assert statistics.rms == pytest.approx(math.sqrt(30.0 / 4.0))
    assert statistics.mad_sigma == pytest.approx(1.4826 * 1.5)  # median 2, deviations 1, 4, 1, 2


def test_mad_finds_the_noise_under_a_bright_source_and_the_rms_does_not() -> None:
    plane = np.random.default_rng(3).normal(scale=2e-3, size=(256, 256)).astype(np.float32)
    plane[100:110, 100:110] += 5.0
    statistics = plane_statistics(plane)
    assert statistics.mad_sigma == pytest.approx(2e-3, rel=0.02)
    assert statistics.rms > 0.1


@pytest.mark.parametrize("plane", [np.full((4, 4), np.nan, dtype=np.float32), np.empty((0, 4), dtype=np.float32)])
def test_planes_without_pixels_have_nan_statistics(plane: np.ndarray) -> None:
    statistics = plane_statistics(plane)
    assert statistics.pixels == 0
    values = (statistics.maximum, statistics.minimum, statistics.rms, statistics.mad_sigma)
    assert all(math.isnan(value) for value in values)
    assert math.isnan(mad_sigma(plane[~np.isnan(plane)]))


def test_rms_of_bright_planes_does_not_overflow() -> None:
    assert plane_statistics(np.full((2, 2), 1e30, dtype=np.float32)).rms == pytest.approx(1e30)
