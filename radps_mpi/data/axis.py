"""The image's spectral axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import SPEED_OF_LIGHT_M_S

AxisKind = Literal["frequency", "radio", "optical"]


@dataclass(frozen=True, slots=True)
class SpectralAxis:
    """Channels of the image cube, in the output frame.

    ``freq_hz`` (nchan,) are channel centres, ascending or descending; ``width_hz`` (nchan,) are positive widths.
    ``kind`` says in which quantity the axis is regular: frequency and radio velocity are both linear in frequency,
    optical velocity is linear in wavelength. ``frame`` is a name of ``FRAMES``.
    """

    freq_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    frame: str
    restfreq_hz: float
    kind: AxisKind = "frequency"

    @property
    def nchan(self) -> int:
        """Number of channels."""
        return len(self.freq_hz)

    def radio_velocity_m_s(self) -> NDArray[np.float64]:
        """c (1 - f / f0): the radio convention, m/s."""
        return SPEED_OF_LIGHT_M_S * (1.0 - self.freq_hz / self.restfreq_hz)

    def optical_velocity_m_s(self) -> NDArray[np.float64]:
        """c (f0 / f - 1): the optical convention, m/s."""
        return SPEED_OF_LIGHT_M_S * (self.restfreq_hz / self.freq_hz - 1.0)


FRAMES = ("TOPO", "LSRK", "BARY")
"""Frames that an image axis can be in, by their casacore names."""
