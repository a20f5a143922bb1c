"""The plan of a run, from metadata alone: what ``--dry-run`` prints, and what is checked before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass

from radps_mpi.config import RunConfig
from radps_mpi.imaging import primary_beams
from radps_mpi.io.preflight import look_at_store
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore
from radps_mpi.journey.describe import Description, describe
from radps_mpi.journey.inputs import named_store
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.space import Needs, needs, space_lacking
from radps_mpi.journey.summary import description_lines
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm


def preview(config: RunConfig, comm: Comm) -> tuple[Description, Needs]:
    """What would be made, where it is known without reading visibilities, and the room it takes. Collective; reads metadata,
    writes nothing.

    Raises
    ------
    UsageError, DataError
        Whatever is wrong with inputs, parameters or mask that can be told by now.
    """
    vis = config.selection.vis
    if any(path.endswith(SUFFIX) for path in vis):
        if config.image.pb_model != "none":
            primary_beams.load()  # on all ranks at once: each describes the image later on
        description: Description = on_root(comm, "planning the image", lambda: _of_store(config))
        needed = needs(description)
    else:
        # python-casacore takes a second to load; plans from a store need not wait for it
        from radps_mpi.io.ingest_survey import survey

        surveyed = survey(comm, list(vis), config.selection)
        with all_or_none(comm, "planning the image"):
            description = describe(config, surveyed)
        needed = needs(description, surveyed.observations)
    MaskSource(comm, description)
    return description, needed


@dataclass(frozen=True, slots=True)
class Outline:
    """The plan as text, and why the disk has no room for it ("" if it has)."""

    text: str
    lacking: str


def outline(config: RunConfig, comm: Comm) -> Outline:
    """The plan of a run; collective."""
    description, needed = preview(config, comm)
    lines = [*description_lines(description, comm.size, needed), *description.notes]
    lacking = on_root(comm, "looking for space", lambda: space_lacking(needed, description, resumes=False))
    return Outline("\n".join(lines), lacking)


def _of_store(config: RunConfig) -> Description:
    path = named_store(config)
    look_at_store(path)
    with VisibilityStore.open(path) as store:
        return describe(config, store)
