"""Everything that is decided before work begins, the same on all ranks: pixels, channels, blocks, leaves, weights, beams."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from radps_mpi import decomposition
from radps_mpi.config import RunConfig, SpectralConfig
from radps_mpi.constants import MJD_OF_UNIX_EPOCH_S, SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import FRAMES, SpectralAxis
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import DataError, UsageError
from radps_mpi.imaging.channel_map import width_ratio
from radps_mpi.imaging.field_of_view import half_power_width_rad, radius_at_level_rad
from radps_mpi.imaging.gridding import cells_apart
from radps_mpi.imaging.preparation import Hands, Pointing, parallel_hands, pointing
from radps_mpi.imaging.primary_beams import Dish, dish_of
from radps_mpi.imaging.sin_projection import to_frame
from radps_mpi.imaging.spectral_axis import AxisRequest, NativeChannels, build_axis, continuum_axis, coverage_hz
from radps_mpi.imaging.stopping import Control
from radps_mpi.imaging.weighting import WeightingScheme, make_scheme
from radps_mpi.io.fits_header import ProductMetadata

SAME_POINTING = 0.05
"""Field centres within this fraction of the primary beam's width are one pointing: the error in the beam stays below 1 %."""

W_REFUSED_RAD = math.pi
W_WARNED_RAD = 0.1
"""Phase errors of a plane image at the edge of the field, from the neglected w-term."""


_REACH_MARGIN = 1.001
"""Factors between frames, which scale baselines row by row, differ from 1 by 1e-4 at most."""


@dataclass(frozen=True, slots=True)
class ImagedObservation:
    """One observation of the store as this image sees it."""

    meta: ObservationMeta
    native: NativeChannels
    hands: Hands
    turn: Pointing


@dataclass(frozen=True, slots=True)
class Description:
    """The image to make, and how it is cut into work. A function of configuration and store alone."""

    config: RunConfig
    geometry: ImageGeometry
    axis: SpectralAxis
    observations: tuple[ImagedObservation, ...]
    blocks: Sequence[decomposition.ChannelBlock]
    leaves: tuple[decomposition.Leaf, ...]
    nlane: int
    scheme: WeightingScheme
    control: Control
    dish: Dish | None
    pb_axis_lm: tuple[float, float]
    """Direction cosines, about the image's centre, of where the dishes point: (0, 0) but for a ``phasecenter`` of its own."""
    metadata: ProductMetadata
    notes: tuple[str, ...]
    """What the user should know: choices made for them, warnings."""

    @property
    def continuum(self) -> bool:
        """True for one image of all channels."""
        return self.config.spectral.specmode == "mfs"

    @property
    def nrow(self) -> int:
        """Rows of all observations."""
        return sum(o.meta.nrow for o in self.observations)

    @property
    def reach(self) -> float:
        """Longest baseline in wavelengths at the highest frequency of any block. A phase centre other than the field's turns
        w into u and v."""
        baseline_m = max(
            o.meta.max_uv_m if o.turn.is_identity else math.hypot(o.meta.max_uv_m, o.meta.max_w_m) for o in self.observations
        )
        lanes = 1 if self.continuum else self.nlane
        top_hz = float(self.axis.freq_hz.max()) + lanes * float(np.max(np.abs(self.axis.width_hz)))
        return _REACH_MARGIN * baseline_m * top_hz / SPEED_OF_LIGHT_M_S

    @property
    def shape(self) -> tuple[int, int, int]:
        """(nchan, ny, nx)."""
        return self.axis.nchan, self.geometry.ny, self.geometry.nx


