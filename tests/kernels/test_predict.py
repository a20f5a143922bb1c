"""Visibilities by direct summation: the kernel against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from radps_kernels.predict import add_components
from radps_kernels.predict_reference import predicted

PER_M = 768.9
"""Wavelengths per metre at 230.5 GHz."""


def setting(nrow: int, ncomponent: int, ntime: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(4)
    time_index = np.sort(random.integers(0, ntime, nrow)).astype(np.int32)
    direction = random.uniform(-1e-4, 1e-4, (ncomponent, 2))
    lmn = np.column_stack([direction, np.sqrt(1.0 - (direction**2).sum(axis=1)) - 1.0])
    shape = np.zeros((ncomponent, 3))
    shape[::2] = [3e-10, 1e-10, 2e-10]
    return random.normal(0.0, 500.0, (3, nrow)), time_index, lmn, shape, random.uniform(-1.0, 2.0, (ncomponent, ntime))


@pytest.mark.parametrize("ntime", [1, 5])
def test_points_and_gaussians_are_the_sum_of_their_waves(ntime: int) -> None:
    uvw_m, time_index, lmn, shape, flux_jy = setting(777, 6, ntime)
    out = np.zeros((2, 777))
    add_components(uvw_m, time_index, PER_M, lmn, shape, flux_jy, out)
    expected = predicted(uvw_m, time_index, PER_M, lmn, shape, flux_jy)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(out[0] + 1j * out[1], expected, rtol=0, atol=1e-11)


def test_what_is_there_is_added_to() -> None:
    uvw_m, time_index, lmn, shape, flux_jy = setting(50, 4, 1)
    whole, halves = np.zeros((2, 50)), np.zeros((2, 50))
    add_components(uvw_m, time_index, PER_M, lmn, shape, flux_jy, whole)
    for half in (slice(0, 2), slice(2, 4)):
        add_components(uvw_m, time_index, PER_M, lmn[half], shape[half], flux_jy[half], halves)
    np.testing.assert_array_equal(halves, whole)


def test_a_row_s_bits_do_not_depend_on_its_place_among_the_rows() -> None:
    uvw_m, time_index, lmn, shape, flux_jy = setting(301, 5, 3)
    whole = np.zeros((2, 301))
    add_components(uvw_m, time_index, PER_M, lmn, shape, flux_jy, whole)
    for start, stop in ((0, 1), (7, 20), (100, 301)):
        part = np.zeros((2, stop - start))
        add_components(np.ascontiguousarray(uvw_m[:, start:stop]), time_index[start:stop], PER_M, lmn, shape, flux_jy, part)
        np.testing.assert_array_equal(part, whole[:, start:stop])
