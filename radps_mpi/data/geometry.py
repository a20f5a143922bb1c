"""Where the pixels are on the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """A tangent-plane (SIN) image.

    Images are arrays ``[y, x]`` of shape ``(ny, nx)``. Pixel ``(ny // 2, nx // 2)`` is the phase centre; right
    ascension grows towards smaller x: ``l = -(x - nx // 2) * cell_x_rad``, ``m = (y - ny // 2) * cell_y_rad``, both
    direction cosines (dimensionless). FITS: CRPIX = (nx // 2 + 1, ny // 2 + 1), CDELT = (-cell_x, +cell_y).
    """

    nx: int
    ny: int
    cell_x_rad: float
    cell_y_rad: float
    ra_rad: float
    dec_rad: float
    direction_frame: str = "J2000"
    """"J2000" (FK5) or "ICRS"."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.ny, self.nx

    @property
    def centre(self) -> tuple[int, int]:
        """(y, x) of the phase centre, zero-based."""
        return self.ny // 2, self.nx // 2

    def l_axis(self) -> NDArray[np.float64]:
        """Direction cosine l of each column, shape (nx,), decreasing."""
        return -(np.arange(self.nx, dtype=np.float64) - self.nx // 2) * self.cell_x_rad

    def m_axis(self) -> NDArray[np.float64]:
        """Direction cosine m of each row, shape (ny,), increasing."""
        return (np.arange(self.ny, dtype=np.float64) - self.ny // 2) * self.cell_y_rad
