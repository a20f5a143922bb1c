"""The state file: laid out once, planes where they belong, every flipped bit found."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from radps_mpi import faults
from radps_mpi.errors import DataError, StorageError
from radps_mpi.io import durable
from radps_mpi.io.state_file import ALIGNMENT_BYTES, StateFile, StateLayout, repair_structure
from radps_mpi.parallel import world

NCHAN, NY, NX = 5, 160, 150
PLACES = [("psf", 0), ("residual", 0), ("model", 0), ("model", 1), ("mask", 0), ("mask", 1)]


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile.create(world(), tmp_path / "state.h5", NCHAN, NY, NX, attributes={"imagename": "m51"})


def plane(name: str, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((NY, NX), np.float32)
    return (values > 0).astype(np.uint8) if name == "mask" else values


def fill(state: StateFile) -> dict[tuple[str, int, int], np.ndarray]:
    return {(name, slot, chan): state.write_plane(name, slot, chan, plane(name, 100 * number + chan))
            for number, (name, slot) in enumerate(PLACES) for chan in range(NCHAN)}


def test_every_plane_comes_back_and_hdf5_reads_the_same(state: StateFile) -> None:
    sums = fill(state)
    state.sync()
    with h5py.File(state.path, "r") as file:
        for number, (name, slot) in enumerate(PLACES):
            stored = file[f"{name}_{slot}" if name in ("model", "mask") else name]
            for chan in range(NCHAN):
                expected = plane(name, 100 * number + chan)
                assert np.array_equal(state.read_plane(name, slot, chan, sums[name, slot, chan]), expected)
                assert np.array_equal(stored[chan], expected)


def test_the_file_describes_itself_to_any_hdf5_reader(state: StateFile) -> None:
    with h5py.File(state.path, "r") as file:
        assert dict(file.attrs) == {"format": "radps-state", "format_version": 1, "imagename": "m51"}
        assert set(file) == {"psf", "residual", "model_0", "model_1", "mask_0", "mask_1"}
        assert file["model_1"].attrs["units"] == "Jy/pixel" and file["psf"].attrs["axes"] == "chan y x"
        assert {d.chunks for d in file.values()} == {None} and {d.shape for d in file.values()} == {(NCHAN, NY, NX)}
        assert file["mask_0"].dtype == np.uint8 and file["residual"].dtype == np.dtype("<f4")
        offsets = {name: dataset.id.get_offset() for name, dataset in file.items()}
    assert offsets == dict(state.layout.offset_bytes)
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets.values())


def test_space_is_reserved_and_nothing_partial_is_left(state: StateFile) -> None:
    status = os.stat(state.path)
    assert status.st_size == state.layout.file_bytes and status.st_blocks * 512 >= status.st_size
    assert [entry.name for entry in state.path.parent.iterdir()] == ["state.h5"]


def test_masks_are_left_out_on_request(tmp_path: Path) -> None:
    state = StateFile.create(world(), tmp_path / "state.h5", 2, 8, 8, masks=False)
    assert set(state.layout.offset_bytes) == {"psf", "residual", "model_0", "model_1"} and not state.layout.has_masks


def test_writing_planes_changes_no_byte_of_the_structure(state: StateFile) -> None:
    fill(state)
    assert repair_structure(state.path, state.layout) == []


def test_the_description_survives_the_manifest(state: StateFile) -> None:
    assert StateLayout.from_header(state.layout.to_header(), state.path) == state.layout


@pytest.mark.parametrize(("key", "value"), [
    ("format", "other"), ("version", 2), ("nchan", NCHAN + 1), ("ny", -1), ("file_bytes", 10**15),
    ("structure", "eJw="), ("offset_bytes", {"psf": 0}), ("structure_sum", [1, 2]), ("nx", None)])
@pytest.mark.fault("hostile", "a description of the state that contradicts itself", "refused by name")
def test_a_description_that_contradicts_itself_is_refused(state: StateFile, key: str, value: object) -> None:
    header = {**state.layout.to_header(), key: value}
    with pytest.raises(DataError, match=r"state\.h5"):
        StateLayout.from_header(header, state.path)


@pytest.mark.parametrize("number", range(len(PLACES)))
@pytest.mark.fault("corruption", "one flipped bit in a plane of the state", "that plane is found, no other is blamed")
def test_one_flipped_bit_in_a_plane_is_found_and_its_neighbours_are_not_blamed(state: StateFile, number: int) -> None:
    sums = fill(state)
    name, slot = PLACES[number]
    dataset = f"{name}_{slot}" if name in ("model", "mask") else name
    flip(state.path, state.layout.offset_bytes[dataset] + 2 * state.layout.plane_bytes(dataset) + 1234)
    damaged = [key for key, expected in sums.items() if state.read_plane(*key, expected) is None]
    assert damaged == [(name, slot, 2)]


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 16]))


@pytest.mark.fault(
    "corruption", "one flipped bit in the state's HDF5 structure",
    "restored from the manifest before HDF5 sees it", times=7,
)  # fmt: skip
def test_flipped_bits_in_the_structure_are_repaired_before_hdf5_sees_them(state: StateFile) -> None:
    sums = fill(state)
    state.sync()
    before = state.path.read_bytes()
    for offset in (0, 9, 40, 100, 700, 2100, 100_000):
        flip(state.path, offset)
    again, notes = StateFile.open(world(), state.path, state.layout)
    assert len(notes) == 1 and "restored from the manifest" in notes[0]
    assert state.path.read_bytes() == before
    assert again.read_plane("model", 1, 3, sums["model", 1, 3]) is not None


@pytest.mark.fault("corruption", "a state cut short", "lengthened; the lost planes are found")
def test_a_file_cut_short_is_lengthened_and_the_lost_planes_are_named_by_their_checksums(state: StateFile) -> None:
    sums = fill(state)
    os.truncate(state.path, state.layout.offset_bytes["mask_1"] + state.layout.plane_bytes("mask_1"))
    again, notes = StateFile.open(world(), state.path, state.layout)
    assert "missing at its end" in notes[0] and os.stat(state.path).st_size == state.layout.file_bytes
    lost = [key for key, expected in sums.items() if again.read_plane(*key, expected) is None]
    assert lost == [("mask", 1, chan) for chan in range(1, NCHAN)]


@pytest.mark.fault("corruption", "a state file that is missing", "an error that names it")
def test_a_missing_file_is_an_error_that_names_it(state: StateFile) -> None:
    state.path.unlink()
    with pytest.raises(DataError, match=r"state\.h5: missing"):
        StateFile.open(world(), state.path, state.layout)


@pytest.mark.fault("hostile", "symbolic links in place of state and status", "one line; what they lead to is untouched")
def test_a_link_in_place_of_the_file_is_refused(state: StateFile, tmp_path: Path) -> None:
    state.path.rename(tmp_path / "elsewhere.h5")
    state.path.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(DataError, match="can't be opened"):
        StateFile.open(world(), state.path, state.layout)


def test_a_plane_never_written_is_none_without_reading(state: StateFile) -> None:
    assert state.read_plane("residual", 0, 1, np.zeros(2, np.uint64)) is None


@pytest.mark.parametrize(("chan", "shape"), [(NCHAN, (NY, NX)), (-1, (NY, NX)), (0, (NX, NY))])
def test_planes_that_would_land_elsewhere_are_refused(state: StateFile, chan: int, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        state.write_plane("psf", 0, chan, np.zeros(shape, np.float32))


def test_planes_longer_than_one_system_call_are_written_and_read_whole(
        state: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "PIECE_BYTES", 1000)
    expected = plane("psf", 1)
    assert np.array_equal(state.read_plane("psf", 0, 4, state.write_plane("psf", 0, 4, expected)), expected)


@pytest.mark.parametrize("point", ["before-write", "mid-write"])
@pytest.mark.fault(
    "disk", "no space left (injected) before and in the middle of a plane",
    "one error with file, plane, bytes needed and free",
)  # fmt: skip
def test_a_full_disk_names_the_file_the_plane_and_the_bytes(state: StateFile, point: str) -> None:
    faults.arm(f"{point}:::enospc")
    try:
        with pytest.raises(StorageError, match=r"state\.h5: No space left on device while writing model_1 of channel 3"
                                               r"; 96,000 bytes needed, [\d,]+ free"):
            state.write_plane("model", 1, 3, plane("model", 1))
    finally:
        faults.arm("")


@pytest.mark.fault("disk", "a state of 24 PB", "refused with the bytes needed; nothing left")
def test_a_state_that_no_disk_can_hold_is_refused_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"state\.h5\.partial: No space left.*23,592,960,000,000,000 bytes needed"):
        StateFile.create(world(), tmp_path / "state.h5", 80_000, 128_000, 128_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("disk", "no space left (injected) when space is reserved", "one error; nothing left")
def test_a_reservation_that_fails_takes_the_partial_file_away(tmp_path: Path) -> None:
    faults.arm("reserve:::enospc")
    try:
        with pytest.raises(StorageError, match=r"state\.h5\.partial: No space left"):
            StateFile.create(world(), tmp_path / "state.h5", 2, 8, 8)
    finally:
        faults.arm("")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_system_refuses_is_told_before_hdf5_meets_it(tmp_path: Path) -> None:
    """HDF5 crashed in H5_term_library."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match=r"state\.h5\.partial: File too large while reserving its space"):
            StateFile.create(world(), tmp_path / "state.h5", NCHAN, NY, NX)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    target = tmp_path / "small"
    target.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", target], check=False,
                                           capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield target
    subprocess.run(["umount", target], check=True)


