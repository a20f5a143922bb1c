"""The restoring beam of a plane."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
"""Stands for the beam of a blank channel inside the program; products write a tiny positive one in its place."""
