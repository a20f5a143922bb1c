"""A plan as text for people, as JSON for programs, as a plot of its scaling."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.errors import StorageError, UsageError
from radps_mpi.journey.plan import Plan
from radps_mpi.planning.model import MAJOR, MINOR, Layout, Prediction
from radps_mpi.planning.resources import human_bytes
from radps_mpi.units import format_duration, format_frequency


def plan_lines(plan: Plan, machine_source: str) -> list[str]:
    """The whole plan. ``machine_source`` says where the machine's constants come from."""
    lines = [*subject(plan), *_machine(plan, machine_source), "", *_best(plan), "", *_curve(plan)]
    if plan.strong:
        lines += ["", *_scaling(plan), "", *_variants(plan)]
    return [*lines, *(["", *plan.notes] if plan.notes else [])]


def subject(plan: Plan) -> list[str]:
    """What is to be imaged: data, image, work, disk."""
    w, low, high = plan.work, *plan.channels_hz
    cell = [c / ARCSEC_RAD for c in plan.config.image.cell_rad]
    proposed = f" (proposed: {', '.join(plan.proposed)})" if plan.proposed else ""
    axis = f"{w.channels} channels from {format_frequency(low)} to {format_frequency(high)}" if w.channels > 1 else "1 channel"
    return [
        f"data: {w.rows} rows x {w.native_channels} channels x {w.polarisations} correlations; "
        f"{plan.visibilities_per_channel:.6g} visibilities per channel",
        f"image: {w.nx} x {w.ny} pixels of {cell[0]:.4g} x {cell[1]:.4g} arcsec{proposed}; {axis}",
        f"work: {w.blocks} blocks of up to {w.block_channels} channels x {w.groups} row groups; uv plane {w.padded_u} x "
        f"{w.padded_v}, support {w.support}",
        f"clean: {_clean(plan)}",
        f"disk: {human_bytes(w.store_bytes)} for the visibility store{'' if w.from_measurement_sets else ' (there)'}, "
        f"{human_bytes(w.state_bytes)} for the state, {human_bytes(w.product_bytes)} for products",
    ]


def _clean(plan: Plan) -> str:
    w = plan.work
    if not w.cycles:
        return "no, the dirty image (niter 0)"
    return f"{w.iterations} iterations in {w.line_channels} channels, {w.mask_pixels} pixels each; {w.cycles} major cycles"


def _machine(plan: Plan, source: str) -> list[str]:
    m = plan.machine
    lines = [f"machine: {source}; {m.cores_per_node} cores and {human_bytes(m.memory_per_node_bytes)} per node"]
    if plan.learned_from:
        factors = ", ".join(f"{name} x {value:.2f}" for name, value in plan.corrections.seconds.items()) or "no times"
        runs = ", ".join(dict.fromkeys(plan.learned_from))
        lines.append(f"learned from {len(plan.learned_from)} runs in {runs}: {factors}, memory x {plan.corrections.memory:.2f}")
    return lines


def _best(plan: Plan) -> list[str]:
    best, w = plan.best, plan.work
    memory = best.memory
    largest = max(memory.parts_bytes, key=lambda name: memory.parts_bytes[name])
    lines = [
        f"best: {spread(best.layout)}: {format_duration(best.seconds)}, {best.core_hours:.3g} core-hours, "
        f"{human_bytes(memory.peak_bytes)} per rank (most in {largest})",
    ]
    if w.cycles:
        cycle = (best.part(MINOR).seconds + best.part(MAJOR).seconds) / w.cycles
        lines.append(f"time per cycle: {_seconds(cycle)}")
    return [*lines, *_parts("part", best)]


def _parts(head: str, prediction: Prediction) -> list[str]:
    rows = [[head, "time", "held up by"]]
    rows += [[p.name, _seconds(p.seconds), p.limit] for p in prediction.parts if p.seconds > 0.0]
    return table([*rows, ["in all", _seconds(prediction.seconds), ""]])


def spread(layout: Layout) -> str:
    """'16 ranks x 1 thread on 1 node'."""
    threads = f" x {layout.threads} thread{'s' * (layout.threads > 1)}"
    return f"{layout.ranks} rank{'s' * (layout.ranks > 1)}{threads} on {layout.nodes} node{'s' * (layout.nodes > 1)}"


def _curve(plan: Plan) -> list[str]:
    rows = [["nodes", "ranks", "threads", "time", "core-hours", "memory per rank", "efficiency"]]
    rows += [
        [str(p.layout.nodes), str(p.layout.ranks), str(p.layout.threads), _seconds(p.seconds), f"{p.core_hours:.3g}",
         human_bytes(p.memory.peak_bytes), f"{100 * p.efficiency:.0f} %"] for p in plan.curve
    ]  # fmt: skip
    return table(rows)


