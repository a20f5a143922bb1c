"""The corner turn of one observation: rows in, channels out, one row chunk and band of channels at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from radps_kernels.corner_turn import place_rows

from radps_mpi import alarm, faults, timeline
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import DataError
from radps_mpi.io import durable
from radps_mpi.io.ingest_plan import ObservationPlan
from radps_mpi.io.ingest_progress import TurnProgress, list_checksum
from radps_mpi.io.ingest_slab import (
    BLANK_REASONS,
    Buffers,
    OrientedRows,
    Slab,
    read_rows,
    read_slab,
    sorting_order,
)
from radps_mpi.io.measurement_set_rows import MainTable
from radps_mpi.io.store_writer import write_channels, write_rows
from radps_mpi.parallel import all_or_none, any_rank, merge_disjoint, on_root, total
from radps_mpi.parallel.exchange import exchange, gather_everywhere, sum_integers
from radps_mpi.parallel.stints import WallTime, work_in_stints
from radps_mpi.parallel.types import Comm

_SAMPLE_BYTES = 72
"""Most bytes alive per sample of a slab: data, flags and weights as read (twice, where their type must be changed), both sides
of the exchange, and the sorted result."""

_DUPLICATE_CELLS = 1 << 27
"""(time, baseline) cells looked at at once when duplicates are counted, a byte each."""


class TornStoreError(DataError):
    """A job ended, or lost its power, while it put a chunk's list of rows in order or completed the store. On all ranks."""


def turn_observation(
    comm: Comm, file: h5py.File, plan: ObservationPlan, memory_bytes: int, limit: WallTime, progress: TurnProgress,
    keep: Callable[[], None],
) -> ObservationMeta:
    """Fill one observation of an open store whose ``source_row`` lists rows of the MeasurementSet; collective.

    Goes on behind the chunks that ``progress`` says are done; rank 0 calls ``keep`` when more are on the disk and told in it.
    Returns the observation with everything counted that only the data can tell.

    Raises
    ------
    OutOfTimeError
        On all ranks when the job is to stop; what is done is kept.
    TornStoreError
        On all ranks if what an earlier job has left can't be gone on with.
    """
    meta, group = plan.meta, file[plan.meta.name]
    first = progress.chunks
    with all_or_none(comm, f"opening {meta.source}"):
        main = MainTable(meta.source)
        tile = main.tile_channels(meta.data_column)
    turn = _CornerTurn(comm, group, plan, memory_bytes, tile, progress)

    def commit() -> None:
        file.flush()
        with all_or_none(comm, f"syncing {file.filename}"), durable.naming(Path(file.filename), "syncing it"):
            durable.fsync_file(Path(file.filename))
        turn.tell(progress)
        on_root(comm, "keeping the progress of ingest", keep)

    try:
        work_in_stints(
            limit, meta.nchunk - first, f"turning {meta.source}", lambda step: turn.chunk(main, first + step), commit,
            lambda done: None, stopping=lambda: any_rank(comm, bool(alarm.asked())), commit_last=False, together=True,
        )
    finally:
        main.close()
    file.flush()
    comm.Barrier()
    turn.tell(progress)
    with all_or_none(comm, f"counting the duplicates of {meta.source}"):
        mine = _count_duplicates(comm, group, meta, progress.time_spans)
    duplicates = total(comm, mine)
    samples = np.array(progress.samples, np.int64)
    report = replace(
        meta.report, **progress.counts, duplicate_rows=duplicates, blank_channels=int((samples.sum(axis=1) == 0).sum())
    )
    return replace(meta, report=report, samples=samples, max_uv_m=progress.max_uv_m, max_w_m=progress.max_w_m)


