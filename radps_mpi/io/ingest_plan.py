"""Second step of ingest: what will be in the store, decided by one rank from the tables and the scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.observation import IngestReport, ObservationMeta
from radps_mpi.errors import DataError
from radps_mpi.io.ingest_scan import Pair, PairScan
from radps_mpi.io.measurement_set import SetTables
from radps_mpi.io.measurement_set_frames import CONVERTIBLE_FREQUENCIES, DIRECTION_FRAMES, observatory_itrf_m
from radps_mpi.io.measurement_set_rows import MainTable
from radps_mpi.io.selection import RowChoice


@dataclass(frozen=True, slots=True)
class ObservationPlan:
    """How one observation gets into the store.

    ``meta`` has everything but what only the data can tell. ``chan0 <= c < chan1`` are native channels, ``unselected``
    (nchan,) in the store's order marks those in between that weren't asked for. ``row_start`` is the store row at
    which each segment's rows start.
    """

    meta: ObservationMeta
    chan0: int
    chan1: int
    descending: bool
    unselected: NDArray[np.bool_]
    row_start: dict[int, int]
    times_s: NDArray[np.float64]

    def native_range(self, store0: int, store1: int) -> tuple[int, int]:
        """Native channels of the store's channels ``store0 <= c < store1``."""
        if self.descending:
            return self.chan1 - store1, self.chan1 - store0
        return self.chan0 + store0, self.chan0 + store1


def plan_source(
    source_index: int,
    tables: SetTables,
    choice: RowChoice,
    scan: dict[Pair, PairScan],
    *,
    data_column: str,
    first_index: int,
    row_chunk: int,
) -> list[ObservationPlan]:
    """The observations of one MeasurementSet, in order of field and data description.

    Raises
    ------
    DataError
        If an observation can't be used: its frames, correlations or the shapes of its columns.
    """
    with MainTable(tables.path) as main:
        return [
            _plan(first_index + count, source_index, tables, choice, pair, scan[pair], main, data_column, row_chunk)
            for count, pair in enumerate(scan)
        ]


def _plan(
    index: int,
    source_index: int,
    tables: SetTables,
    choice: RowChoice,
    pair: Pair,
    scan: PairScan,
    main: MainTable,
    data_column: str,
    row_chunk: int,
) -> ObservationPlan:
    field_id, data_desc_id = pair
    spw_id = tables.window_of[data_desc_id]
    field, window, corr_types = tables.fields[field_id], tables.windows[spw_id], tables.correlations_of[data_desc_id]
    _check_usable(tables, field_id, spw_id, corr_types)
    weight_column = _weight_column(tables, main, scan.first_row, data_column, (len(window.freq_hz), len(corr_types)))
    wanted = choice.channels[spw_id]
    chan0, chan1 = int(np.flatnonzero(wanted)[0]), int(np.flatnonzero(wanted)[-1]) + 1
    descending = len(window.freq_hz) > 1 and bool(window.freq_hz[0] > window.freq_hz[-1])
    order = slice(None, None, -1) if descending else slice(None)
    freq_hz, width_hz = window.freq_hz[chan0:chan1][order].copy(), np.abs(window.width_hz[chan0:chan1][order])
    object_name, restfreq_hz = tables.line_of(field, spw_id)
    meta = ObservationMeta(
        index=index, name=f"observation_{index:05d}", source=tables.path, source_index=source_index, field_id=field_id,
        field_name=field.name, object_name=object_name, direction_rad=field.direction_rad,
        direction_frame=field.direction_frame, ephemeris=field.moving, data_desc_id=data_desc_id, spw_id=spw_id,
        spw_name=window.name, frequency_frame=window.frame, first_channel=chan1 - 1 if descending else chan0,
        telescope=tables.telescope,
        dish_diameters_m=tuple(sorted({float(tables.dish_diameter_m[a]) for a in scan.antennas})),
        observatory_itrf_m=observatory_itrf_m(tables.telescope, tables.antenna_position_m), observer=tables.observer,
        project=tables.project, restfreq_hz=restfreq_hz, corr_types=corr_types, data_column=data_column,
        weight_column=weight_column, time_scale=tables.time_scale, first_time_s=float(scan.times_s[0]),
        last_time_s=float(scan.times_s[-1]), max_uv_m=scan.max_uv_m, max_w_m=scan.max_w_m, nrow=scan.nrow,
        ntime=len(scan.times_s), row_chunk=row_chunk, freq_hz=freq_hz, width_hz=width_hz,
        samples=np.zeros((chan1 - chan0, len(corr_types)), dtype=np.int64),
        report=IngestReport(
            rows=scan.nrow, autocorrelation_rows=scan.autocorrelation_rows, unsorted_rows=scan.all_unsorted_rows(),
            samples=scan.nrow * (chan1 - chan0) * len(corr_types), descending_channels=(chan1 - chan0) * descending,
        ),
    )  # fmt: skip
    return ObservationPlan(meta, chan0, chan1, descending, ~wanted[chan0:chan1][order], _row_starts(scan), scan.times_s)


def _row_starts(scan: PairScan) -> dict[int, int]:
    starts, total = {}, 0
    for segment in sorted(scan.rows_of_segment):
        starts[segment] = total
        total += scan.rows_of_segment[segment]
    return starts


def _check_usable(tables: SetTables, field_id: int, spw_id: int, corr_types: tuple[str, ...]) -> None:
    field, window = tables.fields[field_id], tables.windows[spw_id]
    if field.direction_frame not in DIRECTION_FRAMES and not field.moving:
        raise DataError(
            f"{tables.path}/FIELD: column PHASE_DIR of field {field_id} ({field.name}) is in {field.direction_frame}, "
            "which is not supported"
        )
    if window.frame not in CONVERTIBLE_FREQUENCIES:
        raise DataError(
            f"{tables.path}/SPECTRAL_WINDOW: column MEAS_FREQ_REF of window {spw_id} is {window.frame}, "
            "which can't be converted to other frames"
        )
    strange = [name for name in corr_types if name.startswith("code")]
    if strange:
        raise DataError(f"{tables.path}/POLARIZATION: column CORR_TYPE has {strange[0]}, which is not supported")


def _weight_column(tables: SetTables, main: MainTable, row: int, data_column: str, shape: tuple[int, int]) -> str:
    for column in (data_column, "FLAG"):
        found = main.cell_shape(column, row)
        if found is None:
            raise DataError(f"{tables.path}: column {column} is missing or empty in row {row}")
        if found != shape:
            raise DataError(
                f"{tables.path}: column {column} has {found[0]} channels x {found[-1]} correlations in row {row}, "
                f"its tables say {shape[0]} x {shape[1]}"
            )
    if main.cell_shape("WEIGHT_SPECTRUM", row) == shape:
        return "WEIGHT_SPECTRUM"
    if main.cell_shape("WEIGHT", row) != shape[1:]:
        raise DataError(f"{tables.path}: column WEIGHT is missing or doesn't have {shape[1]} correlations in row {row}")
    return "WEIGHT"
