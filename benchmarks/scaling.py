"""What the two scaling benchmarks share: one job on several numbers of ranks, what it took, and how far from ideal that is."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Row, parser, repeats_of, require
from programs import Finished, Observation, add_launcher, hashes, radps, simulate

from radps_mpi.planning import machine

ITERATIONS_PER_CHANNEL = 200


def arguments_of(description: str | None) -> argparse.Namespace:
    """The command line; ranks default to powers of two up to the cores."""
    p = parser(description)
    add_launcher(p)
    cores = len(machine.cores_allowed())
    powers = [1 << k for k in range(cores.bit_length()) if 1 << k <= cores]
    p.add_argument("--ranks", type=int, nargs="+", default=powers, help="numbers of ranks, ascending")
    return p.parse_args()


def observation_of(scale: str, nchan: int) -> tuple[Observation, int]:
    """(observation of so many channels, pixels of an axis)."""
    return (Observation(nchan, 8, 6), 64) if scale == "toy" else (Observation(nchan), 256 if scale == "small" else 512)


def measure(arguments: argparse.Namespace, ranks: int, nchan: int) -> tuple[Row, dict[str, str]]:
    """A CLEANed cube of ``nchan`` channels from a visibility store: medians, and the hashes of its products."""
    observation, size = observation_of(arguments.scale, nchan)
    store, _ = simulate(arguments.launcher, arguments.output / "data", observation)
    name = arguments.output / "scaling" / "cube"
    name.parent.mkdir(parents=True, exist_ok=True)
    job = ["image", store, "--imagename", name, "--imsize", size, "--cell", "0.15arcsec", "--weighting", "briggs",
           "--niter", ITERATIONS_PER_CHANNEL * nchan, "--pblimit", -0.2, "--overwrite"]  # fmt: skip
    if arguments.scale != "toy":
        radps(arguments.launcher, ranks, job)  # compiles, fills the page cache
    runs = [radps(arguments.launcher, ranks, job) for _ in range(repeats_of(arguments))]
    row: Row = {
        "ranks": ranks, "channels": nchan, "wall": statistics.median(run.timing.wall_s for run in runs),
        "compute": statistics.median(compute_seconds(run) for run in runs),
        "largest rank GB": max(run.peak_gb for run in runs),
    }  # fmt: skip
    return row, hashes(Path(name))


def compute_seconds(run: Finished) -> float:
    """From the start of the first PSFs to the end of the last cycle; without start-up, ingest and products."""
    began, ended = run.seconds_of("making PSFs"), run.seconds_of("radps: cycle ")
    require(bool(began and ended), "the log names no phases")
    return ended[-1] - began[0]


def with_efficiency(rows: Sequence[Row], *, fixed_cube: bool) -> list[Row]:
    """Adds T_ideal, from the first row, and E = T_ideal / measured, of the whole job and of the compute phases."""
    first = rows[0]
    done = []
    for row in rows:
        speed_up = row["ranks"] / first["ranks"] if fixed_cube else 1.0
        ideal = {key: first[key] / speed_up for key in ("wall", "compute")}
        extra = {"wall ideal": ideal["wall"], "wall E": ideal["wall"] / row["wall"]}
        extra |= {"compute ideal": ideal["compute"], "compute E": ideal["compute"] / row["compute"]}
        done.append({**row, **extra})
    return done


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Seconds against ranks, with what is ideal."""
    ranks = [row["ranks"] for row in rows]
    for key, colour in (("wall", "tab:blue"), ("compute", "tab:orange")):
        axes.plot(ranks, [row[key] for row in rows], "o-", color=colour, label=key)
        axes.plot(ranks, [row[f"{key} ideal"] for row in rows], "--", color=colour, label=f"{key}, ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("ranks")
    axes.set_ylabel("seconds")
    axes.legend(fontsize="small")
