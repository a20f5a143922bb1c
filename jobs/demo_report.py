"""Compares the numbers of the demo's cube with the known ones, names the products, and draws channel maps.

    python jobs/demo_report.py runs/demo/ngc5921

Exits 1 if a number is far from what it should be, or a product is missing.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radps_mpi.errors import EXIT_FAILURE, EXIT_OK, DataError
from radps_mpi.io.channel_maps import draw_channel_maps
from radps_mpi.io.fits_reader import read_cube

PRODUCTS = ("image", "residual", "model", "psf", "pb", "sumwt", "mask")


@dataclass(frozen=True)
class Check:
    """A number of the cube beside the one that CASA 6.7 tclean gets with the same parameters, and how far it may be."""

    name: str
    unit: str
    measured: float
    known: float
    tolerance: float

    @property
    def is_near(self) -> bool:
        """False for NaN too."""
        return abs(self.measured - self.known) <= self.tolerance


def checks_of(imagename: str) -> list[Check]:
    """Measure the products ``imagename.*``."""
    image, _ = read_cube(f"{imagename}.image.fits")
    residual, _ = read_cube(f"{imagename}.residual.fits")
    model, _ = read_cube(f"{imagename}.model.fits")
    major_arcsec, minor_arcsec = mean_beam_arcsec(f"{imagename}.image.fits")
    iterations, stop = last_cycle(Path(f"{imagename}.radps"))
    brightest_channel = int(np.nanargmax(np.nanmax(image, axis=(1, 2))))
    rms_mjy = 1e3 * float(np.mean(np.sqrt(np.nanmean(residual.astype("f8") ** 2, axis=(1, 2)))))
    return [
        Check("channels", "", image.shape[0], 46, 0),
        Check("beam, major axis", "arcsec", major_arcsec, 52.00, 0.26),
        Check("beam, minor axis", "arcsec", minor_arcsec, 47.03, 0.24),
        Check("peak", "Jy/beam", float(np.nanmax(image)), 0.05490, 0.0005),
        Check("channel of the peak", "", brightest_channel, 38, 0),
        Check("rms per channel", "mJy/beam", rms_mjy, 1.870, 0.02),
        Check("model flux", "Jy", float(np.nansum(model, dtype="f8")), 3.952, 0.02),
        Check("iterations", "", iterations, 2455, 13),
        Check("stopped at the threshold", "", float("threshold" in stop), 1, 0),
    ]


def mean_beam_arcsec(path: str) -> tuple[float, float]:
    """Mean over channels of the restoring beam's (major, minor) axis, from the BEAMS table or the header."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        if "BEAMS" in hdus:
            return float(np.mean(hdus["BEAMS"].data["BMAJ"])), float(np.mean(hdus["BEAMS"].data["BMIN"]))
        return 3600 * hdus[0].header["BMAJ"], 3600 * hdus[0].header["BMIN"]


def last_cycle(run_directory: Path) -> tuple[int, str]:
    """(iterations in all, why CLEAN stopped), from the last row of the convergence table."""
    path = run_directory / "convergence.csv"
    try:
        with open(path, newline="") as f:
            last = list(csv.DictReader(f))[-1]
        return int(last["total_iterations"]), last["stop"]
    except (OSError, LookupError, ValueError) as error:
        raise DataError(f"{path}: is no convergence table ({error})") from error


def table(checks: list[Check]) -> str:
    """The checks as aligned text."""
    rows = [f"{'':<26} {'here':>10} {'known':>10}"]
    for c in checks:
        mark = "ok" if c.is_near else "FAR"
        rows.append(f"{c.name:<26} {c.measured:>10.5g} {c.known:>10.5g} {c.unit:<9} {mark}")
    return "\n".join(rows)


def main(imagename: str) -> int:
    """Print what a person would look at first; the exit status."""
    missing = [name for name in PRODUCTS if not Path(f"{imagename}.{name}.fits").is_file()]
    if missing:
        print(f"missing products of {imagename}: {', '.join(missing)}")
        return EXIT_FAILURE
    try:
        checks = checks_of(imagename)
        draw_channel_maps(f"{imagename}.image.fits", f"{imagename}.image.png", zoom=3.0, title="NGC 5921, HI, VLA 1995")
    except DataError as error:
        print(error)
        return EXIT_FAILURE
    print("\nproducts:")
    for name in PRODUCTS:
        print(f"  {imagename}.{name}.fits")
    print(f"channel maps:\n  {imagename}.image.png\n")
    print(table(checks))
    return EXIT_OK if all(c.is_near for c in checks) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