def _scaling(plan: Plan) -> list[str]:
    rows = [["ranks", "strong", "speed-up", "efficiency", "most is lost in", "to", "weak", "channels"]]
    first = plan.strong[0]
    for strong, weak in zip(plan.strong, plan.weak, strict=True):
        ranks = strong.layout.ranks
        speed_up = first.seconds / strong.seconds
        rows.append([
            str(ranks), _seconds(strong.seconds), f"{speed_up:.4g}", f"{100 * speed_up / ranks:.0f} %", strong.worst.name,
            strong.worst.limit, _seconds(weak.seconds),
            str(max(1, plan.work.channels * ranks // plan.strong[-1].layout.ranks)),
        ])  # fmt: skip
    last = plan.strong[-1]
    return [*table(rows), "", *_parts(f"on {last.layout.ranks} ranks", last)]


def _variants(plan: Plan) -> list[str]:
    as_it_is = plan.variants[0].prediction
    names = [p.name for p in as_it_is.parts if p.seconds > 0.05 * as_it_is.seconds]
    rows = [[f"on {as_it_is.layout.ranks} ranks", "time", "gain", "memory per rank", *names]]
    for variant in plan.variants:
        p = variant.prediction
        parts = [_seconds(p.part(name).seconds) for name in names]
        rows.append([variant.name, _seconds(p.seconds), f"{as_it_is.seconds / p.seconds:.2f}",
                     human_bytes(p.memory.peak_bytes), *parts])  # fmt: skip
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns under a head: numbers to the right, words to the left, as the first row under it has them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [not cell[:1].isdigit() for cell in rows[1]]
    return [
        "  ".join(f"{cell:<{w}}" if side else f"{cell:>{w}}" for cell, w, side in zip(row, widths, left, strict=True)).rstrip()
        for row in rows
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100.0 else format_duration(value)


# For programs --------------------------------------------------------------------------------------------------------


def plan_json(plan: Plan, machine_source: str) -> str:
    """The plan as JSON: seconds, bytes, radians, Hz."""
    return json.dumps({
        "proposed": plan.proposed, "cell_rad": plan.config.image.cell_rad, "imsize": plan.config.image.imsize,
        "visibilities_per_channel": plan.visibilities_per_channel, "work": plan.work.to_dict(),
        "machine": {"source": machine_source, **asdict(plan.machine)}, "learned_from": list(plan.learned_from),
        "corrections": asdict(plan.corrections), "best": _plain(plan.best), "curve": [_plain(p) for p in plan.curve],
        "strong_scaling": [_plain(p) for p in plan.strong], "weak_scaling": [_plain(p) for p in plan.weak],
        "variants": {v.name: _plain(v.prediction) for v in plan.variants}, "notes": list(plan.notes),
    }, indent=1)  # fmt: skip


def _plain(p: Prediction) -> dict[str, Any]:
    return {
        **asdict(p.layout), "seconds": p.seconds, "core_hours": p.core_hours, "efficiency": p.efficiency,
        "memory_per_rank_bytes": p.memory.peak_bytes, "memory_parts_bytes": p.memory.parts_bytes,
        "parts": [asdict(part) for part in p.parts],
    }


# Plot ----------------------------------------------------------------------------------------------------------------


def plot_scaling(plan: Plan, path: Path) -> None:
    """Strong scaling by part, and weak scaling, against ranks. StorageError if the file can't be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    strong, weak = figure.subplots(1, 2)
    ranks = [p.layout.ranks for p in plan.strong]
    strong.plot(ranks, [p.seconds for p in plan.strong], "k-", linewidth=2, label="in all")
    strong.plot(ranks, [plan.strong[0].seconds / n for n in ranks], "k:", label="ideal")
    for part in plan.strong[0].parts:
        if any(p.part(part.name).seconds > 0.0 for p in plan.strong):
            strong.plot(ranks, [p.part(part.name).seconds for p in plan.strong], label=part.name)
    for variant in plan.variants[1:]:
        strong.plot(ranks[-1:], [variant.prediction.seconds], "x", label=variant.name)
    weak.plot(ranks, [p.seconds for p in plan.weak], "k-", linewidth=2, label="in all")
    for part in plan.weak[0].parts:
        if any(p.part(part.name).seconds > 0.0 for p in plan.weak):
            weak.plot(ranks, [p.part(part.name).seconds for p in plan.weak], label=part.name)
    weak.axhline(plan.weak[0].seconds, color="k", linestyle=":", label="ideal")
    w = plan.work
    strong.set_title(f"strong: {w.channels} channels of {w.nx} x {w.ny}, {w.rows} rows", fontsize="small")
    weak.set_title(f"weak: {math.ceil(w.channels / ranks[-1])} channels per rank", fontsize="small")
    for axes in (strong, weak):
        axes.set(xscale="log", yscale="log", xlabel="ranks, one per core", ylabel="seconds (predicted)")
        axes.legend(fontsize="x-small", framealpha=0.5)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error} while drawing the plan") from error
    except ValueError as error:  # a suffix that is no format of images
        raise UsageError(f"--plot: {path}: {error}") from None
