"""The plan of a run, from metadata alone: what ``--dry-run`` prints."""

from __future__ import annotations

from radps_mpi.config import RunConfig
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore
from radps_mpi.journey.describe import Description, describe
from radps_mpi.journey.summary import description_lines
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm


def outline(config: RunConfig, comm: Comm) -> str:
    """What would be made, where it is known without reading visibilities. Collective; writes nothing."""
    vis = config.selection.vis
    if any(path.endswith(SUFFIX) for path in vis):
        return str(on_root(comm, "planning", lambda: _outline_of_store(config, comm.size)))
    # python-casacore takes a second to load; plans from a store need not wait for it
    from radps_mpi.io.ingest_survey import survey

    surveyed = survey(comm, list(vis), config.selection)
    return str(on_root(comm, "planning", lambda: _lines(describe(config, surveyed), comm.size)))


def _outline_of_store(config: RunConfig, nrank: int) -> str:
    with VisibilityStore.open(config.selection.vis[0]) as store:
        return _lines(describe(config, store), nrank)


def _lines(description: Description, nrank: int) -> str:
    return "\n".join([*description_lines(description, nrank), *description.notes])