def seal_lists(comm: Comm, group: h5py.Group, meta: ObservationMeta, progress: TurnProgress) -> None:
    """Note the checksums of the chunks' lists of rows, as they have just been made, in ``progress``; collective.

    Raises
    ------
    TornStoreError
        If a list names a row twice.
    """
    sums, mine = np.zeros(meta.nchunk, "S32"), np.arange(meta.nchunk) % comm.size == comm.rank
    torn = False
    with all_or_none(comm, f"reading the list of rows of {meta.source}"):
        for chunk in np.flatnonzero(mine).tolist():
            listed = np.sort(group["source_row"][slice(*meta.chunk_rows(chunk, chunk + 1))])
            torn |= bool((np.diff(listed) <= 0).any())
            sums[chunk] = list_checksum(listed).encode()
    if any_rank(comm, torn):
        raise TornStoreError(f"{group.file.filename}: its list of rows is damaged; ingest again")
    progress.listed = [text.decode() for text in merge_disjoint(comm, sums, mine).tolist()]


class _CornerTurn:
    """Rows in, channels out, for one observation; keeps what is counted on the way."""

    def __init__(
        self, comm: Comm, group: h5py.Group, plan: ObservationPlan, memory_bytes: int, tile: int,
        before: TurnProgress,
    ) -> None:
        self.comm, self.group, self.plan = comm, group, plan
        self.memory_bytes, self.tile, self.buffers = memory_bytes, tile, Buffers()
        self.samples = np.zeros((plan.meta.nchan, plan.meta.npol), dtype=np.int64)
        self.counts = dict.fromkeys(("swapped_rows", "bad_uvw_rows", *BLANK_REASONS), 0)
        if before.chunks and comm.rank == 0:  # sums over ranks: one of them has what earlier jobs counted
            self.samples += np.array(before.samples, np.int64)
            self.counts |= before.counts
        self.time_spans, self.listed = list(before.time_spans), before.listed
        self.max_uv_m, self.max_w_m = before.max_uv_m, before.max_w_m

    def tell(self, progress: TurnProgress) -> None:
        """Put what is done into ``progress``, the same on all ranks. Collective."""
        sums = sum_integers(self.comm, np.array(list(self.counts.values()), dtype=np.int64)).tolist()
        progress.counts = dict(zip(self.counts, sums, strict=True))
        progress.samples = sum_integers(self.comm, self.samples).tolist()
        progress.time_spans, progress.chunks = list(self.time_spans), len(self.time_spans)
        progress.max_uv_m, progress.max_w_m = self.max_uv_m, self.max_w_m

    def chunk(self, main: MainTable, chunk: int) -> None:
        """Turn one row chunk: a band of channels at a time, as many as the memory budget allows."""
        comm, meta = self.comm, self.plan.meta
        row0, row1 = meta.chunk_rows(chunk, chunk + 1)
        shares = _shares(row1 - row0, comm.size)
        with all_or_none(comm, f"reading the list of rows of {meta.source}"):
            faults.reach("ingest-chunk")
            # sorted, since a job that was killed here may have left them in the order of the store
            listed = np.sort(self.group["source_row"][row0:row1])
        if any_rank(comm, list_checksum(listed) != self.listed[chunk]):
            raise TornStoreError(f"{self.group.file.filename}: its list of rows is damaged; ingest again")
        with all_or_none(comm, f"reading rows of {meta.source}"):
            numbers = listed[shares[comm.rank] : shares[comm.rank + 1]]
            oriented = read_rows(main, self.plan, numbers)
            self._read_ahead(main, chunk + 1)
        rows = gather_everywhere(comm, oriented.rows)
        order = sorting_order(rows["uvw_m"])
        self._note_rows(rows, oriented)
        with all_or_none(comm, f"writing rows of {meta.source}"):
            if chunk % comm.size == comm.rank:
                write_rows(self.group, meta, rows[order], chunk)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        mine = np.argsort(place[shares[comm.rank] : shares[comm.rank + 1]])
        for start, stop in pairwise(shares.tolist()):
            place[start:stop].sort()  # every rank sends its rows in the order of the store
        for band in _bands(self.plan, row1 - row0, comm.size, self.memory_bytes, self.tile):
            with all_or_none(comm, f"reading {meta.source}"), timeline.span("read rows", chunk=chunk):
                slab = read_slab(main, self.plan, oriented, mine, band, self.buffers)
            for reason, count in slab.counts.items():
                self.counts[reason] += count
            with timeline.span("turn rows to channels, write", chunk=chunk):
                self._exchange_and_write(slab, band, shares, place, chunk)

    def _read_ahead(self, main: MainTable, chunk: int) -> None:
        """The disk is busy with the next chunk while this one is turned and written."""
        meta = self.plan.meta
        if chunk < meta.nchunk:
            row0, row1 = meta.chunk_rows(chunk, chunk + 1)
            shares = row0 + _shares(row1 - row0, self.comm.size)
            numbers = self.group["source_row"][shares[self.comm.rank] : shares[self.comm.rank + 1]]
            columns = [meta.data_column, "FLAG", *(["WEIGHT_SPECTRUM"] if meta.has_spectral_weight else [])]
            main.read_ahead(columns, numbers, self.memory_bytes)

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
        mine = band[0] + int(cuts[self.comm.rank])
        self.samples[slice(*band)] += slab.good
        blocks: dict[str, NDArray[Any]] = {"vis": slab.vis}
        if slab.weight is not None:
            blocks["weight"] = slab.weight
        if self.comm.size > 1:  # else everything is in its place
            with all_or_none(self.comm, "making room for the exchange"):  # or others would wait in it for one that has none
                rooms = {name: self._rooms(name, block, cuts, shares) for name, block in blocks.items()}
            blocks = {
                name: self._to_channels(block, cuts, shares, place, *rooms[name]) for name, block in blocks.items()
            }
        write_channels(self.comm, self.group, self.plan.meta, mine, chunk, blocks)

    def _rooms(
        self, name: str, block: NDArray[Any], cuts: NDArray[np.int64], shares: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Memory for what is received of a block and, (nline, nrow), for what becomes of it."""
        nline, nrow = int(cuts[self.comm.rank + 1] - cuts[self.comm.rank]) * block.shape[1], int(shares[-1])
        received = self.buffers.take(f"received {name}", (nline * nrow,), block.dtype)
        return received, self.buffers.take(f"sorted {name}", (nline, nrow), block.dtype)

    def _to_channels(
        self, block: NDArray[Any], cuts: NDArray[np.int64], shares: NDArray[np.int64], place: NDArray[np.int64],
        room: NDArray[Any], result: NDArray[Any],
    ) -> NDArray[Any]:  # fmt: skip
        """From all channels of my rows to all rows of my channels: (nchan, npol, nrow_mine) -> (nchan_mine, npol, nrow).

        ``cuts`` and ``shares`` (nrank + 1,) bound every rank's channels and rows; ``place`` (nrow,) is where each row
        goes; ``room`` and ``result`` are those of :meth:`_rooms`.
        """
        npol, (nline, nrow) = block.shape[1], result.shape
        counts = np.diff(shares) * nline
        sent = np.diff(cuts) * npol * block.shape[2]
        received = exchange(self.comm, block.reshape(-1), sent, counts, receive=room)
        pieces = np.split(received, np.cumsum(counts)[:-1])
        for piece, (row0, row1) in zip(pieces, pairwise(shares.tolist()), strict=True):
            place_rows(piece.reshape(nline, row1 - row0), place[row0:row1], result)
        return result.reshape(nline // npol, npol, nrow)


def _shares(count: int, nrank: int) -> NDArray[np.int64]:
    """Bounds (nrank + 1,) of contiguous, balanced shares."""
    return np.arange(nrank + 1, dtype=np.int64) * count // nrank


def _bands(plan: ObservationPlan, nrow: int, nrank: int, memory_bytes: int, tile: int) -> Iterator[tuple[int, int]]:
    """Bands of the store's channels whose samples, spread over the ranks, fit into the budget of each; their edges are those
    of the MeasurementSet's tiles of ``tile`` channels, where the budget has room for one, so that none is read twice."""
    per_rank = memory_bytes // (_SAMPLE_BYTES * nrow * plan.meta.npol)
    width = max(1, per_rank) * nrank
    start = plan.chan0
    if width > tile:
        width, start = width - width % tile, start - start % tile
    for edge in range(start, plan.chan1, width):
        low, high = max(edge, plan.chan0), min(edge + width, plan.chan1)
        yield (plan.chan1 - high, plan.chan1 - low) if plan.descending else (low - plan.chan0, high - plan.chan0)


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
        alarm.beat(f"counting the duplicates of {meta.source}")
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
