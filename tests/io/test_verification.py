"""radps verify: damage is told from what a kill leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from radps_mpi.errors import DataError
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.verification import verify
from radps_mpi.parallel import world

NCHAN, NY, NX = 3, 16, 16


@pytest.fixture
def state(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint.create(world(), tmp_path, {}, (NCHAN, NY, NX))
    for cycle in (0, 1, 2):
        step(checkpoint, cycle)
        checkpoint.commit()
    return checkpoint


def step(checkpoint: Checkpoint, cycle: int) -> None:
    for chan in range(NCHAN):
        values = np.random.default_rng([chan, cycle]).standard_normal((NY, NX), np.float32)
        if cycle == 0:
            checkpoint.stage(chan, psf=values, residual=values)
        else:
            checkpoint.stage(chan, model=values, mask=(values > 0).astype(np.uint8), residual=values)


def damage(checkpoint: Checkpoint, offset: int) -> None:
    fd = os.open(checkpoint.state.path, os.O_RDWR)
    byte = os.pread(fd, 1, offset)[0]
    os.pwrite(fd, bytes([byte ^ 1]), offset)
    os.close(fd)


def texts(checkpoint: Checkpoint) -> list[str]:
    return [str(finding) for finding in verify(world(), checkpoint.directory)]


def test_an_untouched_state_has_no_findings(state: Checkpoint) -> None:
    assert verify(world(), state.directory) == []


@pytest.mark.parametrize(("dataset", "expected"), [
    ("psf", "damage: channel 1: psf doesn't have its checksum; a resumed run computes it again"),
    ("residual", "note: channel 1: residual doesn't have its checksum; a resumed run computes it again"),
    ("model_1", "damage: channel 1: model of cycle 2 doesn't have its checksum; a resumed run goes back to cycle 1"),
    ("mask_1", "damage: channel 1: mask of cycle 2 doesn't have its checksum; a resumed run goes back to cycle 1"),
    ("model_0", "note: channel 1: older model is overwritten by uncommitted work, or damaged"),
    ("mask_0", "note: channel 1: older mask is overwritten by uncommitted work, or damaged")])
@pytest.mark.fault(
    "corruption", "one flipped bit in a plane of the state, radps verify",
    "one finding, which says what a resume will do",
)  # fmt: skip
def test_one_flipped_bit_is_one_finding(state: Checkpoint, dataset: str, expected: str) -> None:
    damage(state, state.state.layout.offset_bytes[dataset] + state.state.layout.plane_bytes(dataset) + 3)
    assert texts(state) == [expected]


@pytest.mark.fault(
    "corruption", "both models of a channel changed, radps verify",
    "it says that the run has to be started again, as a resume does",
)  # fmt: skip
def test_a_model_that_cannot_be_made_again_is_not_promised(state: Checkpoint) -> None:
    for slot in (0, 1):
        damage(state, state.state.layout.offset_bytes[f"model_{slot}"] + state.state.layout.plane_bytes("model") + 3)
    found = texts(state)
    assert found[0] == (
        "damage: channel 1: model of cycle 2 doesn't have its checksum; nor is cycle 1 left, from which a resumed run could "
        "make it again: start the run again"
    )
    assert found[1:] == ["note: channel 1: older model is overwritten by uncommitted work, or damaged"]


def test_work_in_progress_is_noted_and_not_called_damage(state: Checkpoint) -> None:
    step(state, 3)
    findings = verify(world(), state.directory)
    assert {finding.chan for finding in findings} == set(range(NCHAN))
    assert not any(finding.damage for finding in findings)


@pytest.mark.fault(
    "corruption", "one flipped bit in the state's HDF5 structure, radps verify",
    "one finding; nothing is changed",
)  # fmt: skip
def test_a_damaged_structure_is_found_and_left_as_it_is(state: Checkpoint) -> None:
    damage(state, 8)
    before = state.state.path.read_bytes()
    assert len(texts(state)) == 1 and "structure differs" in texts(state)[0]
    assert state.state.path.read_bytes() == before


@pytest.mark.fault("corruption", "a manifest, or the previous one, cut short, radps verify", "one finding each", times=2)
def test_a_damaged_manifest_is_found_and_so_is_a_damaged_previous_one(state: Checkpoint) -> None:
    manifest, previous = state.directory / "manifest", state.directory / "manifest.previous"
    good = manifest.read_bytes(), previous.read_bytes()
    previous.write_bytes(good[1][:-1])
    assert ["manifest.previous: cut short" in text for text in texts(state)] == [True]
    previous.write_bytes(good[1])
    manifest.write_bytes(good[0][:-1])
    assert "going back to manifest.previous" in texts(state)[0]


@pytest.mark.fault("corruption", "a state file that is missing", "an error that names it")
def test_a_missing_state_file_is_an_error_that_names_it(state: Checkpoint) -> None:
    state.state.path.unlink()
    with pytest.raises(DataError, match=r"state\.h5: missing"):
        verify(world(), state.directory)
