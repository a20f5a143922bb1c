"""Ingest: MeasurementSets, stored by row, become a visibility store, stored by channel. The corner turn, in parallel.

Each rank reads its rows of a row chunk, an all-to-all exchange gives each rank its channels of the chunk, and all write
together. Memory is bounded by a budget, whatever the size of the data; the result doesn't depend on the number of
ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial as partial_call
from pathlib import Path

import h5py

from radps_mpi import alarm
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import EXIT_IO, DataError, OutOfTimeError, StorageError, UsageError
from radps_mpi.io import durable, hdf5, ingest_progress
from radps_mpi.io.ingest_plan import ObservationPlan, plan_source
from radps_mpi.io.ingest_progress import TurnProgress
from radps_mpi.io.ingest_scan import Pair, scan_source, segments_of, selected_rows, split_pairs
from radps_mpi.io.ingest_turn import TornStoreError, seal_lists, turn_observation
from radps_mpi.io.measurement_set import SetTables, describe
from radps_mpi.io.measurement_set_rows import MainTable
from radps_mpi.io.preflight import look_at_measurement_set
from radps_mpi.io.selection import (
    RowChoice,
    Selection,
    SelectionOptions,
    choose_data_column,
    resolve,
    selection_per_source,
)
from radps_mpi.io.store_writer import doppler_factors, finish, lay_out, partial_path
from radps_mpi.io.visibility_store import ROW_CHUNK
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.stints import WallTime
from radps_mpi.parallel.types import Comm

MEMORY_BYTES = 1 << 30
"""Default budget per rank for the arrays of one slab."""


def ingest(
    comm: Comm,
    sources: Sequence[str],
    selection: Sequence[Selection] | SelectionOptions,
    path: str | os.PathLike[str],
    *,
    memory_bytes: int = MEMORY_BYTES,
    row_chunk: int = ROW_CHUNK,
    limit: WallTime | None = None,
) -> tuple[ObservationMeta, ...]:
    """Write the selected visibilities of MeasurementSets into a new visibility store at ``path``. Collective.

    The store is written beside ``path`` as ``<path>.partial`` and put in its place when it is complete and on stable
    storage; an older store is untouched until then. An ingest that was killed, stopped at its ``limit``, or refused by a full
    disk goes on from its last finished chunk when the same one is asked for again.

    Parameters
    ----------
    sources, selection : MeasurementSets, and what to take of each: one :class:`Selection` per MeasurementSet, or the
    run's
        configuration.
    memory_bytes : budget per rank for the data of a slab; does not change the result.
    row_chunk : rows per chunk; part of the format's contract between stores that are compared.
    limit : when to stop; never, where it is None.

    Returns
    -------
    The observations in the store, each with its counts (``.report``).

    Raises
    ------
    UsageError, DataError, StorageError, OutOfTimeError
        On every rank, with one clear line.
    """
    selections = selection_per_source(selection, len(sources)) if isinstance(selection, SelectionOptions) else selection
    if len(sources) != len(selections) or not sources:
        raise UsageError(f"{len(selections)} selections for {len(sources)} MeasurementSets")
    final = Path(path)
    planned = _plan(comm, sources, selections, row_chunk)
    key, found = on_root(
        comm, f"looking for {partial_path(final)}",
        lambda: _look_for_progress(partial_path(final), sources, selections, row_chunk, len(planned[2])),
    )  # fmt: skip
    limit = limit or WallTime(comm, float("inf"))
    try:
        try:
            return _make(comm, final, planned, memory_bytes, limit, key, found)
        except TornStoreError:
            if found is None:
                raise
            return _make(comm, final, planned, memory_bytes, limit, key, None)
    except OutOfTimeError:
        raise
    except Exception as error:
        if comm.rank == 0 and not _can_go_on(partial_path(final), error):
            with suppress(StorageError):  # why it failed is what must be told
                _forget(partial_path(final))
        raise


def _can_go_on(partial: Path, error: Exception) -> bool:
    """After a refusal of the file system, another rank's too, what is done is worth keeping: there may be room tomorrow."""
    return getattr(error, "exit_status", None) == EXIT_IO and ingest_progress.progress_path(partial).exists()


def _make(
    comm: Comm,
    final: Path,
    planned: tuple[list[SetTables], list[RowChoice], list[ObservationPlan]],
    memory_bytes: int,
    limit: WallTime,
    key: str,
    found: list[TurnProgress] | None,
) -> tuple[ObservationMeta, ...]:
    partial, (tables, choices, plans) = partial_path(final), planned
    if found is None:
        on_root(comm, f"laying out {partial}", lambda: _start_over(partial, plans))
    progress = found or [TurnProgress() for _ in plans]
    keep = partial_call(ingest_progress.save, partial, key, progress)
    finished = _fill(comm, partial, tables, choices, plans, memory_bytes, limit, progress, keep, listed=found is not None)
    times = [plan.times_s for plan in plans]
    finish(comm, final, finished, times, doppler_factors(comm, finished, times))
    on_root(comm, "ending the ingest", lambda: ingest_progress.forget(partial))
    return finished


def _look_for_progress(
    partial: Path, sources: Sequence[str], selections: Sequence[Selection], row_chunk: int, nplan: int
) -> tuple[str, list[TurnProgress] | None]:
    with durable.naming(partial, "looking for it"):
        key = ingest_progress.request_key(sources, selections, row_chunk)
        return key, ingest_progress.load(partial, key, nplan)


def _start_over(partial: Path, plans: Sequence[ObservationPlan]) -> None:
    ingest_progress.forget(partial)
    lay_out(partial, [plan.meta for plan in plans])


