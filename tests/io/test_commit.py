"""The checkpoint protocol in one process: what is committed stays, whatever happens to what isn't."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from radps_mpi import faults
from radps_mpi.data.beam import Beam
from radps_mpi.errors import DataError, StorageError
from radps_mpi.io import commit as commits
from radps_mpi.io import manifest as manifests
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import IMAGED, NO_SLOT, PSF_DONE
from radps_mpi.parallel import world

NCHAN, NY, NX = 4, 24, 20


def plane(chan: int, cycle: int) -> np.ndarray:
    return np.random.default_rng([chan, cycle]).standard_normal((NY, NX), np.float32)


def mask(chan: int, cycle: int) -> np.ndarray:
    return (plane(chan, 50 + cycle) > 0).astype(np.uint8)


@pytest.fixture
def state(tmp_path: Path) -> Checkpoint:
    return Checkpoint.create(world(), tmp_path, {"config": "niter = 1"}, (NCHAN, NY, NX))


def cycle_of(state: Checkpoint, cycle: int, chans: range = range(NCHAN)) -> None:
    for chan in chans:
        state.stage(chan, model=plane(chan, cycle), mask=mask(chan, cycle), residual=plane(chan, 10 + cycle),
                    iterations=100 * cycle, status=IMAGED)


def reopened(state: Checkpoint) -> Checkpoint:
    state.close()
    return Checkpoint.open(world(), state.directory)


def damage(state: Checkpoint, dataset: str, chan: int) -> None:
    fd = os.open(state.state.path, os.O_RDWR)
    layout = state.state.layout
    os.pwrite(fd, b"\x5a", layout.offset_bytes[dataset] + chan * layout.plane_bytes(dataset) + 7)
    os.close(fd)


def current(state: Checkpoint, name: str, chan: int) -> str:
    return f"{name}_{state.table[chan]['slot']}"


def test_a_new_state_has_zero_models_and_nothing_else(state: Checkpoint) -> None:
    again = reopened(state)
    found = again.load(1)
    assert not found.model.any() and found.mask is None and found.residual is None and again.read_psf(1) is None
    assert found.record["slot"] == NO_SLOT and found.rewound_from is None
    assert again.header["config"] == "niter = 1" and again.header["commit"] == 0 and again.notes == []


def test_committed_planes_and_fields_come_back_bit_for_bit(state: Checkpoint) -> None:
    beam = Beam(3e-5, 2e-5, 0.25)
    state.stage(2, psf=plane(2, 99), residual=plane(2, 10), status=PSF_DONE, beam=beam, sumwt=1 / 3, sidelobe=0.1)
    assert state.commit() == 1
    cycle_of(state, 1)
    assert state.commit({"history": [{"threshold_jy": 0.1 + 0.2}]}) == 2
    again = reopened(state)
    found = again.load(2)
    assert np.array_equal(found.model, plane(2, 1)) and np.array_equal(found.mask, mask(2, 1))
    assert np.array_equal(found.residual, plane(2, 11)) and np.array_equal(again.read_psf(2), plane(2, 99))
    record = found.record
    assert (record["cycle"], record["iterations"], record["sumwt"], record["sidelobe"]) == (1, 100, 1 / 3, 0.1)
    assert Beam(record["beam_major_rad"], record["beam_minor_rad"], record["beam_pa_rad"]) == beam
    assert again.header["history"] == [{"threshold_jy": 0.1 + 0.2}] and again.header["commit"] == 2


def test_uncommitted_work_leaves_the_model_and_only_tears_the_residual(state: Checkpoint) -> None:
    cycle_of(state, 1)
    state.commit()
    cycle_of(state, 2)
    found = reopened(state).load(0)
    assert np.array_equal(found.model, plane(0, 1)) and np.array_equal(found.mask, mask(0, 1))
    assert found.residual is None and found.rewound_from is None


def test_blocks_may_be_committed_in_mid_cycle(state: Checkpoint) -> None:
    cycle_of(state, 1)
    state.commit()
    cycle_of(state, 2, range(2))
    state.commit()
    cycle_of(state, 2, range(2, 4))
    again = reopened(state)
    assert again.table["cycle"].tolist() == [2, 2, 1, 1]
    assert [np.array_equal(again.load(c).model, plane(c, 2 if c < 2 else 1)) for c in range(NCHAN)] == [True] * NCHAN


def test_staging_twice_before_a_commit_never_touches_the_committed_slot(state: Checkpoint) -> None:
    cycle_of(state, 1)
    state.commit()
    cycle_of(state, 2)
    cycle_of(state, 2)
    state.stage(0, residual=plane(0, 77))
    assert state.record(0)["cycle"] == 2 and manifests.read(state.directory / "manifest").table[0]["cycle"] == 1
    assert np.array_equal(reopened(state).load(0).model, plane(0, 1))


def test_a_model_without_its_residual_doesnt_get_the_one_before(state: Checkpoint) -> None:
    cycle_of(state, 1)
    state.stage(0, model=plane(0, 2))
    assert state.read_residual(0) is None and np.array_equal(state.read_residual(1), plane(1, 11))
    state.commit()
    assert reopened(state).load(0).residual is None


def test_a_mask_that_isnt_staged_stays(state: Checkpoint) -> None:
    cycle_of(state, 1)
    state.commit()
    for cycle in (2, 3):
        state.stage(3, model=plane(3, cycle))
        state.commit()
    assert np.array_equal(reopened(state).load(3).mask, mask(3, 1))


@pytest.mark.parametrize("name", ["model", "mask"])
@pytest.mark.fault("corruption", "a changed byte of a model or a mask", "its channel goes back one cycle, to the other slot")
def test_a_damaged_model_or_mask_sends_its_channel_back_one_cycle(state: Checkpoint, name: str) -> None:
    for cycle in (1, 2):
        cycle_of(state, cycle)
        state.commit()
    damage(state, current(state, name, 1), 1)
    again = reopened(state)
    found = again.load(1)
    assert found.rewound_from == 2 and (found.record["cycle"], found.record["iterations"]) == (1, 100)
    assert np.array_equal(found.model, plane(1, 1)) and np.array_equal(found.mask, mask(1, 1))
    assert found.residual is None
    again.stage(1, model=plane(1, 2), mask=mask(1, 2), residual=plane(1, 12), iterations=200)
    again.commit()
    healed = reopened(again)
    assert healed.load(1).rewound_from is None and np.array_equal(healed.load(1).model, plane(1, 2))
    assert healed.table[1].tobytes() == state.table[1].tobytes()


@pytest.mark.fault(
    "corruption", "a changed byte of a model that was staged in several steps, handed over in between",
    "its channel goes back one cycle, with what belongs to the model of that cycle",
)  # fmt: skip
def test_a_model_that_is_gone_back_to_has_its_own_numbers_however_the_next_was_staged(state: Checkpoint) -> None:
    for cycle in (1, 2, 3):
        for _ in range(2):
            state.stage(1, model=plane(1, cycle), iterations=100 * cycle, model_flux_jy=float(cycle))
            state.hand_over(np.zeros(NCHAN, np.int32))
        state.stage(1, residual=plane(1, 10 + cycle), peak_residual_jy=0.5**cycle, image_peak_jy=1.0)
        state.commit()
    damage(state, current(state, "model", 1), 1)
    record = reopened(state).load(1).record
    assert record["cycle"] == 2 and record["slot"] == 1
    assert (record["iterations"], record["model_flux_jy"], record["peak_residual_jy"]) == (200, 2.0, 0.25)


@pytest.mark.fault(
    "corruption", "both models of a channel changed (state protocol alone)",
    "the channel goes back to its start, and says so",
)  # fmt: skip
def test_a_channel_that_lost_both_slots_starts_from_zero(state: Checkpoint) -> None:
    for cycle in (1, 2, 3):
        cycle_of(state, cycle)
        state.commit()
    for slot in (0, 1):
        damage(state, f"model_{slot}", 2)
    found = reopened(state).load(2)
    assert found.rewound_from == 3 and found.record["cycle"] == 0 and not found.model.any() and found.mask is None


@pytest.mark.fault("corruption", "a changed byte of a PSF or a residual", "to be computed again; the model is kept", times=2)
def test_damaged_psf_and_residual_are_to_be_computed_again(state: Checkpoint) -> None:
    state.stage(0, psf=plane(0, 99), residual=plane(0, 10))
    state.commit()
    damage(state, "psf", 0)
    damage(state, "residual", 0)
    again = reopened(state)
    assert again.read_psf(0) is None and again.load(0).residual is None and again.load(0).rewound_from is None


@pytest.mark.fault("corruption", "rubbish in place of the manifest", "the commit before is taken, with no wrong pixel")
def test_a_damaged_manifest_costs_one_commit_and_no_wrong_pixel(state: Checkpoint) -> None:
    for cycle in (1, 2):
        cycle_of(state, cycle)
        state.commit()
    cycle_of(state, 3, range(1))
    (state.directory / "manifest").write_bytes(b"rubbish")
    again = reopened(state)
    assert len(again.notes) == 1 and again.header["commit"] == 1
    assert [int(again.load(chan).record["cycle"]) for chan in range(NCHAN)] == [0, 1, 1, 1]
    assert not again.load(0).model.any() and np.array_equal(again.load(1).model, plane(1, 1))
    cycle_of(again, 2, range(1, 2))
    again.commit()
    assert reopened(again).notes == []


@pytest.mark.parametrize("point", ["before-sync", "before-rename", "mid-rename"])
@pytest.mark.fault(
    "disk", "no space left (injected) in a commit: fsync, before and between the renames",
    "one error; the commit before is intact",
)  # fmt: skip
def test_a_commit_that_fails_can_be_told_and_leaves_the_one_before(state: Checkpoint, point: str) -> None:
    cycle_of(state, 1)
    state.commit()
    cycle_of(state, 2)
    faults.arm(f"{point}:::enospc")
    try:
        with pytest.raises(StorageError, match="No space left"):
            state.commit()
    finally:
        faults.arm("")
    assert state.header["commit"] == 1
    assert reopened(state).table["cycle"].tolist() == [1] * NCHAN


def test_planes_are_on_the_disk_before_the_manifest_speaks_of_them(
        state: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        calls.append("fsync " + Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(f"rename {Path(target).name}")
        replace(source, target)

    cycle_of(state, 1)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    state.commit()
    assert calls == ["fsync state.h5", "fsync manifest.tmp", "rename manifest.previous", "rename manifest",
                     f"fsync {state.directory.name}"]


@pytest.mark.fault(
    "kills", "an end between the removal of an old state and the first commit of a new one",
    "no state is taken for the other",
)  # fmt: skip
def test_starting_anew_forgets_the_earlier_state_first(state: Checkpoint, tmp_path: Path) -> None:
    cycle_of(state, 1)
    state.commit()
    faults.arm("state-before-rename:::raise")
    try:
        with pytest.raises(faults.InjectedFault):
            Checkpoint.create(world(), tmp_path, {}, (NCHAN, NY, NX))
    finally:
        faults.arm("")
    assert not commits.exists(tmp_path)
    assert not Checkpoint.create(world(), tmp_path, {}, (NCHAN, NY, NX)).load(0).model.any()


def test_fields_that_the_protocol_keeps_itself_cant_be_set(state: Checkpoint) -> None:
    with pytest.raises(ValueError, match="slot"):
        state.stage(0, slot=1)


@pytest.mark.fault("corruption", "a manifest of another number of channels", "refused")
def test_a_manifest_of_another_shape_is_refused(state: Checkpoint) -> None:
    manifests.save(manifests.Manifest(state.header, state.table[:2]), state.directory / "manifest")
    with pytest.raises(DataError, match="2 records for a state of 4 channels"):
        reopened(state)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.fault("corruption", "a manifest of a state with masks beside one without, and the reverse", "refused")
def test_a_manifest_of_the_other_kind_of_records_is_refused(tmp_path: Path, masks: bool) -> None:
    state = Checkpoint.create(world(), tmp_path, {}, (NCHAN, NY, NX), masks=masks)
    manifests.save(manifests.Manifest(state.header, manifests.new_table(NCHAN, masks=not masks)), tmp_path / "manifest")
    with pytest.raises(DataError, match=f"records are those of a state {'without' if masks else 'with'} masks"):
        reopened(state)


@pytest.mark.mpi
@pytest.mark.fault("ranks", "two ranks that stage the same channel", "an error on all ranks")
def test_a_channel_staged_by_two_ranks_is_an_error_on_all(tmp_path: Path) -> None:
    comm = world()
    if comm.size < 2:
        pytest.skip("needs two ranks")
    state = Checkpoint.create(comm, Path(comm.bcast(str(tmp_path))), {}, (NCHAN, NY, NX))
    state.stage(0, model=plane(0, 1))
    with pytest.raises(RuntimeError, match="two ranks"):
        state.commit()


@pytest.mark.mpi
def test_more_records_than_fit_one_piece_reach_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comm = world()
    monkeypatch.setattr(commits, "_RECORDS_AT_ONCE", 3)
    state = Checkpoint.create(comm, Path(comm.bcast(str(tmp_path))), {}, (23, NY, NX), masks=False)
    for chan in range(23):
        if chan * comm.size // 30 == comm.rank:  # shares of different sizes
            state.stage(chan, model=plane(chan, 1), iterations=chan)
    state.commit({"peaks": np.arange(3.0)})
    tables = comm.allgather(state.table.tobytes())
    assert len(set(tables)) == 1 and state.table["iterations"].tolist() == list(range(23))
    again = Checkpoint.open(comm, state.directory)
    assert again.table.tobytes() == tables[0] and again.header["peaks"].tolist() == [0.0, 1.0, 2.0]
    comm.Barrier()


@pytest.mark.mpi
def test_all_ranks_see_what_one_has_committed(tmp_path: Path) -> None:
    comm = world()
    state = Checkpoint.create(comm, Path(comm.bcast(str(tmp_path))), {}, (NCHAN, NY, NX))
    cycle_of(state, 1, range(comm.rank, NCHAN, comm.size))
    state.commit()
    assert all(np.array_equal(state.load(chan).model, plane(chan, 1)) for chan in range(NCHAN))
    comm.Barrier()


@pytest.mark.mpi
def test_a_channel_handed_over_after_going_back_keeps_its_intact_slot(tmp_path: Path) -> None:
    comm = world()
    if comm.size < 2:
        pytest.skip("needs two ranks")
    state = Checkpoint.create(comm, Path(comm.bcast(str(tmp_path))), {}, (NCHAN, NY, NX))
    for cycle in (1, 2):
        cycle_of(state, cycle, range(NCHAN) if comm.rank == 0 else range(0))
        state.commit()
    intact = f"model_{1 - state.table[1]['slot']}"
    if comm.rank == 0:
        damage(state, current(state, "model", 1), 1)
        assert state.load(1).rewound_from == 2
        state.stage(1, model=plane(1, 2))
    state.hand_over(np.ones(NCHAN, np.int32))
    if comm.rank == 1:
        assert np.array_equal(state.load(1).model, plane(1, 2))
        state.stage(1, model=plane(1, 2) * 2)
    comm.Barrier()
    layout = state.state.layout
    with open(state.state.path, "rb") as file:
        file.seek(layout.offset_bytes[intact] + layout.plane_bytes(intact))
        assert file.read(layout.plane_bytes(intact)) == plane(1, 1).tobytes()
    comm.Barrier()
