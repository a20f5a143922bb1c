"""tclean's cycle control: thresholds, limits, every stop code, and the history's way through JSON."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from radps_mpi.data.cycle_report import convergence_table
from radps_mpi.imaging.stopping import (
    Control,
    ControlState,
    Measured,
    StopCode,
    begin,
    check,
    plan_cycle,
    record_cycle,
)
from radps_mpi.io.manifest import put_together, take_apart


def measured(
    peaks: list[float],
    *,
    sidelobe: float | list[float] = 0.2,
    image_peaks: list[float] | None = None,
    mask_pixels: list[int] | None = None,
    valid: list[bool] | None = None,
) -> Measured:
    n = len(peaks)
    return Measured(
        peak_jy=np.array(peaks),
        image_peak_jy=np.array(image_peaks or peaks),
        sidelobe=np.broadcast_to(np.array(sidelobe, dtype=float), n),
        mask_pixels=np.array(mask_pixels or [100] * n),
        valid=np.array(valid or [True] * n),
    )


def cycle(
    control: Control, state: ControlState, before: Measured, iterations: list[int], after: Measured
) -> ControlState:
    """One set of minor cycles and the look at its residuals."""
    plan = plan_cycle(control, state, before)
    flux = np.cumsum(np.array(iterations, dtype=float))
    return check(control, record_cycle(control, state, plan, np.array(iterations), flux), after)


def started(control: Control, first: Measured) -> ControlState:
    return check(control, begin(control, first.valid.size), first)


def test_global_threshold_couples_the_largest_peak_with_the_largest_sidelobe() -> None:
    control = Control(niter=1000, threshold_jy=0.008)
    first = measured([0.056, 0.01, 0.03, 0.056], sidelobe=[0.1, 0.2298, 0.2, 0.15])
    plan = plan_cycle(control, started(control, first), first)
    assert plan.cycle_threshold_jy == pytest.approx([0.056 * 0.2298] * 4)
    assert plan.active.tolist() == [True, False, True, True]
    assert plan.max_iterations.tolist() == [1000, 0, 1000, 1000]


def test_plane_mode_uses_each_channels_own_peak_and_sidelobe() -> None:
    control = Control(niter=1000, threshold_jy=0.008, mode="plane")
    first = measured([0.056, 0.012, 0.03, 0.005], sidelobe=[0.1, 0.2, 0.3, 0.3])
    state = started(control, first)
    plan = plan_cycle(control, state, first)
    assert plan.cycle_threshold_jy[:3] == pytest.approx([0.008, 0.008, 0.009])
    assert plan.active.tolist() == [True, True, True, False]
    assert state.stop_code.tolist() == [0, 0, 0, StopCode.THRESHOLD]


@pytest.mark.parametrize(("sidelobe", "fraction"), [(0.01, 0.05), (0.4, 0.6), (0.9, 0.8)])
def test_fraction_of_the_peak_is_clipped_between_its_limits(sidelobe: float, fraction: float) -> None:
    control = Control(niter=10, cyclefactor=1.5)
    first = measured([2.0], sidelobe=sidelobe)
    assert plan_cycle(control, started(control, first), first).cycle_threshold_jy == pytest.approx([2.0 * fraction])


def test_cycle_threshold_never_falls_below_the_users() -> None:
    control = Control(niter=10, threshold_jy=1.5)
    first = measured([2.0], sidelobe=0.2)
    assert plan_cycle(control, started(control, first), first).cycle_threshold_jy.tolist() == [1.5]


def test_cycleniter_limits_each_channel_and_what_remains_of_niter_limits_it_further() -> None:
    control = Control(niter=250, cycleniter=100)
    first = measured([1.0, 1.0])
    state = started(control, first)
    assert plan_cycle(control, state, first).max_iterations.tolist() == [100, 100]
    later = measured([0.8, 0.7])
    state = cycle(control, state, first, [100, 100], later)
    assert plan_cycle(control, state, later).max_iterations.tolist() == [50, 50]


def test_global_niter_may_be_exceeded_within_a_cycle_as_in_tclean() -> None:
    control = Control(niter=150)
    first = measured([1.0, 1.0])
    state = cycle(control, started(control, first), first, [150, 150], measured([0.5, 0.5]))
    assert state.iterdone == 300
    assert state.overall_stop_code is StopCode.ITERATIONS


def test_plane_niter_counts_each_channel_for_itself() -> None:
    control = Control(niter=150, mode="plane")
    first = measured([1.0, 1.0])
    later = measured([0.5, 0.6])
    state = cycle(control, started(control, first), first, [150, 20], later)
    assert state.stop_code.tolist() == [StopCode.ITERATIONS, StopCode.RUNNING]
    plan = plan_cycle(control, state, later)
    assert plan.max_iterations.tolist() == [0, 130]
    assert plan.active.tolist() == [False, True]
    state = cycle(control, state, later, [0, 130], measured([0.5, 0.1]))
    assert state.finished
    assert state.iterations.tolist() == [150, 150]


def test_no_clean_asked_for_is_code_three_as_tclean_reports_it() -> None:
    state = started(Control(niter=0, threshold_jy=0.1), measured([1.0]))
    assert state.overall_stop_code is StopCode.NO_CLEAN
    assert state.nmajordone == 1
    assert state.iterdone == 0


@pytest.mark.parametrize(("peak", "code"), [(0.99, 2), (1.0, 2), (1.0099, 2), (1.0101, 0)])
def test_a_peak_within_one_percent_of_the_threshold_counts_as_there(peak: float, code: int) -> None:
    assert started(Control(niter=10, threshold_jy=1.0), measured([peak])).overall_stop_code == code


def test_reaching_the_threshold_outranks_the_iteration_limit() -> None:
    control = Control(niter=10, threshold_jy=0.5)
    first = measured([1.0])
    assert cycle(control, started(control, first), first, [10], measured([0.5])).overall_stop_code is StopCode.THRESHOLD


def test_without_a_threshold_only_a_vanished_peak_counts_as_there() -> None:
    control = Control(niter=10)
    assert started(control, measured([1e-30])).overall_stop_code is StopCode.RUNNING
    assert started(control, measured([0.0])).overall_stop_code is StopCode.THRESHOLD


def test_a_peak_that_stays_put_over_a_cycle_stops_the_run() -> None:
    control = Control(niter=1000)
    first = measured([1.0, 0.5])
    state = cycle(control, started(control, first), first, [5, 0], measured([1.0, 0.3]))
    assert state.overall_stop_code is StopCode.NO_CHANGE


def test_a_rise_beyond_three_times_the_previous_peak_in_the_image_is_divergence() -> None:
    control = Control(niter=1000)
    first = measured([1.0], image_peaks=[2.0])
    on = cycle(control, started(control, first), first, [5], measured([0.9], image_peaks=[8.0]))
    off = cycle(control, started(control, first), first, [5], measured([0.9], image_peaks=[8.1]))
    assert on.overall_stop_code is StopCode.RUNNING
    assert off.overall_stop_code is StopCode.DIVERGED_FROM_PREVIOUS


def test_a_slow_rise_beyond_three_times_the_smallest_peak_is_divergence_too() -> None:
    control = Control(niter=10_000)
    steps = [measured([p], image_peaks=[p]) for p in (1.0, 0.2, 0.5, 0.79, 0.81)]
    state = started(control, steps[0])
    for before, after in pairwise(steps[:-1]):
        state = cycle(control, state, before, [5], after)
        assert state.overall_stop_code is StopCode.RUNNING
    assert cycle(control, state, steps[-2], [5], steps[-1]).overall_stop_code is StopCode.DIVERGED_FROM_MINIMUM


def test_nmajor_counts_major_cycles_after_the_first_residual() -> None:
    control = Control(niter=1000, nmajor=2)
    first = measured([1.0])
    state = started(control, first)
    assert state.overall_stop_code is StopCode.RUNNING
    state = cycle(control, state, first, [5], measured([0.8]))
    assert state.overall_stop_code is StopCode.RUNNING
    state = cycle(control, state, measured([0.8]), [5], measured([0.6]))
    assert state.overall_stop_code is StopCode.MAJOR_CYCLES
    assert state.nmajordone == 3
    assert started(replace(control, nmajor=0), first).overall_stop_code is StopCode.MAJOR_CYCLES


def test_an_empty_mask_everywhere_stops_at_once_and_in_one_channel_only_that_one() -> None:
    empty = measured([0.0, 0.0], image_peaks=[1.0, 1.0], mask_pixels=[0, 0])
    empty = replace(empty, mask_pixels=np.zeros(2, dtype=int))
    assert started(Control(niter=10), empty).overall_stop_code is StopCode.EMPTY_MASK
    half = replace(measured([9.0, 1.0]), mask_pixels=np.array([0, 100]))
    control = Control(niter=10)
    plan = plan_cycle(control, started(control, half), half)
    assert plan.active.tolist() == [False, True]
    assert plan.cycle_threshold_jy == pytest.approx([0.2, 0.2])
    assert started(Control(niter=10, mode="plane"), half).stop_code.tolist() == [StopCode.EMPTY_MASK, StopCode.RUNNING]


@pytest.mark.parametrize("mode", ["global", "plane"])
def test_blank_and_edge_channels_have_no_say(mode: str) -> None:
    control = Control(niter=10, threshold_jy=0.5, mode="plane" if mode == "plane" else "global")
    nan = math.nan
    first = measured(
        [nan, 1.0, 99.0], sidelobe=[nan, 0.2, 0.8], image_peaks=[nan, 1.0, 99.0], valid=[False, True, False]
    )
    state = started(control, first)
    assert not state.finished
    plan = plan_cycle(control, state, first)
    assert plan.active.tolist() == [False, True, False]
    assert plan.cycle_threshold_jy[1] == 0.5
    done = cycle(control, state, first, [0, 3, 0], replace(first, peak_jy=np.array([nan, 0.4, 99.0])))
    assert done.finished
    assert done.overall_stop_code is StopCode.THRESHOLD
    assert done.history[-1].peak_residual_jy == 0.4


def test_a_channel_that_stopped_stays_stopped_whatever_is_measured_later() -> None:
    control = Control(niter=100, threshold_jy=0.5, mode="plane")
    first = measured([0.4, 1.0])
    state = cycle(control, started(control, first), first, [0, 5], measured([7.0, 0.9]))
    assert state.stop_code.tolist() == [StopCode.THRESHOLD, StopCode.RUNNING]


def test_plane_mode_reports_the_worst_way_a_channel_ended() -> None:
    control = Control(niter=20, threshold_jy=0.5, mode="plane")
    first = measured([1.0, 1.0, 0.1])
    state = cycle(control, started(control, first), first, [20, 7, 0], measured([0.9, 0.4, 0.1]))
    assert state.stop_code.tolist() == [StopCode.ITERATIONS, StopCode.THRESHOLD, StopCode.THRESHOLD]
    assert state.overall_stop_code is StopCode.ITERATIONS


def bits(state: ControlState) -> tuple[bytes, list[bytes]]:
    """What a manifest keeps of it."""
    text, arrays = take_apart(state.to_dict())
    return text, [array.tobytes() for array in arrays]


@pytest.mark.parametrize("mode", ["global", "plane"])
def test_state_survives_a_manifest_bit_for_bit_and_goes_on_as_if_never_written(mode: str) -> None:
    control = Control(niter=1000, threshold_jy=1e-3, mode="plane" if mode == "plane" else "global")
    first = measured([0.1 + 0.2, 1.0 / 3.0, np.float32(0.7).item()], sidelobe=math.pi / 15)
    later = measured([1e-17, math.sqrt(2) / 7, 0.05], sidelobe=math.pi / 15)
    state = cycle(control, started(control, first), first, [3, 4, 5], later)
    text, arrays = take_apart(state.to_dict())
    kept = iter(arrays)
    back = ControlState.from_dict(put_together(text, lambda _dtype, _shape: next(kept)))
    assert bits(back) == bits(state)
    end = measured([1e-17, 0.1, 1e-4])
    assert bits(cycle(control, back, later, [0, 9, 9], end)) == bits(cycle(control, state, later, [0, 9, 9], end))


def test_the_convergence_table_has_a_row_for_the_dirty_cube_and_one_per_cycle() -> None:
    control = Control(niter=1000, threshold_jy=0.2)
    first = measured([1.0, 0.1])
    state = cycle(control, started(control, first), first, [12, 0], measured([0.19, 0.1]))
    rows = state.history
    assert [(r.cycle, r.channels_cleaned, r.iterations, r.total_iterations) for r in rows] == [
        (0, 0, 0, 0),
        (1, 1, 12, 12),
    ]
    assert (rows[1].cycle_threshold_jy, rows[1].peak_residual_jy, rows[1].model_flux_jy) == (0.2, 0.19, 24.0)
    assert rows[0].stop == ""
    lines = convergence_table(rows).splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["1", "200.0000", "1", "12", "12", "190.0000", "24.0000", "threshold", "reached"]
