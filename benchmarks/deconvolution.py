"""Minor cycles: iterations per second, by the share of the pixels that the mask leaves.

    python benchmarks/deconvolution.py [--scale toy|small|full] [--casa-python PYTHON]

One thread, in turn, pair by pair. Hogbom's always against plain Hogbom compiled by numba, the algorithm of CASA's hclean:
search the box of the mask, subtract the whole PSF, once per component; results must be equal bit for bit. Clark's always
against our Hogbom; models must have the same flux within 5 %. With --casa-python both also against the CASA task deconvolve, in
time on the wall: the difference between a long and a short run, so that its start and its files don't count; ours counts as a
whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numba
import numpy as np
from common import Comparison, Row, Timing, alternate, draw_ratios, finish, parser, provenance, repeats_of, require, timed
from numpy.typing import NDArray
from programs import add_casa, casa

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.imaging.clark import PATCH_BEAMS, SMALLEST_BEAM, clark
from radps_mpi.imaging.minor_cycle import MinorCycleResult, hogbom

GAIN = {"hogbom": 0.1, "clark": 0.03}
"""Clark's lists are used up after a thousand components of 0.1 where the mask is small."""

PATCH = 2 * (PATCH_BEAMS * SMALLEST_BEAM + 1,)
"""Pixels of the PSF of :func:`planes`, whose main lobe is 4 of them wide."""

MICROSECOND = 1e-6
Plane = NDArray[np.float32]


@numba.njit(nogil=True)
def plain_hogbom(residual: Plane, psf: Plane, mask: NDArray[np.uint8], gain: float, iterations: int, model: Plane) -> None:
    """Plain Hogbom; changes ``residual`` and ``model``."""
    ny, nx = residual.shape
    cy, cx = ny // 2, nx // 2
    rows = [y for y in range(ny) if mask[y].any()]
    columns = [x for x in range(nx) if mask[:, x].any()]
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    for _ in range(iterations):
        best, py, px = np.float32(-1.0), 0, 0
        for y in range(y0, y1):
            for x in range(x0, x1):
                if mask[y, x] != 0 and abs(residual[y, x]) > best:
                    best, py, px = abs(residual[y, x]), y, x
        flux = np.float32(gain) * residual[py, px]
        model[py, px] += flux
        for y in range(max(0, py - cy), min(ny, py + cy)):
            for x in range(max(0, px - cx), min(nx, px + cx)):
                residual[y, x] -= flux * psf[cy + y - py, cx + x - px]


