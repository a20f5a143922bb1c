"""CLEAN components drawn with a small image of the beam: quicker than transforms where components are few."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT


@numba.jit(**JIT)
def add_components(model: NDArray[np.float32], beam: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Add every pixel of ``model`` times ``beam``, centred on the pixel, to ``out``; what falls outside is left out.

    Parameters
    ----------
    model : (ny, nx) float32; zeros cost nothing.
    beam : (2 ry + 1, 2 rx + 1) float32, its centre in the middle.
    out : (ny, nx) float32, the named output.

    Components are added in the order of their flat index, product and sum rounded to float32 one after the other.
    """
    ny, nx = model.shape
    ry, rx = beam.shape[0] // 2, beam.shape[1] // 2
    for y in range(ny):
        for x in range(nx):
            flux = model[y, x]
            if flux == np.float32(0.0):
                continue
            x0, x1 = max(x - rx, 0), min(x + rx + 1, nx)
            for row in range(max(y - ry, 0), min(y + ry + 1, ny)):
                target, source = out[row, x0:x1], beam[row - y + ry, x0 - x + rx : x1 - x + rx]
                for i in range(target.size):
                    target[i] += flux * source[i]
