"""First pass of ingest: which rows are selected, to which observation they belong, and at which times.

The main table is cut into fixed segments, dealt out over the ranks. What is kept of each segment is a handful of
numbers per observation, so that memory does not grow with the MeasurementSet; the row numbers themselves go to the
store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from radps_mpi import alarm
from radps_mpi.errors import DataError
from radps_mpi.io.measurement_set import SetTables
from radps_mpi.io.measurement_set_rows import MainTable
from radps_mpi.io.selection import RowChoice
from radps_mpi.parallel import all_or_none
from radps_mpi.parallel.types import Comm

SEGMENT_ROWS = 1 << 18

LONGEST_UVW_M = 1e9
"""Beyond any baseline, to the Moon and farther: such coordinates are damage, and one of them would rule the sorting and every
check of the w-term."""

Pair = tuple[int, int]
"""(FIELD_ID, DATA_DESC_ID)."""


@dataclass(slots=True)
class PairScan:
    """What one or all segments hold of one observation."""

    rows_of_segment: dict[int, int] = field(default_factory=dict)
    span_of_segment: dict[int, tuple[float, float]] = field(default_factory=dict)
    """First and last row's time, in order of rows: joins the segments when unsorted rows are counted."""
    times_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Distinct times, ascending."""
    antennas: frozenset[int] = frozenset()
    first_row: int = -1
    autocorrelation_rows: int = 0
    unsorted_rows: int = 0
    max_uv_m: float = 0.0
    max_w_m: float = 0.0
    """Of finite coordinates; 0 where UVW wasn't looked at."""

    @property
    def nrow(self) -> int:
        """Rows without autocorrelations."""
        return sum(self.rows_of_segment.values())

    def merge(self, other: PairScan) -> None:
        """Take in what another segment found."""
        self.rows_of_segment |= other.rows_of_segment
        self.span_of_segment |= other.span_of_segment
        self.times_s = np.union1d(self.times_s, other.times_s)
        self.antennas |= other.antennas
        firsts = [row for row in (self.first_row, other.first_row) if row >= 0]
        self.first_row = min(firsts, default=-1)
        self.autocorrelation_rows += other.autocorrelation_rows
        self.unsorted_rows += other.unsorted_rows
        self.max_uv_m, self.max_w_m = max(self.max_uv_m, other.max_uv_m), max(self.max_w_m, other.max_w_m)

    def all_unsorted_rows(self) -> int:
        """Rows earlier than the row before them, borders between segments included."""
        spans = [self.span_of_segment[segment] for segment in sorted(self.span_of_segment)]
        borders = sum(after[0] < before[1] for before, after in pairwise(spans))
        return self.unsorted_rows + borders


def segments_of(tables: SetTables, rank: int, nrank: int) -> Iterator[tuple[int, int, int]]:
    """This rank's (segment, first row, number of rows)."""
    for segment in range(rank, -(-tables.nrow // SEGMENT_ROWS), nrank):
        start = segment * SEGMENT_ROWS
        yield segment, start, min(SEGMENT_ROWS, tables.nrow - start)


def selected_rows(
    main: MainTable, tables: SetTables, choice: RowChoice, start: int, nrow: int, *, with_uvw: bool = False
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.int64]]:
    """Index columns and row numbers of the selected rows of one segment, autocorrelations included.

    Raises
    ------
    DataError
        If an id points outside its table or a time isn't finite.
    """
    rows = main.index(start, nrow, with_uvw=with_uvw or choice.uv_limits is not None)
    for column, count in (
        ("ANTENNA1", len(tables.antenna_names)), ("ANTENNA2", len(tables.antenna_names)),
        ("FIELD_ID", len(tables.fields)), ("DATA_DESC_ID", len(tables.window_of)),
    ):  # fmt: skip
        if len(rows[column]) and not (rows[column].min() >= 0 and rows[column].max() < count):
            raise DataError(f"{tables.path}: column {column} has ids outside its table of {count} rows")
    if not np.isfinite(rows["TIME"]).all():
        raise DataError(f"{tables.path}: column TIME has values that aren't finite")
    keep = choice.keep(rows)
    return {name: column[keep] for name, column in rows.items()}, start + np.flatnonzero(keep)


def scan_source(comm: Comm, tables: SetTables, choice: RowChoice, *, with_uvw: bool = False) -> dict[Pair, PairScan]:
    """Scan one MeasurementSet, for the lengths of baselines too if ``with_uvw``; every rank gets everything. Collective."""
    mine: dict[Pair, PairScan] = {}
    with all_or_none(comm, f"scanning {tables.path}"), MainTable(tables.path) as main:
        for segment, start, nrow in segments_of(tables, comm.rank, comm.size):
            alarm.beat(f"scanning {tables.path}")
            rows, numbers = selected_rows(main, tables, choice, start, nrow, with_uvw=with_uvw)
            for pair, inside in split_pairs(rows):
                part = _scan_pair({name: column[inside] for name, column in rows.items()}, numbers[inside], segment)
                mine.setdefault(pair, PairScan()).merge(part)
    everything: dict[Pair, PairScan] = {}
    for scan in comm.allgather(mine):
        for pair, part in scan.items():
            everything.setdefault(pair, PairScan()).merge(part)
    return {pair: everything[pair] for pair in sorted(everything) if everything[pair].nrow}


def split_pairs(rows: dict[str, NDArray[np.generic]]) -> Iterator[tuple[Pair, NDArray[np.bool_]]]:
    """(FIELD_ID, DATA_DESC_ID) -> which rows, for the pairs that occur."""
    both = np.stack([rows["FIELD_ID"], rows["DATA_DESC_ID"]], axis=1).astype(np.int64)
    for field_id, data_desc_id in np.unique(both, axis=0).tolist():
        yield (field_id, data_desc_id), (both[:, 0] == field_id) & (both[:, 1] == data_desc_id)


def _scan_pair(rows: dict[str, NDArray[np.generic]], numbers: NDArray[np.int64], segment: int) -> PairScan:
    cross = rows["ANTENNA1"] != rows["ANTENNA2"]
    if not cross.any():
        return PairScan(autocorrelation_rows=len(cross))
    time = rows["TIME"][cross].astype(np.float64)
    uvw_m = rows["UVW"][cross].astype(np.float64) if "UVW" in rows else np.zeros((0, 3))
    uvw_m = uvw_m[(np.abs(uvw_m) <= LONGEST_UVW_M).all(axis=1)]
    antennas = np.unique(np.concatenate([rows["ANTENNA1"][cross], rows["ANTENNA2"][cross]]))
    return PairScan(
        rows_of_segment={segment: len(time)},
        span_of_segment={segment: (float(time[0]), float(time[-1]))},
        times_s=np.unique(time),
        antennas=frozenset(antennas.tolist()),
        first_row=int(numbers[cross][0]),
        autocorrelation_rows=int((~cross).sum()),
        unsorted_rows=int((np.diff(time) < 0).sum()),
        max_uv_m=float(np.hypot(uvw_m[:, 0], uvw_m[:, 1]).max(initial=0.0)),
        max_w_m=float(np.abs(uvw_m[:, 2]).max(initial=0.0)),
    )
