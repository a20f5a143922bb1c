"""What a plan is made from: metadata of inputs, or of an observation that is only imagined, and pixels where none are named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.config import SelectionConfig, build_section
from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.observation import IngestReport, ObservationMeta
from radps_mpi.errors import DataError, UsageError
from radps_mpi.imaging.field_of_view import radius_at_level_rad
from radps_mpi.imaging.fourier import good_size
from radps_mpi.imaging.primary_beams import dish_of
from radps_mpi.io.preflight import look_at_store
from radps_mpi.io.visibility_store import ROW_CHUNK, SUFFIX, VisibilityStore
from radps_mpi.journey.describe import Observations
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm

PIXELS_PER_BEAM = 5
"""Of the longest baseline's fringe at the highest frequency."""

EDGE_LEVEL = 0.2
"""An image that nobody gives a size reaches to this level of the primary beam at the lowest frequency."""

_SMALLEST, _LARGEST = 16, 131_072


@dataclass(frozen=True, slots=True)
class Imagined:
    """An observation that there are no files of."""

    channels: int
    rows: int
    polarisations: int = 2
    start_hz: float = 230.538e9
    width_hz: float = 244_140.625
    max_baseline_m: float = 3000.0
    telescope: str = "ALMA"


_BASELINES = {"ALMA": 903, "VLA": 351}
"""Of all antennas: so many rows are guessed to be of one time."""


class ImaginedObservations:
    """As :class:`radps_mpi.journey.describe.Observations`, from plain numbers; baselines and times are not spelt out."""

    def __init__(self, request: Imagined) -> None:
        self.path = Path("imagined observation")
        self.observations = [_meta(request)]

    def read_times(self, obs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One integration, in which all frames are one."""
        return np.zeros(1), np.ones((1, 3))


def _meta(r: Imagined) -> ObservationMeta:
    if r.polarisations not in (1, 2, 4):
        raise UsageError(f"--polarisations: {r.polarisations} is not a set of correlations: write 1, 2 or 4")
    if r.channels < 1 or r.rows < 1:
        raise UsageError("--channels and --rows: an observation has at least 1 of each")
    corr = {1: ("XX",), 2: ("XX", "YY"), 4: ("XX", "XY", "YX", "YY")}[r.polarisations]
    diameter_m = {"ALMA": 12.0, "VLA": 25.0}[r.telescope]
    freq_hz = r.start_hz + r.width_hz * np.arange(r.channels, dtype=np.float64)
    return ObservationMeta(
        index=0, name="observation_00000", source="imagined observation", source_index=0, field_id=0, field_name="",
        object_name="", direction_rad=(0.0, 0.0), direction_frame="J2000", ephemeris=False, data_desc_id=0, spw_id=0,
        spw_name="", frequency_frame="LSRK", first_channel=0, telescope=r.telescope, dish_diameters_m=(diameter_m,),
        observatory_itrf_m=(0.0, 0.0, 0.0), observer="", project="", restfreq_hz=0.0, corr_types=corr, data_column="DATA",
        weight_column="WEIGHT", time_scale="UTC", first_time_s=0.0, last_time_s=0.0, max_uv_m=r.max_baseline_m, max_w_m=0.0,
        nrow=r.rows, ntime=-(-r.rows // _BASELINES[r.telescope]), row_chunk=ROW_CHUNK, freq_hz=freq_hz,
        width_hz=np.full(r.channels, r.width_hz),
        samples=np.full((r.channels, len(corr)), r.rows, np.int64), report=IngestReport(rows=r.rows),
    )  # fmt: skip


def observations_of(comm: Comm, flat: Mapping[str, Any], labels: Mapping[str, str]) -> Observations:
    """What the inputs hold, from their metadata; collective. A store is closed again.

    Raises
    ------
    UsageError, DataError
        As :func:`radps_mpi.journey.outline.preview`.
    """
    selection = build_section(SelectionConfig, flat, labels)
    if any(path.endswith(SUFFIX) for path in selection.vis):
        kept: Observations = on_root(comm, "reading the store's metadata", lambda: _of_store(selection))
        return kept
    from radps_mpi.io.ingest_survey import survey  # loads casacore

    return survey(comm, list(selection.vis), selection, with_uvw=True)


class _Metadata:
    """A store's metadata, without the store."""

    def __init__(self, store: VisibilityStore) -> None:
        self.path, self.observations, self._times = store.path, store.observations, store.metadata.times

    def read_times(self, obs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._times[obs]


def _of_store(selection: SelectionConfig) -> _Metadata:
    if len(selection.vis) > 1:
        raise UsageError("inputs: one visibility store, or any number of MeasurementSets; ingest them into one store first")
    look_at_store(Path(selection.vis[0]))
    with VisibilityStore.open(selection.vis[0]) as store:
        return _Metadata(store)


def propose_pixels(metas: Sequence[ObservationMeta], flat: Mapping[str, Any]) -> dict[str, Any]:
    """``cell`` and ``imsize`` where ``flat`` has none: five pixels per beam, out to where the primary beam is 0.2.

    Raises
    ------
    UsageError
        If baselines or primary beam don't tell.
    """
    proposed: dict[str, Any] = {}
    if "cell" not in flat:
        proposed["cell"] = f"{_cell_rad(metas) / ARCSEC_RAD:.3g}arcsec"
    if "imsize" not in flat:
        from radps_mpi.config_values import as_cells  # the user's text, as the configuration reads it
        from radps_mpi.units import angle_rad

        cells = [angle_rad(text) for text in as_cells(flat.get("cell", proposed.get("cell")))]
        proposed["imsize"] = tuple(_pixels(metas, cell_rad) for cell_rad in cells)
    return proposed


def _cell_rad(metas: Sequence[ObservationMeta]) -> float:
    longest = max(m.max_uv_m * float(m.freq_hz.max()) for m in metas) / SPEED_OF_LIGHT_M_S
    if longest <= 0.0:
        raise UsageError("cell: all baselines have no length, so no pixel size follows from them: give --cell")
    return 1.0 / longest / PIXELS_PER_BEAM


def _pixels(metas: Sequence[ObservationMeta], cell_rad: float) -> int:
    try:
        dish = dish_of(metas[0].telescope, sorted({d for m in metas for d in m.dish_diameters_m}))
    except DataError as error:
        raise UsageError(f"imsize: {error}; give --imsize") from None
    lowest_hz = min(float(m.freq_hz.min()) for m in metas)
    radius = math.sin(radius_at_level_rad(dish, lowest_hz, EDGE_LEVEL))
    pixels = good_size(max(_SMALLEST, 2.0 * radius / cell_rad))
    if pixels > _LARGEST:
        raise UsageError(
            f"imsize: the primary beam is {pixels} pixels wide, more than {_LARGEST}: give --imsize or a larger --cell"
        )
    return pixels
