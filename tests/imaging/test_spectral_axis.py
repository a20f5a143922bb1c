"""Axes of cubes against numbers worked out by hand: what the user asks for, what the data cover, which way they run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.errors import UsageError
from radps_mpi.imaging.spectral_axis import (
    AxisRequest,
    NativeChannels,
    build_axis,
    continuum_axis,
    coverage_hz,
    freq_of_optical_velocity,
    freq_of_radio_velocity,
    optical_velocity_m_s,
    radio_velocity_m_s,
)

REST_HZ = 1.42e9
STEP_HZ = 1e4


def native(first_hz: float = 1.4e9, nchan: int = 20, factor: float | list[float] = 1.0, **options: object) -> NativeChannels:
    factors = np.atleast_1d(np.asarray(factor, np.float64))
    freq_hz = first_hz + STEP_HZ * np.arange(nchan)
    return NativeChannels(freq_hz, np.full(nchan, STEP_HZ), factors, factors, **options)  # type: ignore[arg-type]


def request(**options: object) -> AxisRequest:
    return AxisRequest(**{"frame": "LSRK", "restfreq_hz": REST_HZ} | options)  # type: ignore[arg-type]


def test_default_axis_is_the_first_integrations_grid() -> None:
    axis = build_axis(request(), [native(factor=[1.0001])])
    assert axis.freq_hz == pytest.approx(1.0001 * (1.4e9 + STEP_HZ * np.arange(20)), rel=1e-14)
    assert axis.width_hz == pytest.approx(np.full(20, 1.0001 * STEP_HZ))
    assert (axis.frame, axis.kind) == ("LSRK", "frequency")


def test_channels_that_drift_out_of_the_data_are_left_out_of_the_intersection_and_kept_by_the_union() -> None:
    drifting = native(factor=[1.0, 1.0 + 2.5 * STEP_HZ / 1.4e9])
    common, union = (build_axis(request(coverage=c), [drifting]) for c in ("intersection", "union"))
    assert common.freq_hz == pytest.approx(drifting.freq_hz[3:], rel=1e-14)
    assert union.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.arange(22), rel=1e-14)


def test_two_inputs_make_an_axis_on_the_first_ones_grid() -> None:
    second = native(1.4e9 + 5.3 * STEP_HZ, source=1)
    common = build_axis(request(), [native(), second])
    assert common.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.arange(6, 20), rel=1e-14)
    union = build_axis(request(coverage="union"), [native(), second])
    assert union.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.arange(25), rel=1e-14)


def test_windows_of_one_input_are_covered_together() -> None:
    windows = [native(), native(1.4e9 + 20 * STEP_HZ)]
    assert coverage_hz(windows, "intersection") == pytest.approx((1.4e9, 1.4e9 + 39 * STEP_HZ))
    assert build_axis(request(), windows).nchan == 40


def test_inputs_without_a_common_channel_are_refused() -> None:
    with pytest.raises(UsageError, match="no frequency in common"):
        build_axis(request(), [native(), native(1.5e9, source=1)])


def test_start_and_width_in_channels_average_native_ones() -> None:
    axis = build_axis(request(start_channel=3, width_channels=4, nchan=2), [native()])
    assert axis.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.array([4.5, 8.5]))
    assert axis.width_hz == pytest.approx([4 * STEP_HZ] * 2)


def test_channel_numbers_count_as_the_set_does_but_the_axis_ascends() -> None:
    axis = build_axis(request(start_channel=2, nchan=3), [native(descending=True)])
    assert axis.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.array([15, 16, 17]))


def test_negative_width_turns_the_axis_round() -> None:
    axis = build_axis(request(width_channels=-1), [native()])
    assert axis.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.arange(20)[::-1])
    assert np.all(axis.width_hz > 0)


def test_requested_start_is_never_moved_even_outside_the_data() -> None:
    axis = build_axis(request(start_hz=1.3e9, width_hz=2.5e4, nchan=4), [native()])
    assert axis.freq_hz.tolist() == [1.3e9, 1.3e9 + 2.5e4, 1.3e9 + 5e4, 1.3e9 + 7.5e4]
    channels = build_axis(request(start_channel=-3, nchan=2), [native()])
    assert channels.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.array([-3, -2]))


def test_start_without_a_count_runs_to_the_end_of_the_data() -> None:
    assert build_axis(request(start_hz=1.4e9 + 5 * STEP_HZ), [native()]).nchan == 15
    down = build_axis(request(start_hz=1.4e9 + 5 * STEP_HZ, width_hz=-STEP_HZ), [native()])
    assert (down.nchan, down.freq_hz[-1]) == (6, 1.4e9)
    with pytest.raises(UsageError, match="beyond the data"):
        build_axis(request(start_hz=1.5e9), [native()])


def test_only_a_width_starts_at_the_edge_of_the_data() -> None:
    axis = build_axis(request(width_hz=5 * STEP_HZ), [native()])
    assert axis.freq_hz == pytest.approx(1.4e9 + STEP_HZ * np.array([2.0, 7.0, 12.0, 17.0]))


def test_radio_velocities_are_linear_in_frequency_and_run_against_it() -> None:
    axis = build_axis(request(start_m_s=4.0e6, width_m_s=2e3, nchan=5), [native()])
    assert axis.kind == "radio"
    assert SPEED_OF_LIGHT_M_S * (1 - axis.freq_hz / REST_HZ) == pytest.approx(4.0e6 + 2e3 * np.arange(5), abs=1e-6)
    assert np.all(np.diff(axis.freq_hz) < 0)
    assert axis.width_hz == pytest.approx(REST_HZ * 2e3 / SPEED_OF_LIGHT_M_S)


def test_optical_velocities_are_linear_in_wavelength() -> None:
    axis = build_axis(request(start_m_s=4.0e6, width_m_s=-2e3, nchan=5, velocity="optical"), [native()])
    wavelength_m = SPEED_OF_LIGHT_M_S / axis.freq_hz
    assert np.diff(wavelength_m, 2) == pytest.approx(0.0, abs=1e-15)
    assert SPEED_OF_LIGHT_M_S * (REST_HZ / axis.freq_hz - 1) == pytest.approx(4.0e6 - 2e3 * np.arange(5), abs=1e-6)
    middle = 0.5 * (axis.freq_hz[1:] + axis.freq_hz[:-1])
    assert axis.width_hz[1:-1] == pytest.approx(np.diff(middle), rel=1e-6)


def test_default_velocity_axis_covers_the_data() -> None:
    axis = build_axis(request(width_m_s=float(SPEED_OF_LIGHT_M_S * STEP_HZ / REST_HZ)), [native()])
    assert axis.nchan == 20
    assert np.sort(axis.freq_hz) == pytest.approx(1.4e9 + STEP_HZ * np.arange(20), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"start_m_s": 1e6, "restfreq_hz": 0.0}, "rest frequency"),
        ({"start_m_s": 1e6, "width_hz": 1e4}, "frequency"),
        ({"start_channel": 3, "width_m_s": 1e3}, "velocity"),
        ({"width_channels": 0}, "0 channels"),
        ({"width_hz": 0.0}, "0 Hz"),
        ({"width_m_s": 0.0}, "0 m/s"),
        ({"start_channel": 25}, "leave no channel"),
        ({"start_m_s": SPEED_OF_LIGHT_M_S, "width_m_s": 1e3, "nchan": 3}, "don't exist"),
    ],
)
def test_requests_that_make_no_axis_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        build_axis(request(**options), [native()])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(velocity=st.floats(-3e7, 3e7), rest=st.floats(1e9, 1e12))
def test_velocities_come_back_from_frequencies(velocity: float, rest: float) -> None:
    at = np.array([velocity])
    assert radio_velocity_m_s(freq_of_radio_velocity(at, rest), rest) == pytest.approx(velocity, abs=1e-6)
    assert optical_velocity_m_s(freq_of_optical_velocity(at, rest), rest) == pytest.approx(velocity, abs=1e-6)


def test_continuum_channel_spans_every_input_at_every_time() -> None:
    axis = continuum_axis([native(), native(1.41e9, factor=[1.0, 1.001], source=1)], "LSRK", 0.0)
    low, high = 1.4e9 - STEP_HZ / 2, 1.001 * (1.41e9 + 19.5 * STEP_HZ)
    assert axis.freq_hz == pytest.approx([0.5 * (low + high)])
    assert axis.width_hz == pytest.approx([high - low])
