"""What the two scaling benchmarks share: one job on several numbers of ranks, what it took, and how far from ideal that is."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from common import Row, finish, parser, repeats_of, require
from programs import Finished, Observation, add_launcher, radps, simulate

from radps_mpi.planning import machine

ITERATIONS_PER_CHANNEL = 200


@dataclass(frozen=True)
class Cube:
    """What a number of ranks images: ``nchan`` channels, of which the first ``shared`` are the same on all numbers of ranks.
    ``options`` are those of ``radps image`` for axis and iterations."""

    nchan: int
    shared: int
    options: tuple[object, ...]


@dataclass(frozen=True)
class Results:
    """A row for each number of ranks, ascending; what they were measured on, None for this machine; files that are missing."""

    rows: list[Row]
    about: Row | None = None
    missing: tuple[str, ...] = ()


def arguments_of(description: str | None, channels: str) -> argparse.Namespace:
    """The command line; ranks default to powers of two up to the cores. ``channels`` is what --channels counts."""
    p = parser(description)
    add_launcher(p)
    cores = len(machine.cores_allowed())
    powers = [1 << k for k in range(cores.bit_length()) if 1 << k <= cores]
    p.add_argument("--ranks", type=int, nargs="+", default=powers, help="numbers of ranks, ascending")
    p.add_argument("--channels", type=int, default=0, help=f"channels {channels}")
    p.add_argument("--data", type=Path, help="folder of simulated data [default: data in that of --output]")
    p.add_argument("--collect", nargs="+", metavar="FILE", help="put JSON files of earlier runs together, measure nothing")
    return p.parse_args()


def observation_of(scale: str, nchan: int) -> tuple[Observation, int]:
    """(observation of so many channels, pixels of an axis)."""
    return (Observation(nchan, 8, 6), 64) if scale == "toy" else (Observation(nchan), 256 if scale == "small" else 512)


def results(name: str, arguments: argparse.Namespace, cube_of: Callable[[int], Cube]) -> Results:
    """Measured now, or collected; ``cube_of`` gives the cube for a number of ranks."""
    if arguments.collect:
        return collect(name, arguments.scale, arguments.collect)
    return Results([measure(arguments, ranks, cube_of(ranks)) for ranks in arguments.ranks])


def collect(name: str, scale: str, files: Sequence[str]) -> Results:
    """The rows of several JSON files of one benchmark. SystemExit if none is there, or if they can't be compared: times of
    other processors or another commit are not one curve."""
    there = [path for path in files if Path(path).exists()]
    parts = [json.loads(Path(path).read_text(encoding="utf-8")) for path in there]
    require(bool(parts), f"none of {len(files)} results is there, such as {files[0]}")
    for path, part in zip(there, parts, strict=True):
        kind = part["benchmark"], part["options"]["scale"]
        require(kind == (name, scale), f"{path} is of {' '.join(kind)}, not of {name} {scale}")
        for key in ("cpu", "commit"):
            theirs, first = part["provenance"][key], parts[0]["provenance"][key]
            require(theirs == first, f"{path} was measured with {key} {theirs}, {there[0]} with {first}")
    rows = sorted((row for part in parts for row in part["rows"]), key=lambda row: row["ranks"])
    missing = tuple(path for path in files if path not in there)
    return Results(rows, {**parts[0]["provenance"], "parts": [part["provenance"] for part in parts]}, missing)


def measure(arguments: argparse.Namespace, ranks: int, cube: Cube) -> Row:
    """A CLEANed cube from a visibility store: medians, and a hash of its products, which are removed."""
    observation, size = observation_of(arguments.scale, cube.nchan)
    data = arguments.data or arguments.output / "data"
    store, _ = simulate(arguments.launcher, data, observation, ranks=ranks)
    name = arguments.output / "scaling" / "cube"
    name.parent.mkdir(parents=True, exist_ok=True)
    job = ["image", store, "--imagename", name, "--imsize", size, "--cell", "0.15arcsec", "--weighting", "briggs",
           *cube.options, "--pblimit", -0.2, "--overwrite"]  # fmt: skip
    if arguments.scale != "toy":
        radps(arguments.launcher, ranks, job)  # compiles, fills the page cache
    runs = [radps(arguments.launcher, ranks, job, Path(f"{name}.radps")) for _ in range(repeats_of(arguments))]
    row: Row = {
        "ranks": ranks, "channels": cube.nchan, "iterations": runs[-1].iterations,
        "wall": statistics.median(run.timing.wall_s for run in runs),
        "compute": statistics.median(compute_seconds(run) for run in runs),
        "largest rank GB": max(run.peak_gb for run in runs), "bits": bits_of(name, cube.shared),
    }  # fmt: skip
    shutil.rmtree(name.parent)
    return row


def bits_of(imagename: Path, nchan: int) -> str:
    """Hash of the first ``nchan`` planes of all products."""
    from astropy.io import fits

    paths = sorted(imagename.parent.glob(f"{imagename.name}.*.fits"))
    require(imagename.with_name(f"{imagename.name}.image.fits") in paths, f"{imagename}: there is no image")
    digest = xxhash.xxh3_128()
    for path in paths:
        digest.update(path.name.encode())
        with fits.open(path, memmap=True) as file:
            for plane in file[0].data[0, :nchan]:
                digest.update(np.ascontiguousarray(plane).view(np.uint8))
    return digest.hexdigest()[:12]


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


def report(name: str, arguments: argparse.Namespace, found: Results, *, fixed_cube: bool) -> None:
    """Table, JSON and plot, of results with the same bits. SystemExit with status 1 if some are missing, behind those that are
    there."""
    first = found.rows[0]
    for row in found.rows:
        require(row["bits"] == first["bits"], f"products of {row['ranks']} ranks differ from those of {first['ranks']}")
    finish(name, arguments, with_efficiency(found.rows, fixed_cube=fixed_cube), draw, found.about)
    if found.missing:
        raise SystemExit(f"not measured: {', '.join(found.missing)}")


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
