"""CASA's products of NGC 5921: what tclean was asked, what it made, and the same request put to the program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from mpi4py import MPI
from numpy.typing import NDArray

from radps_mpi.config import RunConfig
from radps_mpi.io.fits_reader import read_cube
from radps_mpi.pipeline import Result, make_cube

from . import data

NOT_OURS = ("vis", "gridder", "perchanweightdensity", "interactive")
"""Parameters of tclean that we have no name for: their values in the goldens are the only thing that the program does."""


@dataclass(frozen=True)
class Golden:
    """One case of tclean: ``record`` is its JSON (parameters, counts, statistics), images come from the files beside it."""

    case: str
    record: dict[str, Any]

    @property
    def inputs(self) -> list[str]:
        """Names of the MeasurementSets."""
        vis = self.record["parameters"]["vis"]
        return [vis] if isinstance(vis, str) else vis

    @property
    def parameters(self) -> dict[str, Any]:
        """What tclean was asked, without the names that only tclean has; wide channels by its rule."""
        asked = {name: value for name, value in self.record["parameters"].items() if name not in NOT_OURS}
        return asked | {"binning": "tclean"}

    @property
    def beams_arcsec_deg(self) -> NDArray[np.float64]:
        """(nbeam, 3): axes and position angle; a common beam's angle is in radians in the record."""
        beams = np.array(self.record["beams_arcsec_deg"])
        if self.record["parameters"].get("restoringbeam") == "common":
            beams[:, 2] = np.degrees(beams[:, 2])
        return beams

    def image(self, product: str) -> tuple[NDArray[np.float32], fits.Header]:
        """Pixels (nchan, y, x) of the crop that was kept, and the header that says where it lies."""
        return read_cube(data.GOLDEN / f"ngc5921_{self.case}.{product}.fits.gz")


@cache
def golden(case: str) -> Golden:
    """The golden ``ngc5921_<case>``."""
    return Golden(case, json.loads((data.GOLDEN / f"ngc5921_{case}.json").read_text()))


@dataclass(frozen=True)
class Made:
    """What the program made of a case."""

    imagename: Path
    result: Result

    def image(self, product: str) -> NDArray[np.float32]:
        """All pixels of a product, (nchan, y, x)."""
        return read_cube(f"{self.imagename}.{product}.fits")[0]

    def crop(self, product: str, like: fits.Header) -> NDArray[np.float32]:
        """The pixels that a golden's crop has, by its reference pixel."""
        cube, header = read_cube(f"{self.imagename}.{product}.fits")
        x, y = (round(header[f"CRPIX{axis}"] - like[f"CRPIX{axis}"]) for axis in (1, 2))
        return cube[:, y : y + like["NAXIS2"], x : x + like["NAXIS1"]]

    @cached_property
    def header(self) -> fits.Header:
        """Header of the image."""
        return fits.getheader(f"{self.imagename}.image.fits")

    @property
    def beams_arcsec_deg(self) -> NDArray[np.float64]:
        """(nbeam, 3): axes and position angle, one row where the channels share a beam."""
        if "BMAJ" in self.header:
            return np.array([[3600 * self.header["BMAJ"], 3600 * self.header["BMIN"], self.header["BPA"]]])
        with fits.open(f"{self.imagename}.image.fits") as hdus:
            table = hdus["BEAMS"].data
            return np.stack([table["BMAJ"], table["BMIN"], table["BPA"]], axis=1).astype(np.float64)


def make(parameters: dict[str, Any], inputs: Sequence[Path], imagename: Path) -> Made:
    """Image ``inputs`` in this process alone, as a user of the library would."""
    vis = [str(path) for path in inputs]
    config = RunConfig.from_flat(parameters | {"vis": vis, "imagename": str(imagename)})
    return Made(imagename, make_cube(config, vis, MPI.COMM_SELF))


def frequencies_hz(header: fits.Header) -> NDArray[np.float64]:
    """Channel centres of a linear frequency axis."""
    assert header["CTYPE3"] == "FREQ"
    return header["CRVAL3"] + (np.arange(header["NAXIS3"]) + 1 - header["CRPIX3"]) * header["CDELT3"]


def compare_sums_of_weights(made: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    """Equal to the accuracy of tclean's single-precision sums but in up to two channels.

    There a visibility lies within 1e-6 of the edge of a weighting cell, and which of the two cells it counts in is up to the
    last bits of somebody's arithmetic.
    """
    relative = np.abs(made / expected - 1.0)
    assert relative.max() < 2e-4
    assert np.count_nonzero(relative > 1e-5) <= 2


def largest_difference(made: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """max |made - expected| over the pixels that ``expected`` has, in units of its largest value."""
    difference = np.abs(made.astype(np.float64) - expected)
    there = np.isfinite(expected)
    assert there.any() and np.isfinite(difference[there]).all()
    return float(difference[there].max() / np.abs(expected[there]).max())
