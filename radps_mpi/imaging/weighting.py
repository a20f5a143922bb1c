"""Imaging weights: natural, uniform, Briggs and Briggs with bandwidth taper, as tclean computes them.

Per image channel for cubes (BriggsCubeWeightor), from all channels together for a continuum image (VisImagingWeight). The
density is the only thing that rows of different groups share: it is summed over a fixed tree by the caller, between
:func:`local_density` and :func:`apply_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from radps_kernels import weighting as kernels

from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.imaging.preparation import PreparedPiece

TCLEAN_LOOKUP_SCALE = 299_792_458.0 / 2.997_924e8
"""tclean looks cells up with uv that are larger by 1.9e-7 than those it filled the cells with: found by comparison with its
uniformly weighted cubes, where only an excess between 1.74e-7 and 2.1e-7 puts the visibilities that lie within 5e-6 of a
cell's edge where tclean has them. Which of two neighbouring cells such a visibility counts in is arbitrary, so we follow."""


@dataclass(frozen=True, slots=True)
class WeightingScheme:
    """``name`` is natural, uniform, briggs or briggsbwtaper; ``continuum`` selects VisImagingWeight's cell rule."""

    name: str
    robust: float
    continuum: bool
    fractional_bandwidth: float = 0.0

    @property
    def needs_density(self) -> bool:
        """False where imaging weights are the natural ones."""
        return self.name != "natural"


def make_scheme(name: str, robust: float, axis: SpectralAxis, *, continuum: bool) -> WeightingScheme:
    """The scheme with the whole cube's fractional bandwidth, 2 (max - min) / (max + min) of the channel centres."""
    low, high = float(axis.freq_hz.min()), float(axis.freq_hz.max())
    bandwidth = 2.0 * (high - low) / (high + low) if name == "briggsbwtaper" else 0.0
    return WeightingScheme(name, robust, continuum, bandwidth)


def local_density(
    pieces: list[PreparedPiece], scheme: WeightingScheme, geometry: ImageGeometry, nlane: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Density of the rows of one leaf: (ny, nx, ndest) float64, and the sums of weights (ndest,); ndest is 1 for continuum."""
    ndest = 1 if scheme.continuum else nlane
    density, total = np.zeros((geometry.ny, geometry.nx, ndest)), np.zeros(ndest)
    for piece in pieces:
        tables = piece.density or [
            (p.weight, cells) for p, cells in zip(piece.block.passes, piece.cell_per_m, strict=True)
        ]
        for weight, cell_per_m in tables:
            kernels.add_density(
                piece.block.uvw_m, piece.time_index, cell_per_m, weight, density,
                geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad, scheme.continuum,
            )
            sums = weight.sum(axis=0, dtype=np.float64)
            total += sums.sum() if ndest == 1 else sums
    return density, total


def density_factors(
    scheme: WeightingScheme, density: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """f^2 of each density plane (ndest,): 1 or 2 for uniform weights, else (5 * 10^-R)^2 / (sum W^2 / (2 sum w)).

    Briggs 1995, equation 3.8; the sum of w counts each visibility at (u, v) and (-u, -v). Our densities are of one hand's
    weights, as VisImagingWeight's are, where BriggsCubeWeightor's are of both: Briggs weights don't depend on that, the sum
    of uniform ones does, hence the 2 of cubes.
    """
    if scheme.name == "uniform":
        return np.full(density.shape[2], 1.0 if scheme.continuum else 2.0)
    squares = np.einsum("yxd,yxd->d", density, density)  # not BLAS: its threads would change the order of the sum
    with np.errstate(divide="ignore", invalid="ignore"):
        f2 = (5.0 * 10.0 ** (-scheme.robust)) ** 2 / (squares / (2.0 * total))
    return np.where(squares > 0, f2, 0.0)


def apply_weights(
    pieces: list[PreparedPiece], scheme: WeightingScheme, geometry: ImageGeometry,
    density: NDArray[np.float64] | None, f2: NDArray[np.float64] | None, ndest: int,
) -> NDArray[np.float64]:
    """Replace natural by imaging weights in place and return the leaf's sums (3, ndest) of them.

    Rows: sum of imaging weights w_i, sum of w_i^2 / w times the noise response of the interpolation to image channels, with w
    the natural weight, number of visibilities; per lane, or over all lanes where ndest is 1. The second over the square of the
    first is twice the variance of a thermal-noise pixel, since w is that of one hand and both hands are averaged.
    """
    sums = np.zeros((3, ndest))
    for piece in pieces:
        for p, cell_per_m, response in zip(piece.block.passes, piece.cell_per_m, piece.noise_response, strict=True):
            natural = p.weight if density is None else p.weight.copy()
            if density is not None and f2 is not None:
                lookup = cell_per_m if scheme.continuum else cell_per_m * TCLEAN_LOOKUP_SCALE
                kernels.apply_density(
                    piece.block.uvw_m, piece.time_index, lookup, p.weight, density, f2,
                    0.0 if scheme.name == "uniform" else 1.0,
                    geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad,
                    scheme.continuum, scheme.fractional_bandwidth,
                )
            present = p.weight > 0
            ratio = np.divide(p.weight.astype(np.float64) ** 2, natural, out=np.zeros(p.weight.shape), where=present)
            ratio *= response[piece.time_index]
            lanes = np.array([p.weight.sum(axis=0, dtype=np.float64), ratio.sum(axis=0), present.sum(axis=0)])
            sums += lanes.sum(axis=1, keepdims=True) if ndest == 1 else lanes
        piece.drop_tables()
    return sums
