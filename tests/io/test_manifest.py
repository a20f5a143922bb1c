"""The manifest: what goes in comes out, bit for bit, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash

from radps_mpi import faults
from radps_mpi.errors import DataError, StorageError
from radps_mpi.io import manifest as manifests
from radps_mpi.io.manifest import CHANNEL_RECORD, FIRST_LINE_BYTES, MASKED_RECORD, NO_SLOT, Manifest


def example(number: int = 0, nchan: int = 5, *, masks: bool = False) -> Manifest:
    table = manifests.new_table(nchan, masks=masks)
    table["peak_residual_jy"] = np.nextafter(np.arange(nchan, dtype=np.float32) + number, np.float32(np.inf))
    header = {"commit": number, "config": "niter = 5\nname = \"Ångström \u2603\"", "path": os.fsdecode(b"bad\xff.ms"),
              "freq_hz": np.linspace(1e9, 2e9, nchan), "history": [{"peak": [0.1, float("nan"), float("inf")]}],
              "count": np.int64(3)}
    return Manifest(header, table)


def content(manifest: Manifest) -> bytes:
    return b"".join(manifests.encode(manifest))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest"


@pytest.mark.parametrize("masks", [False, True])
def test_a_manifest_comes_back_bit_for_bit(path: Path, masks: bool) -> None:
    manifests.save(example(7, masks=masks), path)
    found, notes = manifests.load(path)
    assert notes == [] and found.table.tobytes() == example(7, masks=masks).table.tobytes()
    assert found.table.dtype == (MASKED_RECORD if masks else CHANNEL_RECORD)
    assert found.header["config"] == example().header["config"] and found.header["path"] == "bad\udcff.ms"
    assert found.header["freq_hz"].tobytes() == example().header["freq_hz"].tobytes()
    assert np.array_equal(found.header["history"][0]["peak"], [0.1, np.nan, np.inf], equal_nan=True)
    assert found.header["count"] == 3


def test_the_same_content_gives_the_same_bytes() -> None:
    manifest = example()
    turned = Manifest(dict(reversed(manifest.header.items())), manifest.table)
    assert content(manifest) == content(turned)
    assert content(manifest) != content(example(1))


def test_new_channels_have_no_model_no_mask_and_no_planes() -> None:
    table = manifests.new_table(3, masks=True)
    assert set(table["slot"]) == set(table["mask_slot"]) == {NO_SLOT}
    assert not table["psf_sum"].any() and (table["cycle"] == 0).all()
    assert (table["model_cycle"] == -1).all() and (table["mask_cycle"] == -1).all()


@pytest.mark.fault("corruption", "one flipped bit in each byte of a manifest", "noticed, with the file's name")
def test_every_flipped_bit_is_noticed(path: Path, injected: Callable[..., None]) -> None:
    data = content(example(nchan=1))
    injected(len(data))
    for byte in range(len(data)):
        damaged = bytearray(data)
        damaged[byte] ^= 1 << (byte % 8)
        with pytest.raises(DataError, match=str(path)):
            path.write_bytes(damaged)
            manifests.read(path)


@pytest.mark.parametrize("length", [0, 10, FIRST_LINE_BYTES, 500, -1])
@pytest.mark.fault("corruption", "a manifest cut short", "noticed")
def test_a_manifest_cut_short_is_noticed(path: Path, length: int) -> None:
    path.write_bytes(content(example())[:length])
    with pytest.raises(DataError, match="first line"):
        manifests.read(path)


@pytest.mark.fault("corruption", "bytes behind the end of a manifest", "noticed")
def test_bytes_behind_the_end_are_noticed(path: Path) -> None:
    path.write_bytes(content(example()) + b"\0")
    with pytest.raises(DataError, match="cut short or damaged"):
        manifests.read(path)


@pytest.mark.parametrize(
    "numbers", [b"4 99999999999999 0 5 183", b"4 10 99999999999 5 183", b"4 10 0 99999999999 183", b"4 10 0 5 1"]
)
@pytest.mark.fault("hostile", "a manifest that declares impossible sizes", "refused before anything is allocated")
def test_impossible_sizes_are_refused_before_anything_is_allocated(path: Path, numbers: bytes) -> None:
    path.write_bytes((manifests.MAGIC + b" " + numbers).ljust(FIRST_LINE_BYTES - 1) + b"\n")
    with pytest.raises(DataError, match="impossible"):
        manifests.read(path)


@pytest.mark.parametrize(("version", "age"), [(0, "older"), (3, "older"), (5, "newer"), (10**6, "newer")])
@pytest.mark.fault("hostile", "a manifest of another version", "refused by version")
def test_another_version_is_refused_and_never_a_reason_to_go_back(path: Path, version: int, age: str) -> None:
    manifests.save(example(1), path)
    manifests.save(example(2), path)
    path.write_bytes(path.read_bytes().replace(b"MANIFEST 4 ", b"MANIFEST %d " % version, 1))
    with pytest.raises(DataError, match=f"version {version} is {age} than the 4"):
        manifests.load(path)


def test_the_first_line_of_version_2_is_known_for_what_it_is(path: Path) -> None:
    path.write_bytes((manifests.MAGIC + b" 2 10 5 280").ljust(FIRST_LINE_BYTES - 1) + b"\n")
    with pytest.raises(DataError, match="version 2 is older than the 4"):
        manifests.read(path)


@pytest.mark.fault("corruption", "one flipped bit in the newer manifest", "the previous one is taken, with a warning")
def test_a_damaged_manifest_gives_way_to_the_previous_one_with_a_warning(path: Path) -> None:
    manifests.save(example(1), path)
    manifests.save(example(2), path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    found, notes = manifests.load(path)
    assert found.header["commit"] == 1 and len(notes) == 1 and "going back to manifest.previous" in notes[0]


@pytest.mark.fault("corruption", "rubbish in place of the manifest, then a commit", "the previous manifest stays the good one")
def test_a_damaged_manifest_never_becomes_the_previous_one(path: Path) -> None:
    manifests.save(example(1), path)
    manifests.save(example(2), path)
    path.write_bytes(b"rubbish")
    manifests.set_damaged_aside(path)
    manifests.save(example(3), path)
    assert manifests.read(path).header["commit"] == 3
    assert manifests.read(manifests.previous_of(path)).header["commit"] == 1


@pytest.mark.fault(
    "hostile", "a pipe in place of the manifest",
    "the previous one is taken; nobody waits",
)  # fmt: skip
def test_a_pipe_in_its_place_keeps_nobody_waiting_and_gives_way_to_the_previous_one(path: Path) -> None:
    manifests.save(example(1), path)
    manifests.save(example(2), path)
    path.unlink()
    os.mkfifo(path)
    found, notes = manifests.load(path)
    assert found.header["commit"] == 1 and len(notes) == 1


@pytest.mark.fault("corruption", "rubbish in place of both manifests", "an error that names both")
def test_two_damaged_manifests_are_an_error_that_names_both(path: Path) -> None:
    manifests.save(example(1), path)
    manifests.save(example(2), path)
    path.write_bytes(b"rubbish")
    manifests.previous_of(path).write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"manifest: not a radps manifest.*manifest\.previous: not a radps manifest"):
        manifests.load(path)


def test_no_manifest_is_an_error_that_says_missing(path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        manifests.load(path)


@pytest.mark.parametrize("point", ["before-rename", "mid-rename"])
@pytest.mark.fault(
    "disk", "no space left (injected) before and between the manifest's renames",
    "one error with the bytes needed; the manifest is intact",
)  # fmt: skip
def test_a_full_disk_leaves_the_manifest_in_place(path: Path, point: str) -> None:
    manifests.save(example(1), path)
    faults.arm(f"{point}:::enospc")
    try:
        with pytest.raises(StorageError, match=r"manifest: No space left.*bytes needed"):
            manifests.save(example(2), path)
    finally:
        faults.arm("")
    assert manifests.load(path)[0].header["commit"] == 1


@pytest.mark.parametrize(
    ("trap", "why"),
    [
        ({"array": "|O8", "shape": [1]}, "an array of"),
        ({"array": "<f8", "shape": [-1, -1]}, "an array of"),
        ({"array": "<f8", "shape": [10**12]}, "more arrays"),
        ({"array": "<f8", "shape": "many"}, "invalid literal"),
    ],
)
@pytest.mark.fault("hostile", "arrays in a manifest's header that are none", "refused")
def test_a_header_array_that_is_none_is_refused(path: Path, trap: dict, why: str) -> None:
    path.write_bytes(content(Manifest({"trap": trap}, manifests.new_table(1))))
    with pytest.raises(DataError, match=f"header can't be read: {why}"):
        manifests.read(path)


@pytest.mark.fault("hostile", "an array that a manifest's header forgets", "refused")
def test_an_array_that_the_header_forgets_is_noticed(path: Path) -> None:
    header, _ = manifests.take_apart({"commit": 1, "record": CHANNEL_RECORD.descr})
    first = b"%s %d %d 8 0 183" % (manifests.MAGIC, manifests.VERSION, len(header))
    body = first.ljust(FIRST_LINE_BYTES - 1) + b"\n" + header + bytes(8)
    path.write_bytes(body + xxhash.xxh3_128_digest(body))
    with pytest.raises(DataError, match="header can't be read: fewer arrays"):
        manifests.read(path)


def test_things_that_are_no_plain_values_are_refused_when_they_are_written() -> None:
    with pytest.raises(TypeError, match="object can't be stored"):
        content(Manifest({"thing": object()}, manifests.new_table(1)))


def test_the_record_is_the_same_on_every_machine() -> None:
    assert CHANNEL_RECORD.itemsize == 183 and not CHANNEL_RECORD.isalignedstruct
    assert MASKED_RECORD.itemsize == 224 and not MASKED_RECORD.isalignedstruct


def test_a_table_of_the_other_kind_is_refused(path: Path) -> None:
    body = content(example(1, nchan=0)).replace(b" 0 183", b" 0 224", 1)[:-16]
    path.write_bytes(body + xxhash.xxh3_128_digest(body))
    with pytest.raises(DataError, match="header can't be read: its channel records have other fields"):
        manifests.read(path)
