"""Going back to what is intact: every pattern of damage, against a model of what the slots held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radps_mpi.io.manifest import IMAGED, NO_SLOT, new_table
from radps_mpi.io.recovery import DAMAGED, latest_intact


def after(model_written: list[bool], mask_written: list[bool]) -> tuple[np.void, list[int], list[int]]:
    """The record after cycles in which model and mask were written or kept; which version was valid at each cycle."""
    record = new_table(1, masks=True)[0].copy()
    models, masks = [0], [0]
    for cycle, (new_model, new_mask) in enumerate(zip(model_written, mask_written, strict=True), start=1):
        record["cycle"], record["status"] = cycle, IMAGED
        if new_model:
            slot = 0 if record["slot"] == NO_SLOT else 1 - record["slot"]
            record["slot"], record["model_cycle"][slot], record["model_sum"][slot] = slot, cycle, cycle
            record["before"]["iterations"], record["iterations"] = record["iterations"], 10 * cycle
        if new_mask:
            slot = 0 if record["mask_slot"] == NO_SLOT else 1 - record["mask_slot"]
            record["mask_slot"], record["mask_cycle"][slot], record["mask_sum"][slot] = slot, cycle, cycle
        models.append(cycle if new_model else models[-1])
        masks.append(cycle if new_mask else masks[-1])
    return record, models, masks


cycles = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=0, max_size=7)


@given(cycles, st.sets(st.sampled_from([("model", 0), ("model", 1), ("mask", 0), ("mask", 1)])))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.fault(
    "corruption", "a pattern of damaged slots of models and masks (hypothesis)",
    "the latest true earlier state is gone back to",
)  # fmt: skip
def test_what_is_gone_back_to_is_a_true_earlier_state_and_the_latest_one(
        injected: Callable[..., None], writes: list[tuple[bool, bool]], damaged: set[tuple[str, int]]) -> None:
    injected(int(bool(damaged)))
    record, models, masks = after([m for m, _ in writes], [k for _, k in writes])
    found = latest_intact(record, lambda name, slot: (name, slot) not in damaged)
    cycle = int(found["cycle"])
    model = 0 if found["slot"] == NO_SLOT else int(record["model_cycle"][found["slot"]])
    mask = 0 if found["mask_slot"] == NO_SLOT else int(record["mask_cycle"][found["mask_slot"]])
    assert (models[cycle], masks[cycle]) == (model, mask)
    assert ("model", int(found["slot"])) not in damaged and ("mask", int(found["mask_slot"])) not in damaged
    readable_models = {0} | {int(c) for s, c in enumerate(record["model_cycle"]) if ("model", s) not in damaged}
    readable_masks = {0} | {int(c) for s, c in enumerate(record["mask_cycle"]) if ("mask", s) not in damaged}
    known = [c for c in range(len(models)) if models[c] in readable_models and masks[c] in readable_masks]
    reachable = [c for c in known if c == 0 or forgotten_starts_are_not_guessed(record, models, masks, c)]
    assert cycle == max(reachable)
    assert found["iterations"] == 10 * model


def forgotten_starts_are_not_guessed(record: np.void, models: list[int], masks: list[int], cycle: int) -> bool:
    """Once both slots have been written, when the start ended isn't known any more: only cycle 0 surely had it."""
    model_known = models[cycle] != 0 or (record["model_cycle"] == -1).any()
    mask_known = masks[cycle] != 0 or (record["mask_cycle"] == -1).any()
    return bool(model_known and mask_known)


def test_an_intact_record_is_returned_itself() -> None:
    record, _, _ = after([True, True], [True, False])
    assert latest_intact(record, lambda name, slot: True) is record


def test_a_damaged_slot_is_not_taken_for_one_never_written() -> None:
    record, _, _ = after([True, True, True], [False] * 3)
    found = latest_intact(record, lambda name, slot: slot != record["slot"])
    assert found["cycle"] == 2 and found["model_cycle"].tolist().count(DAMAGED) == 1
    assert latest_intact(found, lambda name, slot: False)["cycle"] == 0


def test_the_record_given_is_not_changed() -> None:
    record, _, _ = after([True, True], [True, True])
    before = record.tobytes()
    latest_intact(record, lambda name, slot: False)
    assert record.tobytes() == before


def test_a_residual_of_a_later_model_is_forgotten() -> None:
    record, _, _ = after([True, True], [False, False])
    record["residual_cycle"], record["residual_sum"] = 2, 7
    found = latest_intact(record, lambda name, slot: slot != record["slot"])
    assert found["cycle"] == 1 and found["residual_cycle"] == -1 and not found["residual_sum"].any()
