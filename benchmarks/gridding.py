"""Gridding, degridding and whole residual passes against ducc0, one thread each, on the same visibilities.

    python benchmarks/gridding.py [--scale toy|small|full] [--large] [--epsilon 1e-4]

ducc0's vis2dirty and dirty2vis are called once per channel, do_wgridding=False, nthreads=1. Times are per channel.

"gridding" and "degridding" are the steps without transform and correction. Ours are the kernels' calls. ducc0's are what its
own timers call "gridding proper" and "degridding proper" (printed with verbosity=1; they tell time on the wall alone). It also
sorts the visibilities by tiles in every call ("building index"); our store has its rows in such an order. Columns with
"indexed" count that as ducc0's, too.

A "residual pass" is what a major cycle does to a block, all of it by the program's own functions: model to grid, degridding,
subtraction, gridding, to images, division by the sum of weights. Blocks have as many channels as the program gives them; where
a cube ends within a block, the other lanes hold no data.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import ducc0
import numpy as np
from common import Comparison, Row, Timing, alternate, draw_ratios, finish, parser, repeats_of, require, timed
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityBlock, VisibilityPass
from radps_mpi.decomposition import ChannelBlocks, block_width
from radps_mpi.imaging import fftw
from radps_mpi.imaging.fourier import ALIGNMENT
from radps_mpi.imaging.gridding import Gridder, cells_apart
from radps_mpi.imaging.preparation import PreparedPiece
from radps_mpi.imaging.residual import grid_residual, normal_images
from radps_mpi.io.ingest_slab import sorting_order

CELL_RAD = 0.15 * ARCSEC_RAD
FREQ_HZ = 230.538e9
NARROW, WIDE = 1e-6, 1e-3

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
        cases += [Case(f"wide {few}", size, few, WIDE, nrow) for few in (8, 12)]
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
        self.longest_m = float(np.hypot(uvw_m[:, 0], uvw_m[:, 1]).max())
        self.vis = rng.standard_normal((case.nchan, case.nrow, 2), np.float32)
        self.weight = rng.uniform(0.5, 2.0, (case.nchan, case.nrow)).astype(np.float32)
        self.sum_of_weights = self.weight.sum(axis=1, dtype=np.float64)
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
    """radps_mpi's gridder and its blocks, prepared as the program prepares them."""

    def __init__(self, data: Data, epsilon: float) -> None:
        case = data.case
        apart = cells_apart(data.geometry, case.step * FREQ_HZ, data.longest_m)
        self.data, self.nlane = data, block_width(case.size, case.size, case.nchan, case.nrow, apart)
        top_hz = data.freq_hz.max() + self.nlane * case.step * FREQ_HZ
        reach = data.longest_m * top_hz / SPEED_OF_LIGHT_M_S  # as Description.reach
        self.gridder = Gridder(data.geometry, nlane=self.nlane, epsilon=epsilon, rows=case.nrow, reach=reach)
        self.blocks = [slice(block.start, block.stop) for block in ChannelBlocks(case.nchan, self.nlane)]
        self.pieces = [self._piece(block) for block in self.blocks]
        self._images = fftw.empty_aligned((self.nlane, case.size, case.size), np.float32, n=ALIGNMENT)

    def _piece(self, block: slice) -> PreparedPiece:
        """All rows of a block's channels; lanes beyond them have weight 0 and the last one's frequency."""
        case, freq_hz = self.data.case, self.data.freq_hz[block]
        vis, weight = np.zeros((case.nrow, 2, self.nlane), np.float32), np.zeros((case.nrow, self.nlane), np.float32)
        vis[..., : len(freq_hz)] = self.data.vis[block].transpose(1, 2, 0)
        weight[:, : len(freq_hz)] = self.data.weight[block].T
        freq_hz = np.pad(freq_hz, (0, self.nlane - len(freq_hz)), mode="edge")
        visibilities = VisibilityPass(vis, weight, freq_hz, np.ones(case.nrow))
        return PreparedPiece(VisibilityBlock(self.data.uvw_m, [visibilities]), np.zeros(case.nrow, np.int32), [], [], [])

    def _model(self, block: slice) -> Images:
        """A block's, with planes of 0 for lanes beyond its channels."""
        model = self.data.model[block]
        if len(model) == self.nlane:
            return model
        return np.concatenate([model, np.zeros((self.nlane - len(model), *model.shape[1:]), np.float32)])

    @property
    def kernel(self) -> str:
        """What the table calls it."""
        return f"{'lanes' if self.nlane > 1 else 'plane'} {self.nlane}, support {self.gridder.window.support}"

    def gridding(self) -> Timing:
        total = Timing()
        for piece in self.pieces:
            grid = self.gridder.new_grid()
            total += timed(lambda b=piece.block, grid=grid: self.gridder.grid(b.uvw_m, b.passes[0], grid))
            self.gridder.release(grid)
        return total

    def degridding(self) -> Timing:
        total = Timing()
        for piece, block in zip(self.pieces, self.blocks, strict=True):
            grid, predicted = self.gridder.from_model(self._model(block)), np.empty_like(piece.block.passes[0].vis)
            total += timed(lambda b=piece.block, grid=grid, out=predicted: self.gridder.degrid(grid, b.uvw_m, b.passes[0], out))
            self.gridder.release(grid)
        return total

    def residual(self, done: Callable[[Images], object] = len) -> None:
        """Residual images of each block (nchan, ny, nx), Jy/beam, for ``done`` in turn; memory is taken, given back and kept as
        by BlockImager.residual."""
        for piece, block in zip(self.pieces, self.blocks, strict=True):
            lanes = np.arange(block.stop - block.start)
            model = self.data.model[block]
            require(any(model[lane].any() for lane in lanes), "the model is empty")  # as the program looks for it
            model_grid = self.gridder.from_model(model, lanes)
            grid = grid_residual(self.gridder, [piece], model_grid)
            self.gridder.release(model_grid)
            sums = np.zeros(self.nlane)
            sums[: len(lanes)] = self.data.sum_of_weights[block]
            images = normal_images(self.gridder, grid, sums, self._images, lanes)
            self.gridder.release(grid)
            done(images[: len(lanes)])


