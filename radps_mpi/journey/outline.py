"""The plan of a run, from metadata alone: what ``--dry-run`` prints, and what is checked before anything is touched."""

from __future__ import annotations

from radps_mpi.config import RunConfig
from radps_mpi.io.preflight import look_at_store
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore
from radps_mpi.journey.describe import Description, describe
from radps_mpi.journey.inputs import named_store
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.summary import description_lines
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm


def preview(config: RunConfig, comm: Comm) -> Description:
    """What would be made, where it is known without reading visibilities. Collective; reads metadata, writes nothing.

    Raises
    ------
    UsageError, DataError
        Whatever is wrong with inputs, parameters or mask that can be told by now.
    """
    vis = config.selection.vis
    if any(path.endswith(SUFFIX) for path in vis):
        description: Description = on_root(comm, "planning the image", lambda: _of_store(config))
    else:
        # python-casacore takes a second to load; plans from a store need not wait for it
        from radps_mpi.io.ingest_survey import survey

        surveyed = survey(comm, list(vis), config.selection)
        with all_or_none(comm, "planning the image"):
            description = describe(config, surveyed)
    MaskSource(comm, description)
    return description


def outline(config: RunConfig, comm: Comm) -> str:
    """The plan as text; collective."""
    description = preview(config, comm)
    return "\n".join([*description_lines(description, comm.size), *description.notes])


def _of_store(config: RunConfig) -> Description:
    path = named_store(config)
    look_at_store(path)
    with VisibilityStore.open(path) as store:
        return describe(config, store)
