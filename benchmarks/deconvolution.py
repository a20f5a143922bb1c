"""Hogbom's minor cycle: iterations per second, by the share of the pixels that the mask leaves.

    python benchmarks/deconvolution.py [--scale toy|small|full] [--casa-python PYTHON]

One thread. Always against plain Hogbom compiled by numba, the algorithm of CASA's hclean: search the box of the mask, subtract
the whole PSF, once per component. Results must be equal bit for bit. With --casa-python also against the CASA task deconvolve,
timed as the difference between a long and a short run, so that its start and its files don't count.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import numba
import numpy as np
from common import Row, alternate, draw_ratios, finish, parser, repeats_of, require, timed
from numpy.typing import NDArray
from programs import add_casa, casa

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.imaging.minor_cycle import hogbom

GAIN = 0.1
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


def disc(size: int, percent: float) -> NDArray[np.uint8]:
    """A mask of about ``percent`` of the pixels about the centre; a square once a disc would not fit."""
    y, x = np.indices((size, size)) - size // 2
    if percent > 75:
        half = size * (percent / 100) ** 0.5 / 2
        return ((abs(y + 0.5) < half) & (abs(x + 0.5) < half)).astype(np.uint8)
    return (y**2 + x**2 <= size**2 * percent / 100 / np.pi).astype(np.uint8)


def measure(size: int, percent: float, iterations: int, repeats: int) -> Row:
    """Ours and the plain twin; both must put the same components at the same places."""
    psf, dirty = planes(size)
    mask, zeros = disc(size, percent), np.zeros_like(dirty)

    def ours() -> tuple[Plane, int]:
        model, result = hogbom(dirty, psf, mask, gain=GAIN, cycle_threshold_jy=0.0, max_iterations=iterations, model_in=zeros)
        return model, result.iterations

    def theirs() -> Plane:
        model = np.zeros_like(dirty)
        plain_hogbom(dirty.copy(), psf, mask, GAIN, iterations, model)
        return model

    model, done = ours()
    require(done == iterations, f"mask {percent} %: {done} of {iterations} iterations")
    require(np.array_equal(model, theirs()), f"mask {percent} %: the model is not plain Hogbom's")
    row = alternate(lambda: timed(ours), lambda: timed(theirs), repeats).columns()
    head: Row = {"against": "plain numba", "pixels": size, "mask %": percent, "iterations": iterations}
    head["flux Jy"] = float(model.sum())
    return head | {"ours 1/s": iterations / row["ours cpu"], "theirs 1/s": iterations / row["theirs cpu"]} | row


def measure_casa(python: str, folder: Path, ours: Row, repeats: int) -> Row:
    """The CASA task deconvolve on the same plane, beside the figures of ours measured before."""
    size, percent, iterations = ours["pixels"], ours["mask %"], ours["iterations"]
    psf, dirty = planes(size)
    short = max(1, iterations // 10)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    requests = []
    for name, plane in (("psf", psf), ("residual", dirty), ("mask", disc(size, percent).astype(np.float32))):
        _write_fits(folder / f"{name}.fits", plane)
        for run in range(2 * repeats):
            requests.append({"task": "importfits", "arguments": {"fitsimage": f"{name}.fits", "imagename": f"run{run}.{name}"}})
    for run in range(2 * repeats):
        arguments = {
            "imagename": f"run{run}", "deconvolver": "hogbom", "gain": GAIN, "threshold": "0Jy", "restoration": False,
            "usemask": "user", "niter": iterations if run % 2 else short,
        }  # fmt: skip
        requests.append({"task": "deconvolve", "arguments": arguments})
    export = {"task": "exportfits", "arguments": {"imagename": "run1.model", "fitsimage": "model.fits"}}
    done = casa(python, folder, [*requests, export])[1][-2 * repeats - 1 : -1]
    spent = [long_run["seconds"] - short_run["seconds"] for short_run, long_run in zip(done[::2], done[1::2], strict=True)]
    rates = [(iterations - short) / seconds if seconds > 0 else float("nan") for seconds in spent]  # a toy's are noise
    _require_same_flux(folder / "model.fits", ours["flux Jy"], percent)
    ratios = [ours["ours 1/s"] / rate for rate in rates]
    head: Row = {"against": "CASA deconvolve", "pixels": size, "mask %": percent, "iterations": iterations, "target": 8.0}
    return head | {
        "ours 1/s": ours["ours 1/s"], "theirs 1/s": statistics.median(rates),
        "cpu x min": min(ratios), "cpu x": statistics.median(ratios), "cpu x max": max(ratios),
    }  # fmt: skip


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


def _require_same_flux(path: Path, ours_jy: float, percent: float) -> None:
    """Model of the long run; CASA adds one component that it does not count."""
    from astropy.io import fits

    found = float(np.sum(fits.getdata(path)))
    near = abs(found - ours_jy) < 0.02 * abs(ours_jy)
    require(near, f"mask {percent} %: CASA's model has {found:g} Jy, ours {ours_jy:g} Jy")


def main() -> None:
    p = parser(__doc__)
    add_casa(p)
    arguments = p.parse_args()
    repeats = repeats_of(arguments)
    size, iterations = {"toy": (64, 200), "small": (512, 2000), "full": (512, 20_000)}[arguments.scale]
    rows = [measure(size, percent, iterations, repeats) for percent in (1, 10, 30, 100)]
    if arguments.casa_python:
        rows += [measure_casa(arguments.casa_python, arguments.output / "casa-deconvolve", row, repeats) for row in rows]
    print("x is theirs / ours in time, pair by pair")
    finish("deconvolution", arguments, rows, draw_ratios(lambda row: f"{row['against']}, mask {row['mask %']} %"))


if __name__ == "__main__":
    main()
