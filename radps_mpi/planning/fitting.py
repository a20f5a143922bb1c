"""From measured runs to the constants of a machine: least squares, without negative constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from radps_mpi.planning import model
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.work import Work


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run and what it took.

    ``seconds`` of its parts on the wall, ``span_seconds`` of the timeline's spans by name, summed over ranks.
    """

    work: Work
    layout: model.Layout
    seconds: Mapping[str, float]
    span_seconds: Mapping[str, float]
    peak_memory_bytes: int
    processor: str = ""
    """As :attr:`radps_mpi.planning.machine_constants.Machine.processor`."""


def quickest(runs: Sequence[MeasuredRun]) -> MeasuredRun:
    """Repeats of one run as one: of each part and span the least, since other load only adds."""

    def least(of: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: min(one.get(name, 0.0) for one in of) for name in of[0]}

    return replace(
        runs[0], seconds=least([r.seconds for r in runs]), span_seconds=least([r.span_seconds for r in runs])
    )


_PRIOR = 0.2
"""Weight of the proportions that constants had before, beside runs whose relative errors have weight 1."""

Coefficients = Callable[[Work, Machine], Sequence[float]]


@dataclass(frozen=True, slots=True)
class _Fit:
    """Constants whose sum, with coefficients from the work, is the time of some spans of the timeline."""

    constants: tuple[str, ...]
    spans: tuple[str, ...]
    coefficients: Coefficients


