"""Which earlier state of a channel can be trusted when a plane of the committed one is damaged: pure bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from radps_mpi.io.manifest import FINISHED, IMAGED, NO_SLOT, PROGRESS

NEVER_WRITTEN = -1
DAMAGED = -2
"""Cycle of a slot whose content was found damaged: unlike NEVER_WRITTEN it doesn't mean that the model was zero
before."""


class Version(NamedTuple):
    """A model or mask and the cycles, both inclusive, at whose end it was the channel's."""

    slot: int
    first: int
    last: int


def model_versions(record: np.void) -> list[Version]:
    """What the record knows of the channel's model, newest first. NO_SLOT is the run's start (zero, or its start
    model)."""
    return _versions(int(record["slot"]), record["model_cycle"].tolist(), int(record["cycle"]))


def mask_versions(record: np.void) -> list[Version]:
    """The same for its mask; NO_SLOT means that none is stored."""
    slot, cycle = mask_slot(record), int(record["cycle"])
    return [Version(NO_SLOT, 0, cycle)] if slot == NO_SLOT else _versions(slot, record["mask_cycle"].tolist(), cycle)


def mask_slot(record: np.void) -> int:
    """The slot of the channel's mask, NO_SLOT too where the state stores none."""
    return int(record["mask_slot"]) if "mask_slot" in (record.dtype.names or ()) else NO_SLOT


def _versions(slot: int, written: list[int], now: int) -> list[Version]:
    if slot == NO_SLOT:
        return [Version(NO_SLOT, 0, now)]
    current, older = written[slot], written[1 - slot]
    found = [Version(slot, current, now)]
    if 0 <= older < current:
        found.append(Version(1 - slot, older, current - 1))
    found.append(Version(NO_SLOT, 0, max(current - 1, 0) if older == NEVER_WRITTEN else 0))
    return found


def latest_intact(record: np.void, intact: Callable[[str, int], bool]) -> np.void:
    """The newest state of a channel whose model and mask both pass ``intact(name, slot)``: a record of that cycle.

    Always finds one: cycle 0 without model and mask. ``record`` itself is returned when it is intact.
    """
    pairs = product(model_versions(record), mask_versions(record))
    usable = [(min(a.last, b.last), a, b) for a, b in pairs if max(a.first, b.first) <= min(a.last, b.last)]
    verdicts: dict[tuple[str, int], bool] = {}

    def good(name: str, slot: int) -> bool:
        if slot == NO_SLOT:
            return True
        if (name, slot) not in verdicts:
            verdicts[name, slot] = intact(name, slot)
        return verdicts[name, slot]

    for cycle, model, mask in sorted(usable, key=lambda candidate: -candidate[0]):
        if good("model", model.slot) and good("mask", mask.slot):
            if (cycle, model.slot, mask.slot) == (record["cycle"], record["slot"], mask_slot(record)):
                return record
            return _rewound(record, cycle, model, mask.slot)
    return _rewound(record, 0, Version(NO_SLOT, 0, 0), NO_SLOT)


def _rewound(record: np.void, cycle: int, model: Version, mask: int) -> np.void:
    """The record as it was at the end of ``cycle``, slots of later cycles or of no use forgotten."""
    then = record.copy()
    then["cycle"], then["slot"] = cycle, model.slot
    then["status"] = min(int(record["status"]), IMAGED) if record["status"] == FINISHED else record["status"]
    for slot in {0, 1} - {model.slot}:
        _forget(then["model_cycle"], then["model_sum"], slot)
    if "mask_slot" in (record.dtype.names or ()):
        then["mask_slot"] = mask
        for slot in {0, 1} - {mask}:
            _forget(then["mask_cycle"], then["mask_sum"], slot)
    if model.slot != record["slot"]:
        for name in PROGRESS.names or ():
            then[name] = record["before"][name] if model.slot != NO_SLOT else 0
    if not model.first <= record["residual_cycle"] <= model.last:
        then["residual_cycle"], then["residual_sum"] = -1, 0
    return then


def _forget(cycles: Any, sums: Any, slot: int) -> None:
    if cycles[slot] != NEVER_WRITTEN:
        cycles[slot] = DAMAGED
        sums[slot] = 0
