"""Load balance: a cube with line in few of its channels, which go through major cycles while all others are finished.

    python benchmarks/load_balance.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

Each part of the run (dirty images, each set of minor cycles, each major cycle, products) ends when its busiest rank does; the
ideal is that all ranks are as busy as the average. ``x ideal`` is the first over the second: in processor time, from the spans
of the timeline, so that it holds for more ranks than cores too; ``wall x ideal`` in time on the wall, only where each rank has
a core. Commits, in which ranks wait for each other, are in neither. ``x of one rank`` is the busiest rank over the n-th part
of what one rank was busy for: there, work that several ranks do twice counts, and what sharing caches and cores costs. The
products must have the same bits on all numbers of ranks.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Row, finish, parser, require
from programs import add_launcher, hashes, radps

from radps_mpi.planning import machine

FLUX_JY = 1.0
OFFSETS_ARCSEC = ((3.0, -2.0), (-5.0, 4.0), (1.0, 6.0), (-2.0, -5.0))
"""Several points, so that each major cycle has something left to do."""

FIRST, MINOR, MAJOR, PRODUCTS, ALL = "dirty images", "minor cycles", "major cycles", "products", "all"
PART_OF = {"minor cycle": MINOR, "restore and write products": PRODUCTS}
"""Spans that stand for a part; other spans of blocks are dirty images before the first minor cycle, major cycles behind it."""

WAITING = ("commit",)


@dataclass(frozen=True)
class Size:
    """What is observed and imaged. The line begins within a block of 16 channels, as lines do."""

    nchan: int
    nline: int
    first_line: int
    npix: int
    nantenna: int
    nintegration: int
    noise: str


SIZES = {
    "toy": Size(48, 6, 29, 32, 8, 6, "1mJy"),
    "small": Size(480, 30, 232, 128, 43, 28, "20mJy"),
    "full": Size(480, 30, 232, 512, 43, 56, "20mJy"),
}


@dataclass(frozen=True)
class Busy:
    """Of one part of the run, in one cycle: what each rank was busy for, seconds."""

    part: str
    cycle: int
    cpu_s: list[float]
    wall_s: list[float]


def main() -> None:
    p = parser(__doc__, repeats=False)
    add_launcher(p)
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="numbers of ranks")
    arguments = p.parse_args()
    size, folder = SIZES[arguments.scale], arguments.output / "load_balance"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        rows = measure(arguments, size, folder)
    finally:
        shutil.rmtree(folder)
    finish("load_balance", arguments, rows, draw)


def measure(arguments: argparse.Namespace, size: Size, folder: Path) -> list[Row]:
    """A row for each number of ranks and part of the run, and one for all parts together."""
    simulate(arguments.launcher, folder, size)
    rows: list[Row] = []
    first: dict[str, str] = {}
    for ranks in arguments.ranks:
        cube = folder / f"cube{ranks}"
        if arguments.scale != "toy" and not first:
            radps(arguments.launcher, ranks, ["image", folder / "sim.vis.h5", "--imagename", cube, *parameters(size)])
        job = ["image", folder / "sim.vis.h5", "--imagename", cube, *parameters(size), "--timeline", "--overwrite"]
        radps(arguments.launcher, ranks, job)
        found = hashes(cube)
        first = first or found
        require(bool(found) and found == first, f"products of {ranks} ranks differ from those of {arguments.ranks[0]}")
        parts = busy_parts(json.loads(Path(f"{cube}.timeline.json").read_text(encoding="utf-8"))["traceEvents"], ranks)
        require(line_only(folder, cube, size), "channels without line were cleaned, or channels with line were not")
        rows += rows_of(parts, ranks)
    alone = {row["part"]: row["busiest"] for row in rows if row["ranks"] == 1}
    return [row | {"x of one rank": row["busiest"] * row["ranks"] / alone[row["part"]]} if alone else row for row in rows]


def simulate(launcher: str, folder: Path, size: Size) -> None:
    """Noise in all channels and points in those with line."""
    flux = [FLUX_JY if 0 <= chan - size.first_line < size.nline else 0.0 for chan in range(size.nchan)]
    sky = "".join(f'[[component]]\noffset = ["{east}arcsec", "{north}arcsec"]\nflux = {[f / (k + 1) for f in flux]}\n\n'
                  for k, (east, north) in enumerate(OFFSETS_ARCSEC))  # fmt: skip
    (folder / "sky.toml").write_text(sky, encoding="utf-8")
    radps(launcher, 1, [
        "simulate", folder / "sky.toml", "-o", folder / "sim.vis.h5", "--nchan", size.nchan, "--nantenna", size.nantenna,
        "--nintegration", size.nintegration, "--width", "30.517578125kHz", "--restfreq", "230.538GHz", "--noise", size.noise,
    ])  # fmt: skip


def parameters(size: Size) -> list[Any]:
    """CLEAN in several cycles down to a threshold that noise stays below."""
    return ["--imsize", size.npix, "--cell", "0.15arcsec", "--weighting", "briggs", "--outframe", "TOPO", "--niter", 10**6,
            "--cycleniter", 30, "--nmajor", 6, "--threshold", "30mJy", "--pblimit", -0.2]  # fmt: skip


def line_only(folder: Path, cube: Path, size: Size) -> bool:
    """Whether the model has flux in all channels with line and in no other."""
    from astropy.io import fits

    model = fits.getdata(f"{cube}.model.fits")[0]
    cleaned = [chan for chan in range(size.nchan) if model[chan].any()]
    return cleaned == list(range(size.first_line, size.first_line + size.nline))


def busy_parts(events: Sequence[dict[str, Any]], ranks: int) -> list[Busy]:
    """What each rank was busy for in each part of the run. Ranks meet between parts, so spans of two parts never overlap."""
    parts = [Busy(FIRST, 0, [0.0] * ranks, [0.0] * ranks)]
    for event in sorted(outermost(events), key=lambda event: event["ts"]):
        if event["name"] in WAITING or not event["args"]:
            continue
        last = parts[-1]
        part = PART_OF.get(event["name"], MAJOR if last.cycle else FIRST)
        if part != last.part:
            cycle = 0 if part == PRODUCTS else last.cycle + (part == MINOR)
            parts.append(Busy(part, cycle, [0.0] * ranks, [0.0] * ranks))
        parts[-1].cpu_s[event["pid"]] += 1e-6 * event["tdur"]
        parts[-1].wall_s[event["pid"]] += 1e-6 * event["dur"]
    return parts


def outermost(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Spans that lie in no other of their rank."""
    end_us: dict[int, float] = defaultdict(lambda: -1.0)
    for event in sorted((e for e in events if e["ph"] == "X"), key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] >= end_us[event["pid"]]:
            end_us[event["pid"]] = event["ts"] + event["dur"]
            yield event


