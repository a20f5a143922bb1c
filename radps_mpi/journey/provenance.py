"""What provenance.json says of a run: where and with what a job ran, what it imaged, what a resume changed."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from radps_mpi.config import RunConfig, differences
from radps_mpi.errors import DataError
from radps_mpi.imaging import fftw
from radps_mpi.io.run_status import read_provenance
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import library_version
from radps_mpi.parallel.types import Comm
from radps_mpi.planning import machine

JOB_VARIABLES = (
    "SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT",
    "PBS_JOBID", "LSB_JOBID",
)
"""By which the batch system's own books know a job."""

IMAGING = "imaging"
"""Event: inputs and parameters are accepted, the work on images begins."""

_ENDS = ("finished", "stopped", "failed")


def hosts_of(comm: Comm) -> dict[str, int]:
    """Ranks by the name of their host, in the order of ranks; on rank 0, empty elsewhere. Collective."""
    return dict(Counter(comm.gather(os.uname().nodename, root=0) or ()))


def start_of_job(root: Path, event: str, hosts: Mapping[str, int], inputs: Sequence[str]) -> dict[str, Any]:
    """A start or resume: where, as which job, by which command and versions; for one process.

    A resume says how the job before it ended; "interrupted" where that left no word: it was killed, or its node was lost.
    """
    about = {
        "ranks": sum(hosts.values()),
        "hosts": dict(hosts),
        "processor": machine.cpu_model(),
        "job": {name: os.environ[name] for name in JOB_VARIABLES if os.environ.get(name)},
        "pid": os.getpid(),
        "command": list(sys.argv),
        "python": sys.version.split()[0],
        "versions": machine.package_versions(),
        "libraries": {"MPI": library_version(), "HDF5": h5py.version.hdf5_version, "FFTW": fftw.version},
        "inputs": list(inputs),
    }
    if event == "started":
        return about
    return about | {"after": _how_it_ended(root)}


@dataclass(frozen=True, slots=True)
class Imaged:
    """What a state is made with: parameters, and what tells its mask from another (an image may be replaced under its name)."""

    config: RunConfig
    mask: list[str]

    def differences_from(self, before: Imaged) -> dict[str, Any]:
        """``{parameter: {"from", "to"}}``."""
        was, now = before.config.flat(), self.config.flat()
        changed = {name: {"from": was[name], "to": now[name]} for name in differences(before.config, self.config)}
        if before.mask != self.mask:
            changed["mask"] = {"from": before.mask, "to": self.mask}
        return changed


def imaged(now: Imaged, before: Imaged | None, store: VisibilityStore) -> dict[str, Any]:
    """Of an ``imaging`` event: hashes of what is imaged, and all parameters, or what has changed in those that the state had
    ``before``. For one process."""
    observations = [{"name": meta.name, "source": meta.source} for meta in store.observations]
    about: dict[str, Any] = {
        "visibilities": {"path": str(store.path), "xxh3_128": store.fingerprint(), "observations": observations},
        "mask": now.mask,
    }
    return about | ({"config": now.config.flat()} if before is None else {"changed": now.differences_from(before)})


def _how_it_ended(root: Path) -> str:
    try:
        last = read_provenance(root)[-1:]
    except DataError:  # the file is set aside when the next event is added
        return "unknown"
    event = last[0].get("event") if last and isinstance(last[0], dict) else None
    return event if event in _ENDS else "interrupted"