def planes(size: int) -> tuple[Plane, Plane]:
    """(PSF, dirty image) of some hundred uv samples, points and noise."""
    rng = np.random.default_rng(3)
    sampling = np.zeros((size, size // 2 + 1), np.float32)
    v, u = np.rint(rng.normal(0.0, size / 10, (2, 40 * size))).astype(int)
    inside = (abs(v) < size // 2) & (abs(u) < size // 2)
    np.add.at(sampling, (v[inside] % size, abs(u[inside])), 1.0)
    psf = np.fft.irfft2(sampling, (size, size))
    sky = rng.normal(0.0, 0.01, (size, size))
    sky[tuple(rng.integers(size // 4, size * 3 // 4, (2, 40)))] += rng.uniform(0.2, 1.0, 40)
    dirty = np.fft.irfft2(np.fft.rfft2(sky) * sampling, (size, size)) / psf[0, 0]
    return np.fft.fftshift(psf / psf[0, 0]).astype(np.float32), dirty.astype(np.float32)


def disc(size: int, percent: float, islands: int) -> NDArray[np.uint8]:
    """A mask of about ``percent`` of the pixels about the centre; a square once a disc would not fit. Of several ``islands``:
    that many discs on a circle."""
    y, x = np.indices((size, size)) - size // 2
    if percent > 75:
        half = size * (percent / 100) ** 0.5 / 2
        return ((abs(y + 0.5) < half) & (abs(x + 0.5) < half)).astype(np.uint8)
    mask, away = np.zeros((size, size), np.uint8), size / 3 if islands > 1 else 0.0
    for angle in 2 * np.pi * np.arange(islands) / islands:
        distance = (y - away * np.sin(angle)) ** 2 + (x - away * np.cos(angle)) ** 2
        mask |= distance <= size**2 * percent / 100 / np.pi / islands
    return mask


@dataclass(frozen=True)
class Problem:
    """What is cleaned: a plane of ``size`` pixels in each axis, with a mask of ``percent`` of them in so many ``islands``, so
    many iterations."""

    size: int
    percent: float
    iterations: int
    islands: int = 1

    def planes(self) -> tuple[Plane, Plane, NDArray[np.uint8]]:
        """(PSF, dirty image, mask)."""
        return *planes(self.size), disc(self.size, self.percent, self.islands)

    def ours(self, deconvolver: str, gain: float) -> Callable[[], tuple[Plane, MinorCycleResult]]:
        """One of our minor cycles on it."""
        psf, dirty, mask = self.planes()
        zeros = np.zeros_like(dirty)
        if deconvolver == "hogbom":
            return lambda: hogbom(
                dirty, psf, mask, gain=gain, cycle_threshold_jy=0.0, max_iterations=self.iterations, model_in=zeros
            )
        return lambda: clark(
            dirty, psf, mask, patch=PATCH, gain=gain, cycle_threshold_jy=0.0, max_iterations=self.iterations, model_in=zeros
        )

    def row(self, deconvolver: str, against: str, iterations: int, compared: Comparison, kinds: tuple[str, ...]) -> Row:
        """``compared`` is per iteration."""
        columns = compared.columns(MICROSECOND, kinds)
        rates = {f"{who} 1/s": 1.0 / (MICROSECOND * columns[f"{who} wall"]) for who in ("ours", "theirs")}
        head: Row = {"deconvolver": deconvolver, "against": against, "pixels": self.size, "mask %": self.percent}
        head |= {"islands": self.islands}
        return head | {"gain": GAIN[deconvolver], "iterations": iterations} | rates | columns


def per_iteration(work: Callable[[], object], iterations: int) -> Callable[[], Timing]:
    """``work`` as a contestant."""

    def once() -> Timing:
        spent = timed(work)
        return Timing(spent.cpu_s / iterations, spent.wall_s / iterations)

    return once


def measure_hogbom(problem: Problem, repeats: int) -> Row:
    """Ours and the plain twin; both must put the same components at the same places."""
    (psf, dirty, mask), gain, iterations = problem.planes(), GAIN["hogbom"], problem.iterations
    ours = problem.ours("hogbom", gain)

    def theirs() -> Plane:
        model = np.zeros_like(dirty)
        plain_hogbom(dirty.copy(), psf, mask, gain, iterations, model)
        return model

    model, result = ours()
    require(result.iterations == iterations, f"mask {problem.percent} %: {result.iterations} of {iterations} iterations")
    require(np.array_equal(model, theirs()), f"mask {problem.percent} %: the model is not plain Hogbom's")
    compared = alternate(per_iteration(ours, iterations), per_iteration(theirs, iterations), repeats)
    return problem.row("hogbom", "plain numba", iterations, compared, ("wall", "cpu"))


def measure_clark(problem: Problem, repeats: int) -> Row:
    """Clark's, as far as its lists go, and our Hogbom with as many iterations."""
    gain = GAIN["clark"]
    ours = problem.ours("clark", gain)
    model, result = ours()
    done = result.iterations
    theirs = replace(problem, iterations=done).ours("hogbom", gain)
    require_same_flux(problem, "Hogbom's", float(theirs()[0].sum()), float(model.sum()), 0.05)
    compared = alternate(per_iteration(ours, done), per_iteration(theirs, done), repeats)
    return problem.row("clark", "our hogbom", done, compared, ("wall", "cpu"))


def measure_casa(python: str, folder: Path, deconvolver: str, problem: Problem, repeats: int) -> Row:
    """The CASA task deconvolve on the same plane, a process for each pair."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    psf, dirty, mask = problem.planes()
    for name, plane in (("psf", psf), ("residual", dirty), ("mask", mask.astype(np.float32))):
        _write_fits(folder / f"{name}.fits", plane)
    ours = problem.ours(deconvolver, GAIN[deconvolver])
    model, result = ours()
    contestant = per_iteration(ours, result.iterations)
    pairs = [(contestant(), casa_once(python, folder / f"pair{k}", deconvolver, problem)) for k in range(repeats)]
    require_same_flux(problem, "CASA's", flux_jy(folder / "pair0" / "model.fits"), float(model.sum()), 0.02)
    row = problem.row(deconvolver, "CASA deconvolve", result.iterations, Comparison(pairs), ("wall",))
    return row | ({"target": 8.0} if deconvolver == "hogbom" else {})


def casa_once(python: str, folder: Path, deconvolver: str, problem: Problem) -> Timing:
    """CASA's wall time per iteration, from a run of all iterations and one of a tenth; NaN where those are noise (a toy's), or
    the same because Clark's lists are used up in both."""
    requests = []
    for run in ("short", "long"):
        for name in ("psf", "residual", "mask"):
            files = {"fitsimage": f"../{name}.fits", "imagename": f"{run}.{name}"}
            requests.append({"task": "importfits", "arguments": files})
    for run, iterations in (("short", max(1, problem.iterations // 10)), ("long", problem.iterations)):
        arguments = {
            "imagename": run, "deconvolver": deconvolver, "gain": GAIN[deconvolver], "threshold": "0Jy", "restoration": False,
            "usemask": "user", "niter": iterations,
        }  # fmt: skip
        requests.append({"task": "deconvolve", "arguments": arguments})
    export = {"task": "exportfits", "arguments": {"imagename": "long.model", "fitsimage": "model.fits"}}
    short, long, _ = casa(python, folder, [*requests, export]).tasks[-3:]
    seconds, iterations = (long[key] - short[key] for key in ("seconds", "iterations"))
    return Timing(wall_s=seconds / iterations if seconds > 0 and iterations > 0 else float("nan"))


def _write_fits(path: Path, plane: Plane) -> None:
    from astropy.io import fits

    header = fits.Header()
    cell_deg = np.degrees(0.15 * ARCSEC_RAD)
    sky = (("RA---SIN", 150.0, -cell_deg, "deg"), ("DEC--SIN", -30.0, cell_deg, "deg"))
    axes = (*sky, ("STOKES", 1.0, 1.0, ""), ("FREQ", 2.3e11, 1e6, "Hz"))
    for number, (kind, value, step, unit) in enumerate(axes, 1):
        pixel = plane.shape[0] // 2 + 1 if number < 3 else 1
        for key, entry in (("CTYPE", kind), ("CRVAL", value), ("CDELT", step), ("CRPIX", pixel), ("CUNIT", unit)):
            header[f"{key}{number}"] = entry
    header.update(BUNIT="Jy/beam", BMAJ=6 * cell_deg, BMIN=6 * cell_deg, BPA=0.0)
    header.update(SPECSYS="LSRK", RESTFRQ=2.3e11, RADESYS="FK5", EQUINOX=2000.0)
    fits.writeto(path, plane[None, None], header, overwrite=True)


def flux_jy(path: Path) -> float:
    """Of a model."""
    from astropy.io import fits

    return float(np.sum(fits.getdata(path)))


def require_same_flux(problem: Problem, whose: str, theirs_jy: float, ours_jy: float, within: float) -> None:
    """Models of two algorithms, or of CASA, which adds one component that it does not count."""
    near = abs(theirs_jy - ours_jy) < within * abs(ours_jy)
    require(near, f"mask {problem.percent} %: {whose} model has {theirs_jy:g} Jy, ours {ours_jy:g} Jy")


def main() -> None:
    p = parser(__doc__)
    add_casa(p)
    arguments = p.parse_args()
    repeats = repeats_of(arguments)
    size, iterations = {"toy": (64, 200), "small": (512, 2000), "full": (512, 20_000)}[arguments.scale]
    problems = [Problem(size, percent, iterations) for percent in (1, 10, 30, 100)] + [Problem(size, 1, iterations, islands=8)]
    rows = [measure(problem, repeats) for measure in (measure_hogbom, measure_clark) for problem in problems]
    about = provenance()
    if python := arguments.casa_python:
        folder = (arguments.output / "casa-deconvolve").resolve()
        rows += [measure_casa(python, folder, name, problem, repeats) for name in GAIN for problem in problems]
        about = provenance() | {"programs": {"casatasks": casa(python, folder, []).version}}
    print("wall and processor time in microseconds per iteration; x is theirs / ours, pair by pair")
    label = "{deconvolver}, {against}, mask {mask %} %, islands {islands}"
    finish("deconvolution", arguments, rows, draw_ratios(lambda row: label.format(**row), "wall"), about)


if __name__ == "__main__":
    main()
