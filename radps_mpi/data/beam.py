"""The restoring beam of a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import ARCSEC_RAD


@dataclass(frozen=True, slots=True)
class Beam:
    """An elliptical gaussian: full widths at half maximum in radians, position angle of the major axis from north
    through east in radians."""

    major_rad: float
    minor_rad: float
    pa_rad: float

    @property
    def area_sr(self) -> float:
        """Integral of the unit-peak gaussian, steradian: pi / (4 ln 2) * major * minor."""
        return math.pi / (4.0 * math.log(2.0)) * self.major_rad * self.minor_rad

    @property
    def is_null(self) -> bool:
        """True for a plane without a beam (a blank channel)."""
        return not (self.major_rad > 0.0 and self.minor_rad > 0.0)


NULL_BEAM = Beam(0.0, 0.0, 0.0)
"""Stands for the beam of a blank channel inside the program."""

TINY_BEAM = Beam(1e-6 * ARCSEC_RAD, 1e-6 * ARCSEC_RAD, 0.0)
"""Its stand-in in products: CASA's importfits refuses a whole cube for one null or NaN beam."""


@dataclass(frozen=True, slots=True, eq=False)
class BeamColumns(Sequence[Beam]):
    """Beams of a cube, one per channel, kept as columns (nchan,): objects for 80,000 channels would take five times as much."""

    major_rad: NDArray[np.float64]
    minor_rad: NDArray[np.float64]
    pa_rad: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.major_rad)

    @overload
    def __getitem__(self, chan: SupportsIndex) -> Beam: ...
    @overload
    def __getitem__(self, chan: slice) -> BeamColumns: ...
    def __getitem__(self, chan: SupportsIndex | slice) -> Beam | BeamColumns:
        if isinstance(chan, slice):
            return BeamColumns(self.major_rad[chan], self.minor_rad[chan], self.pa_rad[chan])
        return Beam(float(self.major_rad[chan]), float(self.minor_rad[chan]), float(self.pa_rad[chan]))