class Observations(Protocol):
    """A visibility store, or a survey of what one would hold: all that a description needs."""

    path: Path
    observations: list[ObservationMeta]

    def read_times(self, obs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``time_s`` (ntime,) and ``frame_factor`` (ntime, 3)."""


def describe(config: RunConfig, store: Observations) -> Description:
    """Decide everything from the configuration and the store's metadata.

    Raises
    ------
    UsageError
        For parameters that don't fit the data.
    DataError
        For data that can't be imaged yet, by name: several pointings, ephemeris fields, mixed dishes, wide fields.
    """
    metas = store.observations
    if not metas or all(m.samples.sum() == 0 for m in metas):
        raise DataError(f"{store.path}: no good visibility among those selected")
    _refuse_unsupported(metas)
    geometry = _geometry(config, metas)
    frame = _output_frame(config.spectral, metas)
    observations = tuple(_observe(config, store, meta, geometry, frame) for meta in metas)
    natives = [o.native for o in observations]
    restfreq_hz = config.spectral.restfreq_hz or next((m.restfreq_hz for m in metas if m.restfreq_hz > 0), 0.0)
    continuum = config.spectral.specmode == "mfs"
    axis = (
        continuum_axis(natives, frame, restfreq_hz)
        if continuum
        else build_axis(axis_request(config.spectral, frame, restfreq_hz), natives)
    )
    dish = None if config.image.pb_model == "none" else dish_of(metas[0].telescope, _dishes(metas))
    notes = [
        *_frame_notes(config, natives, axis),
        *_axis_notes(natives, axis),
        *_repeated_inputs(metas),
        *_check_w_term(config, observations, geometry, dish, axis),
    ]
    _check_pointings(observations, geometry, dish, axis)
    _check_field_of_view(config, observations, geometry, dish, axis)
    width = 1 if continuum else _block_width(geometry, axis, metas)
    return Description(
        config, geometry, axis, observations,
        decomposition.ChannelBlocks(axis.nchan, width), tuple(_leaves(config, metas)), width,
        make_scheme(config.weighting.weighting, config.weighting.robust, axis, continuum=continuum),
        _control(config), dish, _pb_axis_lm(observations), _metadata(metas), tuple(notes),
    )


def _block_width(geometry: ImageGeometry, axis: SpectralAxis, metas: list[ObservationMeta]) -> int:
    step_hz, longest_m = float(np.median(axis.width_hz)), max(meta.max_uv_m for meta in metas)
    return decomposition.block_width(
        geometry.nx, geometry.ny, axis.nchan, sum(meta.nrow for meta in metas), cells_apart(geometry, step_hz, longest_m)
    )


def _refuse_unsupported(metas: list[ObservationMeta]) -> None:
    for meta in metas:
        if meta.ephemeris:
            raise DataError(f"{meta.source}: field {meta.field_name} moves (ephemeris); such fields can't be imaged yet")
        if meta.frequency_frame not in FRAMES:
            raise DataError(
                f"{meta.source}: spectral window {meta.spw_id} is declared in {meta.frequency_frame}; "
                f"known frames are {', '.join(FRAMES)}"
            )


def _dishes(metas: list[ObservationMeta]) -> list[float]:
    names = {m.telescope for m in metas}
    if len(names) > 1:
        raise DataError(f"observations of {', '.join(sorted(names))} need a gridder for mixed dishes: image them apart")
    return sorted({d for m in metas for d in m.dish_diameters_m})


def _output_frame(spectral: SpectralConfig, metas: list[ObservationMeta]) -> str:
    if spectral.outframe:
        return spectral.outframe
    declared = {m.frequency_frame for m in metas}
    if len(declared) > 1:
        raise UsageError(f"outframe: the inputs declare different frames ({', '.join(sorted(declared))}); choose one")
    return declared.pop()


def _geometry(config: RunConfig, metas: list[ObservationMeta]) -> ImageGeometry:
    image, first = config.image, metas[0]
    (ra_rad, dec_rad), frame = first.direction_rad, first.direction_frame
    centre = image.centre
    if isinstance(centre, int):
        chosen = [m for m in metas if m.field_id == centre]
        if not chosen:
            known = ", ".join(sorted({str(m.field_id) for m in metas}))
            raise UsageError(f"phasecenter: field {centre} is not among those selected ({known})")
        (ra_rad, dec_rad), frame = chosen[0].direction_rad, chosen[0].direction_frame
    elif centre is not None:
        ra_rad, dec_rad, frame = centre.ra_rad, centre.dec_rad, centre.frame
    return ImageGeometry(image.nx, image.ny, *image.cell_rad, ra_rad, dec_rad, frame)


def _observe(
    config: RunConfig, store: Observations, meta: ObservationMeta, geometry: ImageGeometry, frame: str
) -> ImagedObservation:
    _, factors = store.read_times(meta.index)
    native = NativeChannels(
        meta.freq_hz, meta.width_hz, factors[:, FRAMES.index(frame)], factors[:, FRAMES.index("LSRK")],
        meta.source_index, meta.report.descending_channels > 0,
    )
    ra_rad, dec_rad = to_frame(*meta.direction_rad, meta.direction_frame, geometry.direction_frame)
    hands = parallel_hands(meta.corr_types, config.image.stokes, meta.source)
    return ImagedObservation(meta, native, hands, pointing(ra_rad, dec_rad, geometry))


def axis_request(spectral: SpectralConfig, frame: str, restfreq_hz: float) -> AxisRequest:
    """The user's start and width by kind: channel number, Hz or m/s."""
    values: dict[str, Any] = {}
    for name, position in (("start", spectral.start_at), ("width", spectral.width_by)):
        if isinstance(position, int):
            values[f"{name}_channel" if name == "start" else f"{name}_channels"] = position
        elif position is not None:
            values[f"{name}_{'hz' if position.kind == 'frequency' else 'm_s'}"] = position.value
    return AxisRequest(
        nchan=spectral.nchan, velocity=spectral.veltype, frame=frame, restfreq_hz=restfreq_hz,
        coverage=spectral.coverage, **values,
    )


def _frame_notes(config: RunConfig, natives: list[NativeChannels], axis: SpectralAxis) -> list[str]:
    if config.spectral.binning != "tclean" or config.spectral.specmode == "mfs":
        return []
    ratio = width_ratio(axis, natives[0])
    used = max(1, math.floor(ratio))
    if ratio - used < 0.01 * ratio:
        return []
    return [
        f"binning = 'tclean' makes image channels of {ratio:.4f} native channels from {used}: "
        f"{100 * (1 - used / ratio):.0f} % of the data are not used; binning = 'overlap' uses all"
    ]


def _check_pointings(
    observations: tuple[ImagedObservation, ...], geometry: ImageGeometry, dish: Dish | None, axis: SpectralAxis
) -> None:
    """Refuse fields that point apart: together they need a mosaic gridder."""
    directions = {
        (o.meta.field_name, *to_frame(*o.meta.direction_rad, o.meta.direction_frame, geometry.direction_frame))
        for o in observations
    }
    centres = [pointing(ra, dec, geometry).offset for _, ra, dec in directions]
    vectors = np.array([[c[0], c[1]] for c in centres])
    spread = float(np.ptp(vectors, axis=0).max())
    width = half_power_width_rad(dish, float(axis.freq_hz.max())) if dish else max(geometry.cell_x_rad, geometry.cell_y_rad)
    if spread > SAME_POINTING * width:
        raise DataError(
            f"{len(directions)} pointings, up to {math.degrees(spread) * 3600:.1f} arcsec apart, need a mosaic gridder, which "
            "is not there yet: select one field"
        )


def _check_field_of_view(
    config: RunConfig, observations: tuple[ImagedObservation, ...], geometry: ImageGeometry, dish: Dish | None,
    axis: SpectralAxis,
) -> None:
    """Refuse an image of which ``pblimit`` would leave nothing: its centre is too far from where the dishes point."""
    distance = math.hypot(*_pb_axis_lm(observations))
    corner = math.hypot(geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad) / 2
    limit = config.image.pblimit
    if dish is None or limit <= 0.0:
        return
    reach = math.sin(radius_at_level_rad(dish, float(axis.freq_hz.min()), limit))
    if distance - corner > reach:
        raise UsageError(
            f"phasecenter: the whole image is where the primary beam is below pblimit = {limit:g}: its centre is "
            f"{math.degrees(math.asin(min(1.0, distance))):.3f} deg from the field's"
        )


def _axis_notes(natives: list[NativeChannels], axis: SpectralAxis) -> list[str]:
    low, high = coverage_hz(natives, "union")
    half = 0.5 * axis.width_hz
    outside = int(np.sum((axis.freq_hz + half < low) | (axis.freq_hz - half > high)))
    if not outside:
        return []
    return [
        f"{outside} of {axis.nchan} channels lie outside the data, which cover {low / 1e6:.6f} to {high / 1e6:.6f} MHz in "
        f"{axis.frame}: they will be blank"
    ]


def _repeated_inputs(metas: list[ObservationMeta]) -> list[str]:
    """Data that go in twice count twice: rarely meant."""
    seen: dict[tuple[str, int, int], set[int]] = {}
    for meta in metas:
        seen.setdefault((os.path.realpath(meta.source), meta.field_id, meta.data_desc_id), set()).add(meta.source_index)
    repeated = sorted({path for (path, _, _), sources in seen.items() if len(sources) > 1})
    return [f"warning: {path} is among the inputs more than once" for path in repeated]


def _pb_axis_lm(observations: tuple[ImagedObservation, ...]) -> tuple[float, float]:
    """Where the first field's centre is in the image; the others are within SAME_POINTING of it."""
    turn = observations[0].turn
    if turn.is_identity:
        return 0.0, 0.0
    if turn.rotation[2, 2] <= 0.0:
        raise UsageError("phasecenter: it lies in the other half of the sky than the field")
    return float(turn.rotation[0, 2]), float(turn.rotation[1, 2])


def _check_w_term(
    config: RunConfig, observations: tuple[ImagedObservation, ...], geometry: ImageGeometry, dish: Dish | None,
    axis: SpectralAxis,
) -> list[str]:  # fmt: skip
    """Phase error of the farthest baseline at the edge of the field, 2 pi w (1 - sqrt(1 - r^2)), in radians."""
    corner = math.hypot(geometry.nx * geometry.cell_x_rad, geometry.ny * geometry.cell_y_rad) / 2
    notes, worst = [], 0.0
    off_axis = math.hypot(*_pb_axis_lm(observations))
    edge = min(corner, radius_at_level_rad(dish, float(axis.freq_hz.min()), 0.2) + off_axis) if dish else corner
    for meta in (o.meta for o in observations):
        top_hz = float(meta.freq_hz.max())
        error = 2 * math.pi * meta.max_w_m * top_hz / SPEED_OF_LIGHT_M_S * (1 - math.sqrt(max(0.0, 1 - edge * edge)))
        worst = max(worst, error)
        if meta.max_w_m == 0.0 and meta.max_uv_m > 0.0:
            notes.append(f"{meta.source}: w is 0 in every row, so errors from the w-term can't be told")
    if worst > W_REFUSED_RAD and config.image.wterm == "check":
        raise DataError(
            f"w-term: a plane image has phase errors up to {worst:.1f} rad inside pb 0.2, above pi; wide-field gridding is not "
            "there yet (--wterm ignore images all the same)"
        )
    if worst > W_WARNED_RAD:
        notes.append(f"w-term: a plane image has phase errors up to {worst:.2f} rad at pb 0.2 or the image's corner")
    return notes


def _leaves(config: RunConfig, metas: list[ObservationMeta]) -> list[decomposition.Leaf]:
    chunks, requested = [m.nchunk for m in metas], config.image.row_groups
    if config.spectral.specmode == "mfs":
        return decomposition.continuum_leaves(chunks, [m.nrow for m in metas], [m.nchan for m in metas], requested)
    return decomposition.cube_leaves(chunks, sum(m.nrow for m in metas), requested)


def _control(config: RunConfig) -> Control:
    d = config.deconvolution
    return Control(
        niter=d.niter, gain=d.gain, threshold_jy=d.threshold_jy, cycleniter=d.cycleniter, cyclefactor=d.cyclefactor,
        minpsffraction=d.minpsffraction, maxpsffraction=d.maxpsffraction, nmajor=d.nmajor, mode=d.control,
    )


def _metadata(metas: list[ObservationMeta]) -> ProductMetadata:
    first = min(metas, key=lambda m: m.first_time_s)
    seconds = first.first_time_s - MJD_OF_UNIX_EPOCH_S
    date = str(np.datetime64(round(seconds * 1000), "ms"))
    return ProductMetadata(
        object_name=first.object_name, telescope=first.telescope, observer=first.observer, date_obs=date,
        timesys=first.time_scale, observatory_m=first.observatory_itrf_m, pointing_rad=first.direction_rad,
    )
