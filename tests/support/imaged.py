"""Imaging a set inside the test's own process, and measuring what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from radps_mpi import make_cube
from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.io import commit, manifest
from radps_mpi.pipeline import Result


@dataclass(frozen=True, slots=True)
class Imaged:
    """The products of a run, read back."""

    prefix: Path
    result: Result

    def planes(self, product: str = "image") -> NDArray[np.float32]:
        """(nchan, ny, nx)."""
        from astropy.io import fits

        return np.asarray(fits.getdata(f"{self.prefix}.{product}.fits"), np.float32)[0]

    def header(self, product: str = "image") -> Any:
        """The primary header."""
        from astropy.io import fits

        return fits.getheader(f"{self.prefix}.{product}.fits")

    def beams(self) -> NDArray[np.float64]:
        """(nchan, 3): major and minor axis and position angle, radians."""
        from astropy.io import fits

        with fits.open(f"{self.prefix}.image.fits") as hdus:
            table = hdus["BEAMS"]
            assert (table.header["TUNIT1"], table.header["TUNIT3"]) == ("arcsec", "deg")
            rows = [(r["BMAJ"] * ARCSEC_RAD, r["BMIN"] * ARCSEC_RAD, np.radians(r["BPA"])) for r in table.data]
        return np.array(rows, np.float64)

    def freq_hz(self) -> NDArray[np.float64]:
        """Channel centres, from a header of a frequency axis."""
        header = self.header()
        assert header["CTYPE3"] == "FREQ"
        return header["CRVAL3"] + header["CDELT3"] * (np.arange(header["NAXIS3"]) + 1 - header["CRPIX3"])

    def sumwt(self) -> NDArray[np.float32]:
        """(nchan,) sums of weights, tclean's: both hands."""
        return self.planes("sumwt")[:, 0, 0]

    def log(self) -> str:
        """What the run said."""
        return (self.prefix.parent / f"{self.prefix.name}.radps" / "logs" / "radps.log").read_text()

    def predicted_rms_jy(self) -> NDArray[np.float64]:
        """(nchan,) thermal noise that the kept state foresees: sqrt(sum wim^2 / w) / sum wim, w of both hands together."""
        table = manifest.read(self.prefix.parent / f"{self.prefix.name}.radps" / commit.MANIFEST_NAME).table
        return np.sqrt(0.5 * table["noise_sum"]) / table["sumwt"]


def image(prefix: Path, sets: Path | Sequence[Path], **parameters: Any) -> Imaged:
    """Image on one rank; without a primary beam's mask unless asked for."""
    options = {"imsize": 64, "cell": "0.4arcsec", "outframe": "TOPO", "pblimit": -0.2} | parameters
    return Imaged(prefix, make_cube(sets, imagename=prefix, comm=MPI.COMM_SELF, overwrite=True, **options))


def peak_of(plane: NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    """x, y (zero-based, fractional) and height of the highest peak: a paraboloid through the logarithms about it."""
    y0, x0 = np.unravel_index(int(np.nanargmax(plane)), plane.shape)
    dy, dx = (grid.ravel() for grid in np.mgrid[-1:2, -1:2])
    height = np.log(plane[y0 - 1 : y0 + 2, x0 - 1 : x0 + 2].astype(np.float64).ravel())
    terms = np.stack([np.ones(9), dx, dy, dx * dx, dx * dy, dy * dy], axis=1)
    c, bx, by, axx, axy, ayy = np.linalg.lstsq(terms, height, rcond=None)[0]
    x, y = np.linalg.solve([[2 * axx, axy], [axy, 2 * ayy]], [-bx, -by])
    return float(x0 + x), float(y0 + y), float(np.exp(c + 0.5 * (bx * x + by * y)))


def centroid(values: NDArray[np.floating[Any]], at: NDArray[np.float64]) -> float:
    """First moment of a spectrum; channels without data don't count."""
    good = np.isfinite(values)
    return float(np.sum(values[good] * at[good], dtype=np.float64) / np.sum(values[good], dtype=np.float64))


def direct_dirty_image(
    uvw_m: NDArray[np.float64], freq_hz: float, vis: NDArray[np.complex128], weight: NDArray[np.float64],
    l_axis: NDArray[np.float64], m_axis: NDArray[np.float64],
) -> NDArray[np.float64]:
    """sum w Re[V exp(-2 pi i (u l + v m))] / sum w, term by term: (ny, nx)."""
    u, v = (uvw_m[:, :2] * (freq_hz / SPEED_OF_LIGHT_M_S)).T
    along_l, along_m = np.exp(-2j * np.pi * np.outer(u, l_axis)), np.exp(-2j * np.pi * np.outer(v, m_axis))
    return np.real(along_m.T @ (along_l * (weight * vis)[:, None])) / weight.sum()
