"""The plan of a run, from metadata alone: what ``--dry-run`` prints."""

from __future__ import annotations

from radps_mpi.config import RunConfig
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore
from radps_mpi.journey.describe import describe
from radps_mpi.journey.summary import description_lines
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm


def outline(config: RunConfig, comm: Comm) -> str:
    """What would be made, where it is known without reading visibilities. Collective; writes nothing."""
    return str(on_root(comm, "planning", lambda: _outline(config, comm.size)))


def _outline(config: RunConfig, nrank: int) -> str:
    vis = config.selection.vis
    if any(path.endswith(SUFFIX) for path in vis):
        with VisibilityStore.open(vis[0]) as store:
            description = describe(config, store)
            return "\n".join([*description_lines(description, nrank), *description.notes])
    from radps_mpi.io.ingest import survey

    description = describe(config, survey(list(vis), config.selection))
    return "\n".join([*description_lines(description, nrank), *description.notes])
