"""The corner turn of one observation: rows in, channels out, one row chunk and band of channels at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from radps_mpi import timeline
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.io import durable
from radps_mpi.io.ingest_plan import ObservationPlan
from radps_mpi.io.ingest_slab import (
    BLANK_REASONS,
    OrientedRows,
    Slab,
    read_rows,
    read_slab,
    sorting_order,
)
from radps_mpi.io.measurement_set_rows import MainTable
from radps_mpi.io.store_writer import write_channels, write_rows
from radps_mpi.parallel import all_or_none
from radps_mpi.parallel.exchange import exchange, gather_everywhere, sum_integers
from radps_mpi.parallel.types import Comm

_SAMPLE_BYTES = 72
"""Most bytes alive per sample of a slab: data, flags, weights, masks, both sides of the exchange, and the sorted
result."""

_DUPLICATE_CELLS = 1 << 27
"""(time, baseline) cells looked at at once when duplicates are counted, a byte each."""


def turn_observation(comm: Comm, file: h5py.File, plan: ObservationPlan, memory_bytes: int) -> ObservationMeta:
    """Fill one observation of an open store whose ``source_row`` lists rows in the MeasurementSet's order; collective.

    Returns the observation with everything counted that only the data can tell.
    """
    meta, group = plan.meta, file[plan.meta.name]
    turn = _CornerTurn(comm, group, plan, memory_bytes)
    with all_or_none(comm, f"opening {meta.source}"):
        main = MainTable(meta.source)
    try:
        for chunk in range(meta.nchunk):
            turn.chunk(main, chunk)
    finally:
        main.close()
    file.flush()
    comm.Barrier()
    with all_or_none(comm, f"counting the duplicates of {meta.source}"):
        duplicates = _count_duplicates(comm, group, meta, turn.time_spans)
    counts = {**turn.counts, "duplicate_rows": duplicates}
    totals = sum_integers(comm, np.array(list(counts.values()), dtype=np.int64)).tolist()
    samples = sum_integers(comm, turn.samples)
    report = replace(
        meta.report, **dict(zip(counts, totals, strict=True)), blank_channels=int((samples.sum(axis=1) == 0).sum())
    )
    return replace(meta, report=report, samples=samples, max_uv_m=turn.max_uv_m, max_w_m=turn.max_w_m)


class _CornerTurn:
    """Rows in, channels out, for one observation; keeps what is counted on the way."""

    def __init__(self, comm: Comm, group: h5py.Group, plan: ObservationPlan, memory_bytes: int) -> None:
        self.comm, self.group, self.plan = comm, group, plan
        self.memory_bytes = memory_bytes
        self.samples = np.zeros((plan.meta.nchan, plan.meta.npol), dtype=np.int64)
        self.counts = dict.fromkeys(("swapped_rows", "bad_uvw_rows", *BLANK_REASONS), 0)
        self.time_spans: list[tuple[int, int]] = []
        """First and last time index of each chunk."""
        self.max_uv_m = self.max_w_m = 0.0

    def chunk(self, main: MainTable, chunk: int) -> None:
        """Turn one row chunk: a band of channels at a time, as many as the memory budget allows."""
        comm, meta = self.comm, self.plan.meta
        row0, row1 = meta.chunk_rows(chunk, chunk + 1)
        shares = _shares(row1 - row0, comm.size)
        with all_or_none(comm, f"reading rows of {meta.source}"):
            first, last = row0 + shares[comm.rank], row0 + shares[comm.rank + 1]
            oriented = read_rows(main, self.plan, self.group["source_row"][first:last])
        rows = gather_everywhere(comm, oriented.rows)
        order = sorting_order(rows["uvw_m"])
        self._note_rows(rows, oriented)
        with all_or_none(comm, f"writing rows of {meta.source}"):
            if chunk % comm.size == comm.rank:
                write_rows(self.group, meta, rows[order], chunk)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        for band in _bands(meta, row1 - row0, comm.size, self.memory_bytes):
            with all_or_none(comm, f"reading {meta.source}"), timeline.span("read rows", chunk=chunk):
                slab = read_slab(main, self.plan, oriented, band)
            for reason, count in slab.counts.items():
                self.counts[reason] += count
            with timeline.span("turn rows to channels, write", chunk=chunk):
                self._exchange_and_write(slab, band, shares, place, chunk)

    def _note_rows(self, rows: NDArray[Any], oriented: OrientedRows) -> None:
        self.counts["swapped_rows"] += int(oriented.swapped.sum())
        self.counts["bad_uvw_rows"] += int(oriented.bad_uvw.sum())
        self.time_spans.append((int(rows["time_index"].min()), int(rows["time_index"].max())))
        self.max_uv_m = max(self.max_uv_m, float(np.hypot(rows["uvw_m"][:, 0], rows["uvw_m"][:, 1]).max()))
        self.max_w_m = max(self.max_w_m, float(np.abs(rows["uvw_m"][:, 2]).max()))

    def _exchange_and_write(
        self,
        slab: Slab,
        band: tuple[int, int],
        shares: NDArray[np.int64],
        place: NDArray[np.int64],
        chunk: int,
    ) -> None:
        cuts = _shares(band[1] - band[0], self.comm.size)
        mine = int(cuts[self.comm.rank])
        vis = _to_channels(self.comm, slab.vis, cuts, shares, place)
        self.samples[band[0] + mine : band[0] + mine + len(vis)] += (~np.isnan(vis.real)).sum(axis=2)
        blocks: dict[str, NDArray[Any]] = {"vis": vis}
        if slab.weight is not None:
            blocks["weight"] = _to_channels(self.comm, slab.weight, cuts, shares, place)
        path = self.group.file.filename
        # a failing collective write fails after the ranks have met, so it may stand in here against the rule
        with all_or_none(self.comm, f"writing {path}"), durable.naming(Path(path), "writing visibilities"):
            for name, block in blocks.items():
                write_channels(self.group, self.plan.meta, name, band[0] + mine, chunk, block)


def _shares(count: int, nrank: int) -> NDArray[np.int64]:
    """Bounds (nrank + 1,) of contiguous, balanced shares."""
    return np.arange(nrank + 1, dtype=np.int64) * count // nrank


def _bands(meta: ObservationMeta, nrow: int, nrank: int, memory_bytes: int) -> Iterator[tuple[int, int]]:
    """Bands of channels whose samples, spread over the ranks, fit into the budget of each."""
    per_rank = memory_bytes // (_SAMPLE_BYTES * nrow * meta.npol)
    width = min(max(1, per_rank) * nrank, meta.nchan)
    for start in range(0, meta.nchan, width):
        yield start, min(start + width, meta.nchan)


def _to_channels(
    comm: Comm, block: NDArray[Any], cuts: NDArray[np.int64], shares: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[Any]:
    """From all channels of my rows to all rows of my channels: (nchan, npol, nrow_mine) -> (nchan_mine, npol, nrow).

    ``cuts`` and ``shares`` (nrank + 1,) bound every rank's channels and rows; ``place`` (nrow,) is where each row goes.
    """
    npol = block.shape[1]
    nchan, nrows = int(cuts[comm.rank + 1] - cuts[comm.rank]), np.diff(shares)
    sent = np.diff(cuts) * npol * nrows[comm.rank]
    received = exchange(comm, block.reshape(-1), sent, nrows * npol * nchan)
    result = np.empty((nchan, npol, int(shares[-1])), block.dtype)
    nline, start = nchan * npol, 0
    lines = result.reshape(nline, int(shares[-1]))
    for rank, nrow in enumerate(nrows.tolist()):
        size = nchan * npol * nrow
        where = place[shares[rank] : shares[rank + 1]]
        # line by line: numpy takes ten times as long to scatter along the last of several axes
        for target, piece in zip(lines, received[start : start + size].reshape(nline, nrow), strict=True):
            target[where] = piece
        start += size
    return result


def _count_duplicates(
    comm: Comm, group: h5py.Group, meta: ObservationMeta, time_spans: Sequence[tuple[int, int]]
) -> int:
    """This rank's share of the rows whose (time, baseline) an earlier row has: bands of times are dealt out."""
    nantenna = 1 + max(int(group["antenna2"][slice(*meta.chunk_rows(c, c + 1))].max()) for c in range(meta.nchunk))
    ntime = max(1, min(_DUPLICATE_CELLS // (nantenna * nantenna), -(-meta.ntime // comm.size)))
    duplicates = 0
    for turn, start in enumerate(range(0, meta.ntime, ntime)):
        if turn % comm.size != comm.rank:
            continue
        seen = np.zeros((ntime, nantenna, nantenna), dtype=bool)
        for chunk, (low, high) in enumerate(time_spans):
            if low < start + ntime and high >= start:
                rows = slice(*meta.chunk_rows(chunk, chunk + 1))
                time = group["time_index"][rows] - start
                inside = (time >= 0) & (time < ntime)
                duplicates += int(inside.sum())
                seen[time[inside], group["antenna1"][rows][inside], group["antenna2"][rows][inside]] = True
        duplicates -= int(np.count_nonzero(seen))
    return duplicates
