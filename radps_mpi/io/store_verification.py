"""Do the visibilities on the disk have the checksums that their store declares? Read-only, spread over the ranks."""

from __future__ import annotations

from pathlib import Path

from radps_mpi.config_toml import parse_toml
from radps_mpi.errors import DataError
from radps_mpi.io.preflight import look_at_store
from radps_mpi.io.run_directory import CONFIG_NAME
from radps_mpi.io.verification import Finding
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm

STORE_SUFFIX = ".vis.h5"


def stores_of_run(root: Path) -> list[str]:
    """Paths of the visibility stores that a run directory holds, or that its configuration names as inputs."""
    inside = sorted(str(path) for path in root.glob(f"*{STORE_SUFFIX}"))
    config = root / CONFIG_NAME
    inputs = parse_toml(config.read_text(encoding="utf-8"), str(config)).get("vis", []) if config.exists() else []
    named = [inputs] if isinstance(inputs, str) else inputs
    return list(dict.fromkeys([*inside, *(path for path in named if path.endswith(STORE_SUFFIX))]))


def verify_store(comm: Comm, path: str) -> list[Finding]:
    """Read the whole store at ``path``, each rank its share of channels; all findings on all ranks. Collective.

    Raises
    ------
    DataError
        If the store can't be opened: missing, of another version, or damaged in its metadata.
    """
    on_root(comm, f"checking {path}", lambda: look_at_store(path))
    mine: list[Finding] = []
    with all_or_none(comm, f"verifying {path}"):
        mine = damage_in_share(path, comm.rank, comm.size)
    return list(dict.fromkeys(finding for rank in comm.allgather(mine) for finding in rank))  # rows are read by all


def damage_in_share(path: str, rank: int, nrank: int) -> list[Finding]:
    """Read the channels of each observation that are rank ``rank``'s of ``nrank``; the first damage in each share."""
    found = []
    with VisibilityStore.open(path) as store:
        for meta in store.observations:
            chan0, chan1 = (meta.nchan * edge // nrank for edge in (rank, rank + 1))
            try:
                if chan1 > chan0:
                    store.verify(meta.index, chan0, chan1)
            except DataError as error:
                found.append(Finding(True, str(error)))
    return found
