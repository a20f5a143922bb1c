"""What all benchmarks share: the machine they ran on, timing two contestants in turn, tables, JSON and plots."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radps_mpi.planning import machine

REPOSITORY = Path(__file__).resolve().parents[1]
SCALES = ("toy", "small", "full")

LOAD_BEFORE = os.getloadavg()
"""When the benchmark was started: what others do on the machine, without what is simulated and measured."""

Row = dict[str, Any]


# Timing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of processor time (all threads, all processes of a job) and of a clock on the wall."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)

    def __sub__(self, other: Timing) -> Timing:
        return Timing(self.cpu_s - other.cpu_s, self.wall_s - other.wall_s)


Contestant = Callable[[], Timing]
"""Does its work once and says what that took."""


def timed(work: Callable[[], Any]) -> Timing:
    """What ``work`` takes in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Timing(time.process_time() - cpu, time.perf_counter() - wall)


@dataclass(frozen=True)
class Comparison:
    """Pairs of (ours, theirs), measured one right after the other."""

    pairs: list[tuple[Timing, Timing]]

    def columns(self, unit_s: float = 1.0, kinds: Sequence[str] = ("cpu", "wall")) -> Row:
        """Medians in units of ``unit_s`` seconds; theirs / ours, pair by pair: how many times faster ours is. ``kinds`` leaves
        out a time that one of the two doesn't tell."""
        row: Row = {}
        for kind in kinds:
            ours = [getattr(a, f"{kind}_s") for a, _ in self.pairs]
            theirs = [getattr(b, f"{kind}_s") for _, b in self.pairs]
            ratios = [b / a if a > 0 else float("nan") for a, b in zip(ours, theirs, strict=True)]
            row[f"ours {kind}"] = statistics.median(ours) / unit_s
            row[f"theirs {kind}"] = statistics.median(theirs) / unit_s
            row |= {f"{kind} x min": min(ratios), f"{kind} x": statistics.median(ratios), f"{kind} x max": max(ratios)}
        return row


def alternate(ours: Contestant, theirs: Contestant, repeats: int, *, warm_up: bool = True) -> Comparison:
    """Ours, theirs, ours, theirs, ...: a busy moment of the machine meets both. The warm-up compiles and fills caches."""
    if warm_up:
        ours()
        theirs()
    gc.collect()
    return Comparison([(ours(), theirs()) for _ in range(repeats)])


# What it ran on ------------------------------------------------------------------------------------------------------


def provenance() -> Row:
    """Machine, commit and versions; ``load_before`` at the start of the benchmark, ``load`` now, with its own."""
    installed, available = machine.memory_of_host_bytes()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": machine.cpu_model(),
        "features": list(machine.cpu_features()),
        "cores": len(machine.cores_allowed()),
        "memory_gb": round(installed / 1e9, 1),
        "memory_available_gb": round(available / 1e9, 1),
        "load_before": [round(value, 2) for value in LOAD_BEFORE],
        "load": [round(value, 2) for value in os.getloadavg()],
        "system": platform.platform(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": machine.package_versions((*machine.PACKAGES, "ducc0")),
    }


def _commit() -> str:
    git = ["git", "-C", str(REPOSITORY)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with changes" if changed.strip() else "")


# Command line and results --------------------------------------------------------------------------------------------


def parser(description: str | None, *, repeats: bool = True) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark; without ``repeats`` for those that do each job once."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--scale", choices=SCALES, default="small", help="toy: seconds, for correctness; full: the targets' sizes")
    if repeats:
        p.add_argument("--repeats", type=int, default=0, help="measured pairs; 0 follows from the scale")
    p.add_argument("--output", type=Path, default=REPOSITORY / "runs" / "benchmarks", help="folder of JSON, plots, data")
    return p


def repeats_of(arguments: argparse.Namespace) -> int:
    """How often to measure."""
    return arguments.repeats or {"toy": 1, "small": 3, "full": 7}[arguments.scale]


def require(condition: bool, what: str) -> None:
    """A figure of a wrong result is worth nothing: SystemExit, with exit status 1."""
    if not condition:
        raise SystemExit(f"wrong result: {what}")


def table(rows: Sequence[Row]) -> str:
    """Aligned text; columns in the order in which rows bring them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [isinstance(rows[0].get(name, ""), str) for name in names]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" if left else f"{cell:>{w}}" for cell, w, left in zip(line, widths, text, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def finish(
    name: str, arguments: argparse.Namespace, rows: Sequence[Row], draw: Callable[[Any, Sequence[Row]], None],
    about: Row | None = None,
) -> None:  # fmt: skip
    """Print the table; write ``<name>-<scale>.json`` and ``.png``. ``draw`` fills matplotlib axes; ``about`` is what the rows
    were measured on where that isn't this process's machine."""
    about = about or provenance()
    machine_text = f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, load {about['load_before'][0]} before, "
    machine_text += f"{about['load'][0]} after"
    print(f"{machine_text}, commit {about['commit'][:12]}\n{table(rows)}")
    stem = f"{name}-{arguments.scale}"
    arguments.output.mkdir(parents=True, exist_ok=True)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    result = {"benchmark": name, "options": options, "provenance": about, "rows": list(rows)}
    (arguments.output / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _plot(arguments.output / f"{stem}.png", f"{name}, {arguments.scale}: {about['cpu']}", rows, draw)
    print(f"\n{arguments.output / stem}.json, .png")


def _plot(path: Path, title: str, rows: Sequence[Row], draw: Callable[[Any, Sequence[Row]], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.35 * max(8, len(rows))), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, rows)
    axes.set_title(title, fontsize="small")
    figure.savefig(path, dpi=120)


def draw_ratios(label: Callable[[Row], str], kind: str = "cpu") -> Callable[[Any, Sequence[Row]], None]:
    """Bars of theirs / ours, with whiskers from the lowest to the highest pair; a "target" column becomes a mark."""

    def draw(axes: Any, rows: Sequence[Row]) -> None:
        shown = [row for row in rows if f"{kind} x" in row]
        low, middle, high = ([row[f"{kind} x{which}"] for row in shown] for which in (" min", "", " max"))
        spread = [[m - a for a, m in zip(low, middle, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        axes.barh([label(row) for row in shown], middle, xerr=spread, color="tab:blue", capsize=2)
        aimed = [(row["target"], i) for i, row in enumerate(shown) if isinstance(row.get("target"), (int, float))]
        if aimed:
            axes.plot([t for t, _ in aimed], [i for _, i in aimed], "k|", markersize=14, label="target")
            axes.legend(fontsize="small")
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.invert_yaxis()
        axes.set_xlabel(f"times faster, {kind} time")

    return draw
