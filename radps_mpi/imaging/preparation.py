"""From a store's native visibilities to what the gridder takes: Stokes I, image channels, the image's phase centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radps_kernels import stokes, weighting

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityBlock, VisibilityPass
from radps_mpi.errors import DataError
from radps_mpi.imaging.channel_map import ChannelMap, InterpolationPass
from radps_mpi.imaging.spectral_axis import NativeChannels
from radps_mpi.precision import VISIBILITY, WEIGHT

_PARALLEL_HANDS = (("RR", "LL"), ("XX", "YY"))


@dataclass(frozen=True, slots=True)
class Hands:
    """Which stored correlations make Stokes I, and whether a sample with only one of them counts."""

    first: int
    second: int
    single_hand: bool


def parallel_hands(correlations: tuple[str, ...], stokes_name: str, where: str) -> Hands:
    """Choose the correlations of Stokes I among two hands, one hand or four correlations.

    Raises
    ------
    DataError
        If there is no parallel hand among them; ``where`` names the input.
    """
    for a, b in _PARALLEL_HANDS:
        if a in correlations and b in correlations:
            return Hands(correlations.index(a), correlations.index(b), stokes_name == "pseudoI")
    for name in ("I", "RR", "LL", "XX", "YY"):
        if name in correlations:
            return Hands(correlations.index(name), correlations.index(name), True)
    raise DataError(f"{where}: correlations {', '.join(correlations)} hold no parallel hand, so no Stokes I")


@dataclass(frozen=True, slots=True)
class Pointing:
    """How an observation's baselines and phases turn to the image's phase centre.

    ``rotation`` (3, 3) takes uvw of the field's frame to the image's; ``offset`` (3,) are l, m, n - 1 of the image centre in
    the field's frame: ``uvw_m @ offset`` is the path difference by which phases turn.
    """

    rotation: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def is_identity(self) -> bool:
        """True where the field's centre is the image's."""
        return not self.offset.any()


def _basis(ra_rad: float, dec_rad: float) -> NDArray[np.float64]:
    """Rows: unit vectors east, north and towards (ra, dec)."""
    ca, sa, cd, sd = math.cos(ra_rad), math.sin(ra_rad), math.cos(dec_rad), math.sin(dec_rad)
    return np.array([[-sa, ca, 0.0], [-sd * ca, -sd * sa, cd], [cd * ca, cd * sa, sd]])


_SAME_DIRECTION_RAD = 1e-12
"""Directions this close (0.2 microarcseconds) are one; turning phases by less would only cost bits."""


def pointing(field_ra_rad: float, field_dec_rad: float, geometry: ImageGeometry) -> Pointing:
    """Rotation from a field's centre to the image's; both directions in the image's frame."""
    field, image = _basis(field_ra_rad, field_dec_rad), _basis(geometry.ra_rad, geometry.dec_rad)
    if np.linalg.norm(field[2] - image[2]) < _SAME_DIRECTION_RAD:
        return Pointing(np.eye(3), np.zeros(3))
    offset = field @ image[2]
    return Pointing(image @ field.T, offset - np.array([0.0, 0.0, 1.0]))


@dataclass(slots=True)
class PreparedPiece:
    """The rows of one piece of a leaf, ready but for their imaging weights.

    ``cell_per_m[p]`` (ntime, nlane): wavelengths per metre at which pass p's weights are looked up. ``noise_response[p]``
    (ntime, nlane): variance of pass p's visibilities, in units of what their natural weights stand for. ``density`` holds, per
    density pass, natural weights (nrow, nlane) and their cell_per_m; empty where the passes' own weights make the density.
    """

    block: VisibilityBlock
    time_index: NDArray[np.int32]
    cell_per_m: list[NDArray[np.float64]]
    density: list[tuple[NDArray[np.float32], NDArray[np.float64]]]
    noise_response: list[NDArray[np.float32]]
    beyond: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tables = sum(c.nbytes for c in self.cell_per_m) + sum(r.nbytes for r in self.noise_response)
        tables += sum(w.nbytes + c.nbytes for w, c in self.density)
        return self.block.nbytes + self.time_index.nbytes + tables

    def drop_tables(self) -> None:
        """Forget what only weighting needs."""
        self.cell_per_m, self.density, self.noise_response = [], [], []


@dataclass(slots=True)
class RawPiece:
    """What is read from the store for a piece: native channels ``first`` onwards.

    ``vis`` (nnative, npol, nrow) complex64; ``weight`` (nnative or 1, npol, nrow) float32; ``uvw_m`` (nrow, 3) float64;
    ``time_index`` (nrow,) int32.
    """

    first: int
    vis: NDArray[np.complex64]
    weight: NDArray[np.float32]
    uvw_m: NDArray[np.float64]
    time_index: NDArray[np.int32]