def rows_of(parts: Sequence[Busy], ranks: int) -> list[Row]:
    """Busiest rank, ideal, and how far apart they are: cycle by cycle, summed."""
    kinds = {"": "cpu_s"} | ({"wall ": "wall_s"} if ranks <= len(machine.cores_allowed()) else {})
    rows = []
    for what in (FIRST, MINOR, MAJOR, PRODUCTS, ALL):
        chosen = [part for part in parts if what in (part.part, ALL)]
        row: Row = {"ranks": ranks, "part": what, "cycles": len({part.cycle for part in chosen if part.cycle})}
        for label, kind in kinds.items():
            busiest = sum(max(getattr(part, kind)) for part in chosen)
            ideal = sum(sum(getattr(part, kind)) for part in chosen) / ranks
            row |= {f"{label}busiest": busiest, f"{label}ideal": ideal, f"{label}x ideal": busiest / ideal}
        rows.append(row)
    return rows


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Busiest rank over ideal, of each part and of all."""
    axes.barh([f"{row['ranks']} ranks, {row['part']}" for row in rows], [row["x ideal"] for row in rows],
              color=["tab:orange" if row["part"] == ALL else "tab:blue" for row in rows])  # fmt: skip
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.axvline(1.15, color="black", linewidth=0.8, linestyle="--", label="target for all parts together")
    axes.tick_params(axis="y", labelsize="x-small")
    axes.legend(fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("processor time of the busiest rank / ideal")


if __name__ == "__main__":
    main()