def _forget(partial: Path) -> None:
    ingest_progress.forget(partial)
    with durable.naming(partial, "removing it"):
        partial.unlink(missing_ok=True)


def report_lines(meta: ObservationMeta) -> list[str]:
    """What ingest did to an observation, for the log: one line of what it is, one of every count that isn't zero."""
    report = meta.report
    span = f"{meta.freq_hz[0] / 1e6:.6f} to {meta.freq_hz[-1] / 1e6:.6f} MHz {meta.frequency_frame}"
    head = (
        f"{meta.source}: field {meta.field_id} ({meta.field_name}), spw {meta.spw_id}: {meta.nrow} rows, "
        f"{meta.nchan} channels ({span}), {' '.join(meta.corr_types)}, {meta.data_column}, {meta.weight_column}"
    )
    share = 100.0 * report.good_samples / max(report.samples, 1)
    counts = [f"{name.replace('_', ' ')} {count}" for name, count in report.as_dict().items()
              if count and name not in ("rows", "samples")]  # fmt: skip
    return [head, f"  {share:.2f} % of {report.samples} samples good; " + (", ".join(counts) or "nothing left out")]


def plan_observations(
    comm: Comm, sources: Sequence[str], selection: SelectionOptions, *, row_chunk: int = ROW_CHUNK, with_uvw: bool = False
) -> list[ObservationPlan]:
    """What :func:`ingest` would store, decided from tables and row columns without reading visibilities; lengths of baselines
    are known if ``with_uvw``. Collective."""
    return _plan(comm, sources, selection_per_source(selection, len(sources)), row_chunk, with_uvw=with_uvw)[2]


# Planning -----------------------------------------------------------------------------------------------------------


def _plan(
    comm: Comm, sources: Sequence[str], selections: Sequence[Selection], row_chunk: int, *, with_uvw: bool = False
) -> tuple[list[SetTables], list[RowChoice], list[ObservationPlan]]:
    tables: list[SetTables] = []
    choices: list[RowChoice] = []
    plans: list[ObservationPlan] = []
    for index, (source, selection) in enumerate(zip(sources, selections, strict=True)):
        described, column, first_time_s = on_root(comm, f"reading {source}", partial_call(_describe, source, selection))
        choice = resolve(selection, described, first_time_s)
        scan = scan_source(comm, described, choice, with_uvw=with_uvw)
        if not scan:
            raise DataError(f"{source}: no rows are selected{_nothing_left(described, selection)}")
        plans += on_root(
            comm,
            f"planning {source}",
            partial_call(
                plan_source,
                index,
                described,
                choice,
                scan,
                data_column=column,
                first_index=len(plans),
                row_chunk=row_chunk,
            ),
        )
        tables.append(described)
        choices.append(choice)
    return tables, choices, plans


def _describe(source: str, selection: Selection) -> tuple[SetTables, str, float]:
    look_at_measurement_set(source)
    tables = describe(source)
    column = choose_data_column(selection.datacolumn, tables)
    with MainTable(source) as main:
        return tables, column, main.first_time_s()


def _nothing_left(tables: SetTables, selection: Selection) -> str:
    if tables.nrow == 0:
        return ": the MeasurementSet has no rows"
    given = [
        f"{name} {text!r}"
        for name in Selection.__slots__
        if (text := getattr(selection, name)) and name != "datacolumn"
    ]
    return f" by {', '.join(given)}" if given else ": it holds autocorrelations only"


# Data ---------------------------------------------------------------------------------------------------------------


def _fill(
    comm: Comm,
    partial: Path,
    tables: Sequence[SetTables],
    choices: Sequence[RowChoice],
    plans: Sequence[ObservationPlan],
    memory_bytes: int,
    limit: WallTime,
    progress: Sequence[TurnProgress],
    keep: Callable[[], None],
    *,
    listed: bool,
) -> tuple[ObservationMeta, ...]:
    try:
        file = hdf5.open_for_writing(partial, comm)
    except StorageError as error:
        if listed:
            raise TornStoreError(str(error)) from error
        raise
    try:
        for source, (described, choice) in enumerate(zip(tables, choices, strict=True)):
            if listed:
                break
            own = {(p.meta.field_id, p.meta.data_desc_id): p for p in plans if p.meta.source_index == source}
            with all_or_none(comm, f"listing the rows of {described.path}"):
                _list_rows(comm, file, described, choice, own)
        file.flush()
        comm.Barrier()
        if not listed:
            with all_or_none(comm, f"syncing {partial}"), durable.naming(partial, "syncing it"):
                durable.fsync_file(partial)
            for plan, done in zip(plans, progress, strict=True):
                seal_lists(comm, file[plan.meta.name], plan.meta, done)
            on_root(comm, "keeping the progress of ingest", keep)
        return tuple(
            turn_observation(comm, file, plan, memory_bytes, limit, done, keep)
            for plan, done in zip(plans, progress, strict=True)
        )
    finally:
        file.close()


def _list_rows(
    comm: Comm, file: h5py.File, tables: SetTables, choice: RowChoice, plans: dict[Pair, ObservationPlan]
) -> None:
    """Put each observation's row numbers into the store, in the MeasurementSet's order for now."""
    with MainTable(tables.path) as main:
        for segment, start, nrow in segments_of(tables, comm.rank, comm.size):
            alarm.beat(f"listing the rows of {tables.path}")
            rows, numbers = selected_rows(main, tables, choice, start, nrow)
            cross = rows["ANTENNA1"] != rows["ANTENNA2"]
            for pair, inside in split_pairs(rows):
                mine = numbers[inside & cross]
                if len(mine):
                    first = plans[pair].row_start[segment]
                    file[plans[pair].meta.name]["source_row"][first : first + len(mine)] = mine