@pytest.mark.fault(
    "disk", "a real disk (tmpfs) of 2 MB, too small for the state",
    "one error with bytes needed and free; nothing left",
)  # fmt: skip
def test_a_disk_that_is_really_full_is_told_at_creation(small_disk: Path) -> None:
    with pytest.raises(StorageError, match=r"state\.h5\.partial: No space left.*bytes needed, [\d,]+ free"):
        StateFile.create(world(), small_disk / "state.h5", 5, 160, 160)
    assert list(small_disk.iterdir()) == []


@pytest.mark.mpi
def test_the_structure_does_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    from mpi4py import MPI

    comm = world()
    folder = Path(comm.bcast(str(tmp_path)))
    together = StateFile.create(comm, folder / "together.h5", NCHAN, NY, NX)
    alone = StateFile.create(MPI.COMM_SELF, folder / f"alone{comm.rank}.h5", NCHAN, NY, NX)
    assert alone.layout == together.layout and len(alone.layout.structure) > 10_000


def test_writing_back_begins_whenever_some_megabytes_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(durable, "_sync_file_range", lambda fd, *_: begun.append(fd))
    behind = durable.WriteBehind()
    for _ in range(7):
        behind.wrote(3, 3 << 20)
    assert begun == [3, 3]


def test_a_refused_start_of_writing_back_is_left_to_fsync(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        durable.WriteBehind().wrote(writer, 1 << 30)  # no file: the system says ESPIPE
    finally:
        os.close(reader)
        os.close(writer)
