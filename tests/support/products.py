"""Small cubes for tests of image products."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.io.fits_header import ProductMetadata
from radps_mpi.io.fits_writer import FitsCubeWriter

RESTFREQ_HZ = 1.420405752e9
GEOMETRY = ImageGeometry(
    37, 24, 15 * ARCSEC_RAD, 13 * ARCSEC_RAD, np.radians(230.5), np.radians(5.0 + 4.0 / 60.0), "J2000"
)
METADATA = ProductMetadata(
    "N5921_2", "VLA", "TEST", "1995-04-13T09:33:00.000", observatory_m=(-1601185.365, -5041977.547, 3554875.870),
    pointing_rad=(GEOMETRY.ra_rad, GEOMETRY.dec_rad),
)


def frequency_axis(nchan: int = 7, frame: str = "LSRK", width_hz: float = 24414.0625) -> SpectralAxis:
    """Channels from 1412.787 MHz, ascending for a positive width."""
    freq_hz = 1.412787144081234e9 + width_hz * np.arange(nchan)
    return SpectralAxis(freq_hz, np.full(nchan, abs(width_hz)), frame, RESTFREQ_HZ)


def optical_axis(nchan: int = 7) -> SpectralAxis:
    """Channels 5 km/s apart in optical velocity from 1600 km/s."""
    velocity = 1.6e6 + 5e3 * np.arange(nchan)
    freq_hz = RESTFREQ_HZ / (1.0 + velocity / SPEED_OF_LIGHT_M_S)
    return SpectralAxis(freq_hz, np.full(nchan, 23.4e3), "LSRK", RESTFREQ_HZ, "optical")


def beams(nchan: int, blank: Sequence[int] = ()) -> list[Beam]:
    """Beams that shrink with frequency; the blank channels have none."""
    return [
        NULL_BEAM if chan in blank else Beam((52.0 - 0.1 * chan) * ARCSEC_RAD, 47.0 * ARCSEC_RAD, np.radians(4.5))
        for chan in range(nchan)
    ]


def plane(chan: int, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of one channel: noise that depends on the channel number only."""
    return np.random.default_rng(chan).normal(size=shape).astype(np.float32)


def write_cube(
    path: Path, geometry: ImageGeometry = GEOMETRY, axis: SpectralAxis | None = None, *, blank: Sequence[int] = (),
    comm: MPI.Intracomm = MPI.COMM_SELF, **options: Any,
) -> None:
    """Write a cube of :func:`plane` in which every rank writes the channels congruent to it."""
    axis = axis or frequency_axis()
    options = {"bunit": "Jy/beam", "metadata": METADATA} | options
    with FitsCubeWriter(comm, path, geometry, axis, **options) as writer:
        for chan in range(comm.rank, axis.nchan, comm.size):
            if chan not in blank:
                writer.write_plane(chan, plane(chan, geometry.shape))
