"""When to stop: tclean's cycle control, coupled over all channels or channel by channel.

Pure functions of small per-channel arrays that every rank holds alike, so that all ranks come to the same decision. A
*group* is a set of channels that are controlled together: one group of all channels in mode "global" (tclean's), one
group per channel in mode "plane". The same formulas hold for both.

The loop, with the residual of the dirty cube at hand::

    state = begin(control, nchan)
    while True:
        state = check(control, state, measured)      # tclean's cleanComplete
        if state.finished:
            break
        plan = plan_cycle(control, state, measured)  # tclean's getMinorCycleControls
        ...minor cycles of plan.active, then the major cycle: new measured...
        state = record_cycle(control, state, plan, iterations, model_flux_jy)

Facts are from CASA 6.5's grpcInteractiveCleanManager::cleanComplete and updateCycleThreshold, checked against tclean
6.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.cycle_report import CycleReport

Mode = Literal["global", "plane"]

THRESHOLD_TOLERANCE = 0.01
"""A peak within 1 % above the threshold counts as there (CAS-11278)."""

NO_CHANGE_JY = 1e-10
RISE_LIMIT = 3.0
NOT_YET = -1.0
"""Stands for a peak that has not been measured; peaks are magnitudes, never negative."""


class StopCode(IntEnum):
    """tclean's stop codes. 3 is what tclean returns for niter = 0: no CLEAN was asked for."""

    RUNNING = 0
    ITERATIONS = 1
    THRESHOLD = 2
    NO_CLEAN = 3
    NO_CHANGE = 4
    DIVERGED_FROM_PREVIOUS = 5
    DIVERGED_FROM_MINIMUM = 6
    EMPTY_MASK = 7
    MAJOR_CYCLES = 9


STOP_TEXT = {
    StopCode.RUNNING: "",
    StopCode.ITERATIONS: "niter reached",
    StopCode.THRESHOLD: "threshold reached",
    StopCode.NO_CLEAN: "niter is 0: dirty image only",
    StopCode.NO_CHANGE: "no change in the peak residual over a whole cycle",
    StopCode.DIVERGED_FROM_PREVIOUS: "peak residual rose by more than 3 times its value of the previous cycle",
    StopCode.DIVERGED_FROM_MINIMUM: "peak residual rose by more than 3 times its minimum",
    StopCode.EMPTY_MASK: "mask is empty",
    StopCode.MAJOR_CYCLES: "nmajor reached",
}


