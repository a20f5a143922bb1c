"""Does the state on the disk have the checksums that the manifest vouches for? Read-only, spread over the ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radps_mpi.errors import DataError
from radps_mpi.io import manifest as manifests
from radps_mpi.io.commit import MANIFEST_NAME, STATE_NAME, layout_of, read_together
from radps_mpi.io.durable import naming
from radps_mpi.io.manifest import NO_SLOT, Manifest
from radps_mpi.io.recovery import latest_intact, mask_slot
from radps_mpi.io.state_file import StateFile, StateLayout, read_structure
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm


@dataclass(frozen=True, slots=True)
class Finding:
    """``damage``: True if something committed can't be read back; False for what a kill in mid-cycle leaves behind and
    a resumed run makes good by itself. ``chan`` is None for what concerns the whole run."""

    damage: bool
    what: str
    chan: int | None = None

    def __str__(self) -> str:
        place = "" if self.chan is None else f"channel {self.chan}: "
        return f"{'damage' if self.damage else 'note'}: {place}{self.what}"


def verify(comm: Comm, directory: Path) -> list[Finding]:
    """Read every committed plane of a run directory and compare; all findings on all ranks, by channel. Collective.

    Don't call it while the run is going on: planes in progress would look torn.

    Raises
    ------
    DataError
        If neither manifest can be used, or the state file is missing.
    """
    manifest, found = read_together(comm, lambda: _manifest_findings(directory))
    layout = layout_of(manifest, directory)
    path = directory / STATE_NAME
    found += on_root(comm, f"checking {path}", lambda: _structure_findings(path, layout))
    mine: list[Finding] = []
    with all_or_none(comm, f"verifying {path}"):
        state = StateFile(path, layout, writable=False)
        for chan in range(comm.rank, layout.nchan, comm.size):
            mine += _channel_findings(state, manifest, chan)
        state.close()
    everyone = [finding for rank in comm.allgather(mine) for finding in rank]
    return found + sorted(everyone, key=lambda finding: (finding.chan or 0, finding.what))


def _manifest_findings(directory: Path) -> tuple[Manifest, list[Finding]]:
    path = directory / MANIFEST_NAME
    manifest, notes = manifests.load(path)
    found = [Finding(True, note) for note in notes]
    previous = manifests.previous_of(path)
    if not notes and previous.exists():
        try:
            manifests.read(previous)
        except DataError as error:
            found.append(Finding(True, str(error)))
    return manifest, found


def _structure_findings(path: Path, layout: StateLayout) -> list[Finding]:
    if not path.is_file():
        raise DataError(f"{path}: missing, though the manifest describes it")
    with naming(path, "reading it"), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        sound = read_structure(file.fileno(), layout) == layout.structure
    found = [] if sound else [Finding(True, f"{path}: HDF5 structure differs from the manifest's copy")]
    if size < layout.file_bytes:
        found.append(Finding(True, f"{path}: {size} bytes, {layout.file_bytes} expected"))
    return found


def _channel_findings(state: StateFile, manifest: Manifest, chan: int) -> list[Finding]:
    record = manifest.table[chan]
    found = []

    def intact(name: str, slot: int) -> bool:
        return state.read_plane(name, slot, chan, record[f"{name}_sum"][slot]) is not None

    for name in ("psf", "residual"):
        total = record[f"{name}_sum"]
        if np.any(total) and state.read_plane(name, 0, chan, total) is None:
            what = f"{name} doesn't have its checksum; a resumed run computes it again"
            found.append(Finding(name == "psf", what, chan))
    for name, slot in (("model", int(record["slot"])), ("mask", mask_slot(record))):
        if slot == NO_SLOT:
            continue
        if not intact(name, slot):
            good, cycle = int(latest_intact(record, intact)["cycle"]), int(record["cycle"])
            after = f"a resumed run goes back to cycle {good}" if good == cycle - 1 else (
                f"nor is cycle {cycle - 1} left, from which a resumed run could make it again: start the run again"
            )
            found.append(Finding(True, f"{name} of cycle {cycle} doesn't have its checksum; {after}", chan))
        if np.any(record[f"{name}_sum"][1 - slot]) and not intact(name, 1 - slot):
            found.append(Finding(False, f"older {name} is overwritten by uncommitted work, or damaged", chan))
    return found
