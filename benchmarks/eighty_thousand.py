"""A cube of 80,000 channels on two ranks, killed in the middle and gone on with on three.

    python benchmarks/eighty_thousand.py [--scale toy|small|full] [--launcher "srun --mpi=pmix -n {ranks}"]

128 x 128 pixels, 3,000 visibilities per channel, simulated as a MeasurementSet, ingested, imaged and CLEANed, only the image
kept. The memory of the largest rank is compared with that of 800 channels, and planes of the cube with those of
runs on a few blocks to which nothing happens: they must have the same bits. Finished runs say what their largest rank took; of
the killed one it is the first rank's. The first rank must run on this machine, or it can't be killed.
"""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, finish, parser, require
from numpy.typing import NDArray
from programs import Finished, add_launcher, radps, radps_killed

RANKS, RANKS_AFTER = 2, 3
BLOCK = 16
"""Channels that are computed together: runs on parts of the cube must begin where a block does."""

MEMORY = "40MB"
"""A quarter of it may hold visibilities between cycles: so little that both cubes fill it."""

FEWER = 800
"""Channels of the cube whose memory is compared."""

SKY = """
[[component]]
offset = ["2arcsec", "-1arcsec"]
flux = "1Jy"
line = {peak = "0.5Jy", velocity = "-1500km/s", fwhm = "300km/s"}

[[component]]
offset = ["-3arcsec", "2arcsec"]
flux = "0.3Jy"
"""


@dataclass(frozen=True)
class Size:
    """What is observed and imaged."""

    nchan: int
    npix: int
    nantenna: int
    nintegration: int

    @property
    def nrow(self) -> int:
        """Rows, and visibilities per channel: there is one correlation."""
        return self.nantenna * (self.nantenna - 1) // 2 * self.nintegration

    def disk_bytes(self) -> int:
        """MeasurementSet (with flags and room for its tables) and store, four planes of state per channel, the image."""
        vis, planes = self.nchan * self.nrow, self.nchan * self.npix**2
        return vis * (8 + 1 + 1) + vis * 8 + planes * 4 * 5 + (64 << 20)


SIZES = {"toy": Size(96, 32, 8, 6), "small": Size(8_000, 128, 25, 10), "full": Size(80_000, 128, 25, 10)}


def main() -> None:
    p = parser(__doc__, repeats=False)
    add_launcher(p)
    arguments = p.parse_args()
    size, folder = SIZES[arguments.scale], arguments.output / "eighty_thousand"
    look_for_room(size, arguments.output)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        rows = measure(arguments, size, folder)
    finally:
        shutil.rmtree(folder)
    finish("eighty_thousand", arguments, rows, draw)


