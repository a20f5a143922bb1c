"""The visibility store of a run: the one that was named, or one made from MeasurementSets inside the run directory."""

from __future__ import annotations

from pathlib import Path

from radps_mpi.config import RunConfig, SelectionConfig
from radps_mpi.errors import UsageError
from radps_mpi.io.preflight import look_at_store
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore, forget_finished_ingest
from radps_mpi.journey.reporting import Reporter
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.stints import WallTime
from radps_mpi.parallel.types import Comm

STORE_NAME = "visibilities" + SUFFIX


def open_store(comm: Comm, config: RunConfig, directory: Path, report: Reporter, limit: WallTime) -> VisibilityStore:
    """The store to image, opened by every rank; ingests MeasurementSets first if the run has not done so. Collective.

    A store in the run directory is complete (ingest renames it into place last) and belongs to this run's selection, since a
    run directory keeps one configuration.
    """
    vis = config.selection.vis
    if any(path.endswith(SUFFIX) for path in vis):
        path = named_store(config)
    else:
        path = directory / STORE_NAME
        on_root(comm, "looking for the visibility store", lambda: forget_finished_ingest(path))
        if not on_root(comm, "looking for the visibility store", path.exists):
            _ingest(comm, config, path, report, limit)
    on_root(comm, f"checking {path}", lambda: look_at_store(path))
    return _open_together(comm, path)


def _open_together(comm: Comm, path: Path) -> VisibilityStore:
    """Rank 0 reads and checks the metadata, which grow with channels and rows; the others get them from it."""
    store: VisibilityStore | None = None
    with all_or_none(comm, f"opening {path}"):
        if comm.rank == 0:
            store = VisibilityStore.open(path)
    metadata = comm.bcast(None if store is None else store.metadata, root=0)
    with all_or_none(comm, f"opening {path}"):
        return store or VisibilityStore.attach(path, metadata)


def named_store(config: RunConfig) -> Path:
    """The store among the inputs. UsageError if it isn't alone, or if something is to be selected from it."""
    vis = config.selection.vis
    if len(vis) > 1:
        raise UsageError("inputs: one visibility store, or any number of MeasurementSets; ingest them into one store first")
    changed = [
        name for name in SelectionConfig.model_fields
        if name != "vis" and getattr(config.selection, name) != SelectionConfig.model_fields[name].default
    ]
    if changed:
        raise UsageError(f"{changed[0]}: a visibility store holds what was selected when it was made; select in radps ingest")
    return Path(vis[0])


def _ingest(comm: Comm, config: RunConfig, path: Path, report: Reporter, limit: WallTime) -> None:
    # python-casacore takes a second to load; runs on a store need not wait for it
    from radps_mpi.io.ingest import ingest, report_lines

    report.phase("ingest", len(config.selection.vis))
    for meta in ingest(comm, list(config.selection.vis), config.selection, path, limit=limit):
        for line in report_lines(meta):
            report.note(line)