@dataclass(frozen=True, slots=True)
class Control:
    """tclean's parameters of the same names. ``cycleniter`` and ``nmajor`` below 0 mean no limit; ``cycleniter`` 0 too.

    ``nmajor`` counts as in tclean: major cycles after minor cycles, without the first residual. ``niter`` limits the
    total over the channels of a group, but only between cycles: each channel may do ``min(cycleniter, niter - done)``
    in a cycle, so mode "global" may exceed it, as tclean does. Mode "plane" can't: there niter is per channel.
    """

    niter: int = 0
    gain: float = 0.1
    threshold_jy: float = 0.0
    cycleniter: int = -1
    cyclefactor: float = 1.0
    minpsffraction: float = 0.05
    maxpsffraction: float = 0.8
    nmajor: int = -1
    mode: Mode = "global"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is known of each channel's residual; arrays of shape (nchan,).

    ``peak_jy`` and ``image_peak_jy`` are largest |residual| in the mask and in the whole image (only the divergence
    tests use the second, as tclean's do); ``sidelobe`` is the PSF's sidelobe level; ``mask_pixels`` counts the mask;
    ``valid`` is False for blank and edge channels, which take no part in anything here.
    """

    peak_jy: NDArray[np.float64]
    image_peak_jy: NDArray[np.float64]
    sidelobe: NDArray[np.float64]
    mask_pixels: NDArray[np.int64]
    valid: NDArray[np.bool_]

    @property
    def cleanable(self) -> NDArray[np.bool_]:
        """Valid channels whose mask is not empty."""
        return self.valid & (self.mask_pixels > 0)


@dataclass(frozen=True, slots=True, eq=False)
class ControlState:
    """The control history of a run; arrays have one entry per group, shape (ngroup,).

    ``cycle`` counts the completed sets of minor cycles, each with its major cycle; ``nmajordone`` is one more, as
    tclean's counts the first residual. Peaks are those of the last :func:`check`.
    """

    mode: Mode
    cycle: int
    iterations: NDArray[np.int64]
    stop_code: NDArray[np.uint8]
    peak_jy: NDArray[np.float64]
    image_peak_jy: NDArray[np.float64]
    minimum_image_peak_jy: NDArray[np.float64]
    cycle_threshold_jy: float
    channels_cleaned: int
    cycle_iterations: int
    model_flux_jy: float
    history: tuple[CycleReport, ...]

    @property
    def nmajordone(self) -> int:
        """Major cycles done as tclean counts them, the first residual included."""
        return self.cycle + 1

    @property
    def iterdone(self) -> int:
        """Minor-cycle iterations of all channels."""
        return int(self.iterations.sum())

    @property
    def finished(self) -> bool:
        """True when every group has stopped."""
        return bool(self.stop_code.all())

    @property
    def overall_stop_code(self) -> StopCode:
        """0 while any group runs. In mode "plane" afterwards the code of the channels that ended worst: divergence,
        then no change, iterations, nmajor, threshold; an empty mask or a blank channel only if there is nothing
        else."""
        if not self.finished:
            return StopCode.RUNNING
        return next((code for code in _WORST_FIRST if code in self.stop_code), StopCode.EMPTY_MASK)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and arrays, as a manifest keeps them; Python writes floats by repr, so nothing is lost."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"history": [row.to_dict() for row in self.history]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ControlState:
        """Inverse of :meth:`to_dict`."""
        return cls(**(values | {"history": tuple(CycleReport.from_dict(row) for row in values["history"])}))


_WORST_FIRST = (
    StopCode.NO_CLEAN,
    StopCode.DIVERGED_FROM_PREVIOUS,
    StopCode.DIVERGED_FROM_MINIMUM,
    StopCode.NO_CHANGE,
    StopCode.ITERATIONS,
    StopCode.MAJOR_CYCLES,
    StopCode.THRESHOLD,
)


@dataclass(frozen=True, slots=True, eq=False)
class CyclePlan:
    """The control values of one set of minor cycles, fixed at its start; arrays of shape (nchan,).

    ``active`` marks the channels that place at least one component; the others keep model and residual, and need
    neither a minor nor a major cycle.
    """

    cycle_threshold_jy: NDArray[np.float64]
    max_iterations: NDArray[np.int64]
    active: NDArray[np.bool_]


def begin(control: Control, nchan: int) -> ControlState:
    """The state before anything is measured."""
    ngroup = 1 if control.mode == "global" else nchan
    unknown = np.full(ngroup, NOT_YET)
    return ControlState(
        control.mode, 0, np.zeros(ngroup, np.int64), np.zeros(ngroup, np.uint8), unknown, unknown, unknown, 0.0, 0, 0, 0.0, ()
    )


_FOUND_IN_THE_RESIDUAL = (StopCode.NO_CHANGE, StopCode.DIVERGED_FROM_PREVIOUS, StopCode.DIVERGED_FROM_MINIMUM)


def reopen(state: ControlState) -> ControlState:
    """The state with which a resumed run goes on, whose limits or mask may be others.

    Groups that a limit or an empty mask stopped run again, and have no previous peaks: theirs are those of the residual that
    is looked at next, from which it must not be said to have changed. Where nothing else changed, :func:`check` gives them
    the codes that they had.
    """
    limited = ~np.isin(state.stop_code, (StopCode.RUNNING, *_FOUND_IN_THE_RESIDUAL))
    return replace(
        state,
        stop_code=np.where(limited, np.uint8(StopCode.RUNNING), state.stop_code),
        peak_jy=np.where(limited, NOT_YET, state.peak_jy),
        image_peak_jy=np.where(limited, NOT_YET, state.image_peak_jy),
    )


def _largest(mode: Mode, values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Largest value per group among the chosen channels; 0 where none is."""
    kept = np.where(where & ~np.isnan(values), values, 0.0)
    return kept if mode == "plane" else np.array([kept.max(initial=0.0)])


def _any(mode: Mode, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return where if mode == "plane" else np.array([where.any()])


def _group_total(mode: Mode, values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values.astype(np.int64) if mode == "plane" else np.array([values.sum()], dtype=np.int64)


def check(control: Control, state: ControlState, measured: Measured) -> ControlState:
    """Decide which groups stop on these residuals, and remember the peaks; call once per residual.

    Order as in tclean: empty mask; niter, which reaching the threshold overrides; no change; divergence from the
    previous and from the smallest peak; nmajor. Groups that have stopped stay so. The row of the convergence table is
    added here.
    """
    peak = _largest(control.mode, measured.peak_jy, measured.cleanable)
    image_peak = _largest(control.mode, measured.image_peak_jy, measured.valid)
    code = _stop_codes(control, state, peak, image_peak, _any(control.mode, measured.cleanable))
    minimum = state.minimum_image_peak_jy
    minimum = np.where(minimum < 0.0, image_peak, np.minimum(minimum, image_peak))
    checked = replace(
        state,
        stop_code=code,
        peak_jy=peak,
        image_peak_jy=image_peak,
        minimum_image_peak_jy=minimum,
    )
    row = CycleReport(
        cycle=state.cycle,
        cycle_threshold_jy=state.cycle_threshold_jy,
        channels_cleaned=state.channels_cleaned,
        iterations=state.cycle_iterations,
        total_iterations=state.iterdone,
        peak_residual_jy=float(peak.max(initial=0.0)),
        model_flux_jy=state.model_flux_jy,
        stop=STOP_TEXT[checked.overall_stop_code],
    )
    return replace(checked, history=(*state.history, row))


def _stop_codes(
    control: Control,
    state: ControlState,
    peak: NDArray[np.float64],
    image_peak: NDArray[np.float64],
    cleanable: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    iterations, previous, previous_image = state.iterations, state.peak_jy, state.image_peak_jy
    minimum = state.minimum_image_peak_jy
    begun = (iterations > 0) & (previous >= 0.0)
    limit = control.threshold_jy
    conditions = [
        state.stop_code != StopCode.RUNNING,
        np.full(peak.shape, control.niter == 0),
        ~cleanable,
        (peak <= limit) | (peak - limit < THRESHOLD_TOLERANCE * limit),
        iterations >= control.niter,
        begun & (np.abs(previous - peak) < NO_CHANGE_JY),
        begun & (np.abs(image_peak - previous_image) > RISE_LIMIT * previous_image),
        begun & (image_peak - minimum > RISE_LIMIT * minimum),
        np.full(peak.shape, 0 <= control.nmajor <= state.cycle),
    ]
    codes = (
        StopCode.NO_CLEAN,
        StopCode.EMPTY_MASK,
        StopCode.THRESHOLD,
        StopCode.ITERATIONS,
        StopCode.NO_CHANGE,
        StopCode.DIVERGED_FROM_PREVIOUS,
        StopCode.DIVERGED_FROM_MINIMUM,
        StopCode.MAJOR_CYCLES,
    )
    return np.select(conditions, [state.stop_code, *map(np.uint8, codes)], default=np.uint8(StopCode.RUNNING))


def plan_cycle(control: Control, state: ControlState, measured: Measured) -> CyclePlan:
    """Threshold and iteration limit of each channel for the next set of minor cycles.

    cyclethreshold = max(threshold, peak * clip(sidelobe * cyclefactor, minpsffraction, maxpsffraction)), with the
    largest peak in the mask and the largest sidelobe level of the group's valid channels.
    """
    nchan = measured.valid.size
    peak = _largest(control.mode, measured.peak_jy, measured.cleanable)
    # In place: in mode "plane" one array as long as the cube instead of four, on every rank.
    fraction = _largest(control.mode, measured.sidelobe, measured.valid)
    fraction *= control.cyclefactor
    np.clip(fraction, control.minpsffraction, control.maxpsffraction, out=fraction)
    group_jy = np.multiply(fraction, peak, out=fraction)
    threshold = np.broadcast_to(np.maximum(group_jy, control.threshold_jy, out=group_jy), nchan)
    remaining = np.maximum(control.niter - state.iterations, 0)
    per_cycle = control.cycleniter if control.cycleniter > 0 else control.niter
    limit = np.broadcast_to(np.minimum(remaining, per_cycle), nchan)
    running = np.broadcast_to(state.stop_code == StopCode.RUNNING, nchan)
    active = measured.cleanable & running & (limit > 0) & (measured.peak_jy > threshold)
    return CyclePlan(threshold.copy(), np.where(active, limit, 0), active)


def record_cycle(
    control: Control,
    state: ControlState,
    plan: CyclePlan,
    iterations: NDArray[np.int64],
    model_flux_jy: NDArray[np.float64],
) -> ControlState:
    """Count a set of minor cycles: ``iterations`` done and ``model_flux_jy`` (the whole model's), both (nchan,).
    Fluxes are added in channel order."""
    done = _group_total(control.mode, np.where(plan.active, iterations, 0))
    return replace(
        state,
        cycle=state.cycle + 1,
        iterations=state.iterations + done,
        cycle_threshold_jy=float(np.max(plan.cycle_threshold_jy, where=plan.active, initial=0.0)),
        channels_cleaned=int(plan.active.sum()),
        cycle_iterations=int(done.sum()),
        model_flux_jy=float(np.cumsum(model_flux_jy)[-1]),
    )