def _transforms(w: Work, _: Machine) -> list[float]:
    along_v = w.padded_v * (w.plane_u // 2 + 1) * math.log2(w.padded_v)
    along_u = w.padded_u * (w.ny // 2) * math.log2(w.padded_u)
    times = 2 * w.blocks + 2 * w.cycles * w.line_blocks
    return [1e-9 * times * w.planes_per_block * (along_v + along_u) * w.real_bytes / 4]


def _visibilities(w: Work) -> float:
    return w.blocks * w.rows * w.passes_per_block * w.lanes


def _reading(w: Work, _: Machine) -> list[float]:
    native = w.native_channels if w.continuum else w.native_per_block
    return [1e-9 * (w.blocks * w.rows * native * w.polarisations + _visibilities(w))]


def _density(w: Work, _: Machine) -> list[float]:
    pixels = float(w.groups * w.pixels * w.planes_per_block * w.blocks)
    return [1e-9 * _visibilities(w), 1e-9 * pixels] if w.density else [0.0, 0.0]


def _gridding(w: Work, _: Machine) -> list[float]:
    taps = _visibilities(w) * w.support * (w.support + 4)
    return [(1 + model.PSF_SHARE) * 1e-9 * taps, 2e-9 * w.blocks * w.grids_touched * w.grid_bytes / (2 * w.real_bytes)]


def _minor(w: Work, _: Machine) -> list[float]:
    planes = float(w.cycles * w.line_channels * w.pixels)
    return [1e-9 * planes, 1e-6 * w.iterations * model.iteration_growth(w.mask_pixels, w.pixels)]


_FITS = (
    _Fit(("ingest_ns_per_sample",), ("read rows", "turn rows to channels, write"),
         lambda w, _: [1e-9 * w.samples * w.from_measurement_sets]),
    _Fit(("read_ns_per_sample",), ("read",), _reading),
    _Fit(("density_ns_per_visibility", "density_ns_per_pixel"), ("weight density",), _density),
    _Fit(("weight_ns_per_visibility",), ("weight",), lambda w, _: [1e-9 * _visibilities(w)]),
    _Fit(("grid_ns_per_tap", "clear_ns_per_cell"), ("grid",), _gridding),
    _Fit(("transform_ns_per_point",), ("transform", "transform model"), _transforms),
    _Fit(("psf_ns_per_pixel", "psf_fixed_ms"), ("fit beams, write planes",),
         lambda w, _: [1e-9 * w.channels * w.pixels, 1e-3 * w.channels]),
    _Fit(("minor_ns_per_pixel", "minor_us_per_iteration"), ("minor cycle",), _minor),
    _Fit(("residual_ns_per_pixel",), ("read models", "write planes"),
         lambda w, _: [1e-9 * w.cycles * w.line_blocks * w.planes_per_block * w.pixels]),
    _Fit(("product_ns_per_pixel", "product_fixed_ms"), ("restore and write products",),
         lambda w, _: [1e-9 * w.channels * w.pixels * w.product_planes, 1e-3 * w.channels]),
)  # fmt: skip


def fit_machine(machine: Machine, runs: Sequence[MeasuredRun]) -> Machine:
    """``machine`` with the constants of computing that explain the spans of ``runs``; those that no run tells of stay."""
    cubes = [run for run in runs if not run.work.continuum]
    for fit in _FITS:
        changes: dict[str, Any] = _solve(fit, machine, cubes)
        machine = replace(machine, **changes)
    machine = _fit_commits(_fit_degridding(machine, cubes), runs)
    planes = [run for run in runs if run.work.continuum]
    return replace(machine, plane_per_lane=_per_lane(machine, planes[0])) if planes else machine


def _solve(fit: _Fit, machine: Machine, runs: Sequence[MeasuredRun]) -> dict[str, Any]:
    from scipy.optimize import nnls  # 300 modules, which a resumed run that plans has no use for

    rows = np.array([fit.coefficients(run.work, machine) for run in runs])
    times = np.array([sum(run.span_seconds.get(name, 0.0) for name in fit.spans) for run in runs])
    told = rows.any(axis=0) & (times.sum() > 0.0)
    if not told.any():
        return {}
    with np.errstate(divide="ignore"):
        weight = np.where(times > 0.0, 1.0 / times, 0.0)  # relative errors count
    before = np.array([getattr(machine, name) for name in fit.constants])[told]
    scaled = rows[:, told] * before * weight[:, None]
    # what the runs can't tell apart keeps the proportions that it had
    common = float(np.median(1.0 / scaled.sum(axis=1)[times > 0.0]))
    prior = _PRIOR * np.eye(len(before))
    found, _ = nnls(np.vstack([scaled, prior]), np.concatenate([times * weight, np.full(len(before), _PRIOR * common)]))
    found = found * before
    return dict(zip(np.array(fit.constants)[told].tolist(), found.tolist(), strict=True))


def _fit_degridding(machine: Machine, runs: Sequence[MeasuredRun]) -> Machine:
    """Degridding, from the span that holds it and gridding."""
    cleaned = [run for run in runs if run.work.cycles and run.work.line_blocks]
    if not cleaned:
        return machine
    taps = sum(_taps(run.work) for run in cleaned)
    spent = sum(run.span_seconds.get("predict, subtract, grid", 0.0) for run in cleaned)
    degrid = max(0.0, 1e9 * (spent - sum(_cleared_s(machine, run.work) for run in cleaned)) / taps - machine.grid_ns_per_tap)
    return replace(machine, degrid_ns_per_tap=degrid)


def _fit_commits(machine: Machine, runs: Sequence[MeasuredRun]) -> Machine:
    """What a commit takes besides its channels; the flush of planes before it is charged to the disk. The runs are so short
    that they have one behind the first images, three in each cycle and one at the end, on all ranks."""
    spent = sum(run.span_seconds.get("exchange records, replace manifest", 0.0) / run.layout.ranks for run in runs)
    commits = [2 + 3 * run.work.cycles for run in runs]
    records_s = sum(1e-6 * machine.commit_us_per_channel * n * run.work.channels for n, run in zip(commits, runs, strict=True))
    return replace(machine, commit_fixed_s=max(0.0, spent - records_s) / sum(commits)) if spent > 0.0 else machine


def _taps(w: Work) -> float:
    return w.cycles * w.line_blocks * w.rows * w.passes * w.lanes * w.support * (w.support + 4)


def _cleared_s(machine: Machine, w: Work) -> float:
    grids = w.cycles * w.line_blocks * w.grids_touched
    return 1e-9 * machine.clear_ns_per_cell * grids * w.grid_bytes / (2 * w.real_bytes)


def _per_lane(machine: Machine, run: MeasuredRun) -> float:
    if machine.grid_ns_per_tap <= 0.0:  # gridding so little took no time that could be told from the rest
        return machine.plane_per_lane
    taps, cells = _gridding(run.work, machine)
    return max(1.0, (run.span_seconds.get("grid", 0.0) - cells * machine.clear_ns_per_cell) / (taps * machine.grid_ns_per_tap))


def fit_fixed(machine: Machine, from_store: MeasuredRun, from_set: MeasuredRun) -> Machine:
    """Fixed seconds of the parts and the memory of an idle rank: what jobs with next to no data take, from a visibility store
    and from a MeasurementSet, beyond what they compute."""
    names = {
        model.STARTING: "start_s", model.LAYOUT: "layout_fixed_s", model.FIRST: "first_fixed_s", model.MINOR: "minor_fixed_s",
        model.MAJOR: "major_fixed_s", model.PRODUCTS: "products_fixed_s",
    }
    nothing: dict[str, Any] = dict.fromkeys([*names.values(), "layout_after_ingest_s"], 0.0)
    bare = replace(machine, **nothing)
    predicted = model.predict(from_store.work, bare, from_store.layout)
    changes: dict[str, Any] = {
        constant: max(0.0, from_store.seconds.get(part, 0.0) - predicted.part(part).seconds) for part, constant in names.items()
    }
    data_bytes = predicted.memory.peak_bytes - bare.base_memory_bytes
    laid_out = model.predict(from_set.work, bare, from_set.layout).part(model.LAYOUT)
    layout_s = from_set.seconds.get(model.LAYOUT, 0.0) - laid_out.seconds
    return replace(
        machine, **changes, layout_after_ingest_s=max(0.0, layout_s),
        survey_fixed_s=max(0.0, from_set.seconds[model.STARTING] - from_store.seconds[model.STARTING]),
        ingest_fixed_s=from_set.seconds[model.INGEST],
        base_memory_bytes=from_store.peak_memory_bytes - data_bytes,
        ingest_memory_bytes=float(max(0, from_set.peak_memory_bytes - from_store.peak_memory_bytes)),
    )


def fit_rows(machine: Machine, run: MeasuredRun) -> Machine:
    """What a row costs in ingest, from what a job from a MeasurementSet took for it beyond the machine's other constants."""
    bare = replace(machine, ingest_us_per_row=0.0)
    left_s = run.seconds[model.INGEST] - model.predict(run.work, bare, run.layout).part(model.INGEST).seconds
    return replace(machine, ingest_us_per_row=max(0.0, 1e6 * left_s / run.work.rows))