def prepare_piece(
    raw: RawPiece, mapping: ChannelMap, hands: Hands, turn: Pointing, geometry: ImageGeometry, *, nlane: int,
    with_density: bool,
) -> PreparedPiece:
    """Form Stokes I, interpolate it to the image channels and turn it to the phase centre.

    ``nlane`` >= the block's channels: lanes beyond them stay empty (weight 0), so that every block of a cube runs through the
    same kernel. Samples beyond the image's uv range get weight 0 and are counted.
    """
    nnative, _, nrow = raw.vis.shape
    vis_i, weight_i = np.empty((nnative, nrow), VISIBILITY), np.empty((nnative, nrow), WEIGHT)
    stokes.stokes_i(raw.vis, raw.weight, hands.first, hands.second, hands.single_hand, vis_i, weight_i)
    uvw_m, shift_m = raw.uvw_m, np.zeros(nrow)
    if not turn.is_identity:  # einsum, not BLAS: the rounding of its blocked products may depend on the threads
        uvw_m = np.einsum("rj,ij->ri", raw.uvw_m, turn.rotation)
        shift_m = np.einsum("rj,j->r", raw.uvw_m, turn.offset)
    piece = PreparedPiece(VisibilityBlock(uvw_m), raw.time_index, [], [], [])
    for p in mapping.passes:
        ready = _run_pass(p, raw, vis_i, weight_i, shift_m, nlane)
        piece.beyond += weighting.blank_beyond(
            piece.block.uvw_m, ready.row_scale, ready.freq_hz / SPEED_OF_LIGHT_M_S, ready.weight,
            0.5 / geometry.cell_x_rad, 0.5 / geometry.cell_y_rad,
        )
        piece.block.passes.append(ready)
        piece.cell_per_m.append(_pad(p.cell_hz / SPEED_OF_LIGHT_M_S, nlane))
        piece.noise_response.append(_pad(_noise_response(p, alone=len(mapping.passes) == 1), nlane))
    if with_density:
        for d in mapping.density:
            piece.density.append(
                (_density_weights(d.channel, d.share, raw, weight_i, nlane), _pad(d.cell_hz / SPEED_OF_LIGHT_M_S, nlane))
            )
    return piece


def _noise_response(p: InterpolationPass, *, alone: bool) -> NDArray[np.float32]:
    """(ntime, nlane): variance of a visibility over that of a native one whose weight were this one's.

    A share s of a channel has weight s w but still the variance of w; linear interpolation averages two channels. Several
    passes that interpolate share native channels: their noise doesn't average as if it were independent, so that is left out.
    """
    mixed = (1.0 - p.fraction) ** 2 + p.fraction**2 if alone else np.float32(1.0)
    return p.share * mixed


def _run_pass(
    p: InterpolationPass, raw: RawPiece, vis_i: NDArray[np.complex64], weight_i: NDArray[np.float32],
    shift_m: NDArray[np.float64], nlane: int,
) -> VisibilityPass:
    nrow, used = len(raw.time_index), p.lower.shape[1]
    freq_hz = np.full(nlane, p.freq_hz[-1])
    freq_hz[:used] = p.freq_hz
    row_scale = p.row_scale[raw.time_index]
    vis, weight = np.zeros((nrow, 2, nlane), np.float32), np.zeros((nrow, nlane), WEIGHT)
    present = p.lower >= 0
    stokes.to_image_channels(
        vis_i, weight_i, raw.time_index,
        _pad(np.where(present, p.lower - raw.first, -1), nlane, -1), _pad(p.fraction, nlane),
        _pad(np.where(present, p.nearest - raw.first, 0), nlane), _pad(p.share, nlane),
        shift_m, row_scale, freq_hz / SPEED_OF_LIGHT_M_S, vis, weight,
    )
    return VisibilityPass(vis, weight, freq_hz, row_scale)


def _density_weights(
    channel: NDArray[np.int32], share: NDArray[np.float32], raw: RawPiece, weight_i: NDArray[np.float32], nlane: int
) -> NDArray[np.float32]:
    per_row = channel[raw.time_index] - raw.first
    rows = np.arange(len(raw.time_index))[:, None]
    found = weight_i[np.maximum(per_row, 0), rows] * share[raw.time_index]
    return _pad(np.where(channel[raw.time_index] >= 0, found, np.float32(0.0)), nlane)


def _pad(table: NDArray[Any], nlane: int, value: float = 0) -> NDArray[Any]:
    padded = np.full((table.shape[0], nlane), value, table.dtype)
    padded[:, : table.shape[1]] = table
    return padded


def continuum_map(native: NativeChannels, first: int, stop: int) -> ChannelMap:
    """Every native channel as a lane of its own, at its own frequency: for the continuum image's one plane."""
    channels = np.arange(first, stop, dtype=np.int32)
    table = np.broadcast_to(channels, (len(native.factor), len(channels))).copy()
    ones = np.ones(table.shape, np.float32)
    freq_hz = native.freq_hz[first:stop]
    cell_hz = np.broadcast_to(freq_hz, table.shape).copy()
    single = InterpolationPass(
        table, np.zeros(table.shape, np.float32), table, ones, cell_hz, freq_hz.copy(), native.factor.copy()
    )
    return ChannelMap((single,), (), first, stop)
