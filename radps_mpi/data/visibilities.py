"""Visibilities on their way from the store to the gridder."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class VisibilityPass:
    """One visibility per row and lane, ready to be gridded; a lane is an image channel of the block.

    ``vis`` float32 (nrow, 2, nlane), real and imaginary part, Jy, in the convention
    V = sum I exp(+2 pi i (u l + v m)) about the image's phase centre; finite everywhere, 0 where absent.
    ``weight`` float32 (nrow, nlane), imaging weight, 0 where there is no datum.
    ``freq_hz`` float64 (nlane,) and ``row_scale`` float64 (nrow,): row r of lane k lies at
    ``uvw_m[r] * freq_hz[k] * row_scale[r] / c`` wavelengths. ``row_scale`` is 1 where visibilities were interpolated to the
    channel centre, and the Doppler factor of the row's integration where native channels are gridded at their own frequency.
    """

    vis: NDArray[np.float32]
    weight: NDArray[np.float32]
    freq_hz: NDArray[np.float64]
    row_scale: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.vis.nbytes + self.weight.nbytes + self.freq_hz.nbytes + self.row_scale.nbytes


@dataclass(slots=True)
class VisibilityBlock:
    """The rows of one group and all the passes over them: what one leaf of the reduction tree is made of.

    Image channels that are wider than native ones take several passes (sub-channels); otherwise there is one.
    ``uvw_m`` float64 (nrow, 3), metres, rotated to the image's phase centre, in the stored sign.
    """

    uvw_m: NDArray[np.float64]
    passes: list[VisibilityPass] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.uvw_m.nbytes + sum(p.nbytes for p in self.passes)
