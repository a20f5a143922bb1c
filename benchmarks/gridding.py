"""Gridding, degridding and whole residual passes against ducc0, one thread each, on the same visibilities.

    python benchmarks/gridding.py [--scale toy|small|full] [--large] [--epsilon 1e-4]

ducc0's vis2dirty and dirty2vis are called once per channel, do_wgridding=False, nthreads=1. It does not tell what its
gridding takes without the transform: "gridding" and "degridding" estimate that as the whole call's time minus the time
of the same call with 8 rows (grid allocation, FFT and correction). Ours are the kernels' calls alone. A "residual pass"
is all of model FFT, degridding, subtraction, gridding and FFT. Times are per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ducc0
import numpy as np
from common import Contestant, Row, Timing, alternate, draw_ratios, finish, parser, repeats_of, require, timed
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityPass
from radps_mpi.decomposition import block_width
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.io.ingest_slab import sorting_order

CELL_RAD = 0.15 * ARCSEC_RAD
FREQ_HZ = 230.538e9
NARROW, WIDE = 1e-6, 1e-3
FEW_ROWS = 8

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A name for the table, pixels of an axis, channels and their relative spacing."""

    name: str
    size: int
    nchan: int
    step: float
    nrow: int
    targets: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gridding, degridding, residual pass."""


def cases_of(scale: str, large: bool) -> list[Case]:
    """What is measured at a scale."""
    sizes, nchan, nrow = {
        "toy": ([64], 16, 500), "small": ([512], 16, 50_000), "full": ([512, 1024], 64, 50_000),
    }[scale]  # fmt: skip
    cases = [Case("narrow", size, nchan, NARROW, nrow, (4.0, 4.0, 4.0)) for size in sizes]
    for size in sizes:
        cases.append(Case("wide", size, nchan, WIDE, nrow))
        cases += [Case(name, size, few, NARROW, nrow) for name, few in (("few", 4), ("single", 1))]
    if large:
        cases += [Case("large", 8192, 4, NARROW, nrow), Case("large single", 8192, 1, NARROW, nrow)]
    return cases


class Data:
    """Visibilities and a model, as each contestant likes to have them. Rows in the order of a visibility store."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(1)
        self.case = case
        self.geometry = ImageGeometry(case.size, case.size, CELL_RAD, CELL_RAD, 0.0, 0.0)
        uvw_m = _spiral_array_uvw_m(case.nrow, rng)
        self.uvw_m = np.ascontiguousarray(uvw_m[sorting_order(uvw_m)])
        self.freq_hz = FREQ_HZ * (1.0 + case.step * np.arange(case.nchan))
        self.reach = float(np.hypot(uvw_m[:, 0], uvw_m[:, 1]).max() * self.freq_hz.max() / SPEED_OF_LIGHT_M_S)
        self.vis = rng.standard_normal((case.nchan, case.nrow, 2), np.float32)
        self.weight = rng.uniform(0.5, 2.0, (case.nchan, case.nrow)).astype(np.float32)
        self.model = np.zeros((case.nchan, case.size, case.size), np.float32)
        for y, x in rng.integers(case.size // 8, case.size * 7 // 8, (50, 2)):
            self.model[:, y, x] += rng.uniform(0.1, 1.0)


def _spiral_array_uvw_m(nrow: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Half an hour to several hours of 43 antennas, dense in the middle, 500 m across: ellipses' arcs in the uv plane."""
    antennas = 43
    radius, angle = 250.0 * 0.06 ** rng.uniform(0, 1, antennas), rng.uniform(0, 2 * np.pi, antennas)
    east, north = radius * np.cos(angle), radius * np.sin(angle)
    one, two = np.triu_indices(antennas, 1)
    hour = np.linspace(-0.5, 0.5, -(-nrow // len(one)))[:, None]
    de, dn = east[two] - east[one], north[two] - north[one]
    u = de * np.cos(hour) + 0.39 * dn * np.sin(hour)
    v = 0.5 * de * np.sin(hour) + 0.99 * dn * np.cos(hour)
    return np.stack([u.ravel(), v.ravel(), np.zeros(u.size)], axis=1)[:nrow]


class Ours:
    """radps_mpi's gridder, the block's channels as the program would cut them."""

    name = "radps_mpi"

    def __init__(self, data: Data, epsilon: float) -> None:
        case = data.case
        self.data, self.nlane = data, block_width(case.size, case.size, case.nchan)
        self.gridder = Gridder(data.geometry, nlane=self.nlane, epsilon=epsilon, rows=case.nrow, reach=data.reach)
        self.blocks = [slice(first, first + self.nlane) for first in range(0, case.nchan, self.nlane)]
        ones = np.ones(case.nrow)
        self.passes = [
            VisibilityPass(
                np.ascontiguousarray(data.vis[block].transpose(1, 2, 0)), np.ascontiguousarray(data.weight[block].T),
                data.freq_hz[block], ones,
            )
            for block in self.blocks
        ]  # fmt: skip
        self.predicted = np.empty((case.nrow, 2, self.nlane), np.float32)

    @property
    def kernel(self) -> str:
        """What the table calls it."""
        return f"{'lanes' if self.nlane > 1 else 'plane'} {self.nlane}, support {self.gridder.window.support}"

    def gridding(self) -> Timing:
        total = Timing()
        for p in self.passes:
            grid = self.gridder.new_grid()
            total += timed(lambda p=p, grid=grid: self.gridder.grid(self.data.uvw_m, p, grid))
            self.gridder.release(grid)
        return total

    def degridding(self) -> Timing:
        total = Timing()
        for p, block in zip(self.passes, self.blocks, strict=True):
            grid = self.gridder.from_model(self.data.model[block])
            total += timed(lambda p=p, grid=grid: self.gridder.degrid(grid, self.data.uvw_m, p, self.predicted))
            self.gridder.release(grid)
        return total

    def residual(self) -> Images:
        """Residual images (nchan, ny, nx), not normalised."""
        g, uvw_m, images = self.gridder, self.data.uvw_m, np.empty_like(self.data.model)
        for p, block in zip(self.passes, self.blocks, strict=True):
            grid = g.from_model(self.data.model[block])
            g.degrid(grid, uvw_m, p, self.predicted)
            g.release(grid)
            np.subtract(p.vis, self.predicted, out=self.predicted)
            grid = g.new_grid()
            g.grid(uvw_m, VisibilityPass(self.predicted, p.weight, p.freq_hz, p.row_scale), grid)
            g.to_dirty(grid, images[block])
            g.release(grid)
        return images


class Ducc:
    """ducc0, one channel per call. Its first image axis is our y, its signs are opposite to ours in v."""

    name = "ducc0"

    def __init__(self, data: Data, epsilon: float) -> None:
        self.data = data
        self.uvw = np.ascontiguousarray(data.uvw_m[:, [1, 0, 2]] * [-1.0, 1.0, 0.0])
        self.vis = [vis.copy().view(np.complex64) for vis in data.vis]
        self.freq = [np.array([f]) for f in data.freq_hz]
        self.weight = [weight[:, None].copy() for weight in data.weight]
        self.options = {
            "pixsize_x": CELL_RAD, "pixsize_y": CELL_RAD, "epsilon": epsilon, "do_wgridding": False, "divide_by_n": False,
            "nthreads": 1,
        }  # fmt: skip

    def dirty(self, chan: int, vis: NDArray[np.complex64], nrow: int) -> Images:
        size = self.data.case.size
        return ducc0.wgridder.vis2dirty(
            uvw=self.uvw[:nrow], freq=self.freq[chan], vis=vis[:nrow], wgt=self.weight[chan][:nrow],
            npix_x=size, npix_y=size, **self.options,
        )  # fmt: skip

    def predict(self, chan: int, nrow: int) -> NDArray[np.complex64]:
        return ducc0.wgridder.dirty2vis(uvw=self.uvw[:nrow], freq=self.freq[chan], dirty=self.data.model[chan], **self.options)

    def gridding(self) -> Timing:
        return self._proper(lambda chan, nrow: self.dirty(chan, self.vis[chan], nrow))

    def degridding(self) -> Timing:
        return self._proper(self.predict)

    def _proper(self, call: Callable[[int, int], object]) -> Timing:
        """All channels with all rows, less all channels with next to none."""
        channels = range(self.data.case.nchan)
        whole, rest = (timed(lambda n=n: [call(chan, n) for chan in channels]) for n in (self.data.case.nrow, FEW_ROWS))
        return whole - rest

    def residual(self) -> Images:
        nrow = self.data.case.nrow
        return np.array([self.dirty(c, self.vis[c] - self.predict(c, nrow), nrow) for c in range(self.data.case.nchan)])


def measure(case: Case, epsilon: float, repeats: int) -> list[Row]:
    """Rows of the table for one case; the residual images of the contestants must agree."""
    data = Data(case)
    ours, theirs = Ours(data, epsilon), Ducc(data, epsilon)
    a, b = ours.residual(), theirs.residual()
    difference = float(np.abs(a - b).max() / np.abs(b).max())
    require(difference < 4.0 * epsilon, f"{case.name} {case.size}: residual images differ by {difference:.2g} of the peak")
    steps: list[tuple[str, Contestant, Contestant]] = [
        ("gridding", ours.gridding, theirs.gridding),
        ("degridding", ours.degridding, theirs.degridding),
        ("residual pass", lambda: timed(ours.residual), lambda: timed(theirs.residual)),
    ]
    return [
        {"case": case.name, "pixels": case.size, "channels": case.nchan, "kernel": ours.kernel, "step": step}
        | {"target": target} | alternate(ours_once, theirs_once, repeats).columns(1e-3 * case.nchan)
        | {"difference": difference}
        for (step, ours_once, theirs_once), target in zip(steps, case.targets, strict=True)
    ]  # fmt: skip


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--epsilon", type=float, default=1e-4, help="accuracy asked of both")
    p.add_argument("--large", action="store_true", help="8192 x 8192 pixels too (several GB)")
    arguments = p.parse_args()
    rows = []
    for case in cases_of(arguments.scale, arguments.large):
        rows += measure(case, arguments.epsilon, repeats_of(arguments))
    print("times in ms per channel; x is theirs / ours, pair by pair; theirs is ducc0")
    finish("gridding", arguments, rows, draw_ratios(lambda row: f"{row['case']} {row['pixels']}: {row['step']}"))


if __name__ == "__main__":
    main()
