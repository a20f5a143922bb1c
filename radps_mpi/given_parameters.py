"""Parameters of images as a command is given them: those of a file, under those of the flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radps_mpi.config import parameters, read_parameters
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm


def gather_parameters(given: Mapping[str, Any], comm: Comm) -> tuple[dict[str, Any], dict[str, str]]:
    """(values by name, what messages call each): of the file ``given["config"]`` under those of the flags.

    Collective: rank 0 reads the file, so that all ranks have one answer.
    """
    labels = {name: "--" + name.replace("_", "-") for name in parameters()} | {"vis": "inputs"}
    flat: dict[str, Any] = {}
    if "config" in given:
        path = given["config"]
        flat = on_root(comm, "reading the configuration", lambda: read_parameters(path))
        labels |= {name: f"{path}: {name}" for name in flat if name not in given}
    flat |= {name: value for name, value in given.items() if name in parameters()}
    if given.get("inputs"):
        flat["vis"] = given["inputs"]
    return flat, labels