def look_for_room(size: Size, folder: Path) -> None:
    """SystemExit where the disk is too small."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = size.disk_bytes(), shutil.disk_usage(folder).free
    print(f"{size.nchan} channels x {size.nrow} rows, {size.npix} x {size.npix} pixels: {needed / 1e9:.1f} GB of disk needed, "
          f"{free / 1e9:.1f} GB free in {folder}", flush=True)  # fmt: skip
    if needed > free:
        raise SystemExit(f"{folder}: not enough room")


def measure(arguments: argparse.Namespace, size: Size, folder: Path) -> list[Row]:
    """One row per job."""
    launcher, store, cube = arguments.launcher, folder / "sim.vis.h5", folder / "cube"
    compile_kernels(launcher, folder / "compiling", size)
    rows = [row("simulate", 1, simulate(launcher, folder, size.nchan, size))]
    rows.append(row("ingest", RANKS, radps(launcher, RANKS, ["ingest", folder / "sim.ms", "-o", store])))
    shutil.rmtree(folder / "sim.ms")

    job = ["image", store, "--imagename", cube, *parameters(size)]
    killed = radps_killed(launcher, RANKS, job, "radps: cycle 1", Path(f"{cube}.radps"))
    rows.append(row(f"image, killed after cycle 1 of {size.nchan} channels", RANKS, killed))
    resumed = radps(launcher, RANKS_AFTER, ["resume", cube], Path(f"{cube}.radps"))
    rows.append(row("resume", RANKS_AFTER, resumed))
    both = Finished(killed.timing + resumed.timing, max(killed.peak_gb, resumed.peak_gb), [])
    rows.append(row("imaging, both jobs", RANKS, both))

    for first in (0, size.nchan // 2 // BLOCK * BLOCK):
        part = folder / f"part{first}"
        job = ["image", store, "--imagename", part, "--start", first, "--nchan", 2 * BLOCK, *parameters(size)]
        rows.append(row(f"{2 * BLOCK} channels from {first}", 1, radps(launcher, 1, job, Path(f"{part}.radps"))))
        same = np.array_equal(planes(cube, first, size), planes(part, 0, size))
        require(same, f"channels {first} to {first + 2 * BLOCK - 1} differ from those of a run to which nothing happened")

    fewer = min(FEWER, size.nchan // 3 // BLOCK * BLOCK)
    simulate(launcher, folder / "fewer", fewer, size)
    job = ["image", folder / "fewer" / "sim.vis.h5", "--imagename", folder / "fewer" / "cube", *parameters(size)]
    smaller = radps(launcher, RANKS, job, folder / "fewer" / "cube.radps")
    rows.append(row(f"image, {fewer} channels", RANKS, smaller) | {"memory x": both.peak_gb / smaller.peak_gb})
    return rows


def compile_kernels(launcher: str, folder: Path, size: Size) -> None:
    """Whatever the runs need: compiling takes a rank twice its memory."""
    simulate(launcher, folder, 2 * BLOCK, size)
    radps(launcher, 1, ["image", folder / "sim.vis.h5", "--imagename", folder / "cube", *parameters(size)])
    shutil.rmtree(folder)


def simulate(launcher: str, folder: Path, nchan: int, size: Size) -> Finished:
    """A MeasurementSet of so many channels; for fewer than all of them a store, which is all that is imaged then."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sky.toml").write_text(SKY, encoding="utf-8")
    output = ["--ms", folder / "sim.ms"] if nchan == size.nchan else ["-o", folder / "sim.vis.h5"]
    return radps(launcher, 1, [
        "simulate", folder / "sky.toml", *output, "--nchan", nchan, "--nantenna", size.nantenna, "--nintegration",
        size.nintegration, "--npol", 1, "--width", "30.517578125kHz", "--restfreq", "230.538GHz", "--noise", "50mJy",
    ])  # fmt: skip


def parameters(size: Size) -> list[Any]:
    """Each channel by itself, so that parts of the cube have its bits; in the frame of the data, in which channels are the
    native ones."""
    return ["--imsize", size.npix, "--cell", "0.1arcsec", "--weighting", "briggs", "--outframe", "TOPO", "--control", "plane",
            "--niter", 500, "--cycleniter", 100, "--threshold", "6mJy", "--nmajor", 3, "--products", "image",
            "--memory-per-rank", MEMORY]  # fmt: skip


def row(job: str, ranks: int, finished: Finished) -> Row:
    """Memory only of those that say it."""
    memory = {} if math.isnan(finished.peak_gb) else {"largest rank GB": finished.peak_gb}
    return {"job": job, "ranks": ranks, "wall": finished.timing.wall_s, "cpu": finished.timing.cpu_s, **memory}


def planes(imagename: Path, first: int, size: Size) -> NDArray[np.uint8]:
    """Bytes of 2 * BLOCK planes of the image."""
    from astropy.io import fits

    with fits.open(f"{imagename}.image.fits", memmap=True) as file:
        cube = file[0].data.reshape(-1, size.npix, size.npix)
        return np.ascontiguousarray(cube[first : first + 2 * BLOCK]).view(np.uint8)


def draw(axes: Any, rows: list[Row]) -> None:
    """Wall time of each job."""
    axes.barh([r["job"] for r in rows], [r["wall"] for r in rows], color="tab:blue")
    axes.invert_yaxis()
    axes.set_xlabel("seconds")


if __name__ == "__main__":
    main()