class Ducc:
    """ducc0, one channel per call. Its first image axis is our y, its signs are opposite to ours in v."""

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
        size = data.case.size
        self._predicted, self._image = np.empty_like(self.vis[0]), np.empty((size, size), np.float32)

    def dirty(self, chan: int, vis: NDArray[np.complex64], out: Images | None = None, verbosity: int = 0) -> Images:
        size = self.data.case.size
        return ducc0.wgridder.vis2dirty(
            uvw=self.uvw, freq=self.freq[chan], vis=vis, wgt=self.weight[chan], npix_x=size, npix_y=size, dirty=out,
            verbosity=verbosity, **self.options,
        )  # fmt: skip

    def predict(
        self, chan: int, out: NDArray[np.complex64] | None = None, verbosity: int = 0
    ) -> NDArray[np.complex64]:
        return ducc0.wgridder.dirty2vis(
            uvw=self.uvw, freq=self.freq[chan], dirty=self.data.model[chan], vis=out, verbosity=verbosity, **self.options
        )

    def gridding(self) -> DuccStep:
        return self._step(lambda chan: self.dirty(chan, self.vis[chan], verbosity=1), "gridding proper")

    def degridding(self) -> DuccStep:
        return self._step(lambda chan: self.predict(chan, verbosity=1), "degridding proper")

    def _step(self, call: Callable[[int], object], name: str) -> DuccStep:
        printed = [printed_by(lambda chan=chan: call(chan)) for chan in range(self.data.case.nchan)]
        proper_s, index_s = (sum(timer_s(text, timer) for text in printed) for timer in (name, "building index"))
        return DuccStep(Timing(wall_s=proper_s), Timing(wall_s=proper_s + index_s))

    def residual(self, done: Callable[[Images], object] = len) -> None:
        """Residual images of each channel (1, ny, nx), Jy/beam, for ``done`` in turn, in memory that is kept too."""
        for chan, total in enumerate(self.data.sum_of_weights):
            self.predict(chan, out=self._predicted)
            np.subtract(self.vis[chan], self._predicted, out=self._predicted)
            self.dirty(chan, self._predicted, out=self._image)
            self._image *= np.float32(1.0 / total)
            done(self._image[None])


@dataclass(frozen=True, slots=True)
class DuccStep:
    """What all channels took, by ducc0's timers: the step alone, and with sorting the visibilities. No processor time."""

    proper: Timing
    indexed: Timing


def printed_by(call: Callable[[], object]) -> str:
    """What compiled code writes to the standard output, which Python's sys.stdout never sees."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            call()
        finally:
            libc.fflush(None)  # C++ streams share C's buffers
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        return file.read().decode()


def timer_s(printed: str, name: str) -> float:
    """Seconds of one of ducc0's timers: its share, of four digits, of the total; its own seconds have fewer."""
    total = re.search(r"Total wall clock time for \w+: ([\d.e+-]+)s", printed)
    share = re.search(rf"^\+- {name} *: *([\d.]+)%", printed, re.MULTILINE)
    if total is None or share is None:
        raise SystemExit(f"ducc0 {ducc0.__version__} doesn't print a timer '{name}' as expected:\n{printed}")
    return float(total[1]) * float(share[1]) / 100


def measure(case: Case, epsilon: float, repeats: int) -> list[Row]:
    """Rows of the table for one case; the residual images of the contestants must agree."""
    data = Data(case)
    ours, theirs = Ours(data, epsilon), Ducc(data, epsilon)
    a, b = images_of(ours), images_of(theirs)
    difference = float(np.abs(a - b).max() / np.abs(b).max())
    require(difference < 4.0 * epsilon, f"{case.name} {case.size}: residual images differ by {difference:.2g} of the peak")
    unit_s = 1e-3 * case.nchan
    residual = alternate(lambda: timed(ours.residual), lambda: timed(theirs.residual), repeats)
    steps = {
        "gridding": step_columns(ours.gridding, theirs.gridding, repeats, unit_s),
        "degridding": step_columns(ours.degridding, theirs.degridding, repeats, unit_s),
        "residual pass": residual.columns(unit_s, ("wall", "cpu")),
    }
    head = {"case": case.name, "pixels": case.size, "channels": case.nchan, "kernel": ours.kernel}
    return [
        head | {"step": step, "target": target} | columns | {"difference": difference}
        for (step, columns), target in zip(steps.items(), case.targets, strict=True)
    ]


def images_of(contestant: Ours | Ducc) -> Images:
    """All residual images (nchan, ny, nx)."""
    kept: list[Images] = []
    contestant.residual(lambda images: kept.append(images.copy()))
    return np.concatenate(kept)


def step_columns(ours: Callable[[], Timing], theirs: Callable[[], DuccStep], repeats: int, unit_s: float) -> Row:
    """Ours and ducc0's step in turn, in time on the wall; "indexed" columns count the sorting of visibilities as ducc0's."""
    ours()  # compiles
    theirs()
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    row = Comparison([(mine, step.proper) for mine, step in pairs]).columns(unit_s, ("wall",))
    indexed = Comparison([(mine, step.indexed) for mine, step in pairs]).columns(unit_s, ("wall",))
    return row | {f"indexed {key}": indexed[key] for key in ("theirs wall", "wall x")}


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--epsilon", type=float, default=1e-4, help="accuracy asked of both")
    p.add_argument("--large", action="store_true", help="8192 x 8192 pixels too (several GB)")
    arguments = p.parse_args()
    rows = []
    for case in cases_of(arguments.scale, arguments.large):
        rows += measure(case, arguments.epsilon, repeats_of(arguments))
    print("times in ms per channel; x is theirs / ours, pair by pair; theirs is ducc0, indexed with sorting its visibilities")
    label = "{case} {pixels}, {kernel}: {step}"
    finish("gridding", arguments, rows, draw_ratios(lambda row: label.format(**row), "wall"))


if __name__ == "__main__":
    main()
