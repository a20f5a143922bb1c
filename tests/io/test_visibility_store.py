"""Reading a visibility store: verification, versions, and files that mean harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.measurement_sets import make_set

from radps_mpi.errors import DataError
from radps_mpi.io.ingest import ingest
from radps_mpi.io.selection import Selection
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import world

GROUP = "observation_00000"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    source = make_set(folder / "made.ms", spectral_weight=True)
    ingest(world(), [str(source)], [Selection()], folder / "a.vis.h5", row_chunk=16)
    return folder / "a.vis.h5"


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "a.vis.h5"))


def flip_byte(path: Path, dataset: str, at: int) -> None:
    with h5py.File(path, "r") as file:
        offset = file[f"{GROUP}/{dataset}"].id.get_offset()
    with open(path, "r+b") as raw:
        raw.seek(offset + at)
        byte = raw.read(1)[0]
        raw.seek(offset + at)
        raw.write(bytes([byte ^ 0x10]))


def test_pieces_agree_with_the_whole(store: Path) -> None:
    with VisibilityStore.open(store) as opened:
        whole = opened.read(0, 0, 8, 0, 4)
        np.testing.assert_array_equal(opened.read(0, 2, 5, 1, 3), whole[2:5, :, 16:48])
        np.testing.assert_array_equal(opened.read(0, 7, 8, 3, 9), whole[7:, :, 48:])
        assert whole.shape == (8, 2, 60)
        opened.verify(0, 0, 8)


@pytest.mark.fault("corruption", "one flipped bit in a visibility", "named by channel and chunk; others are read")
def test_a_damaged_visibility_is_named_and_others_are_still_readable(store: Path) -> None:
    flip_byte(store, "vis", ((3 * 2 + 1) * 60 + 20) * 8)  # channel 3, correlation 1, row 20: chunk 1
    with VisibilityStore.open(store) as opened:
        opened.read(0, 0, 3, 0, 4)
        opened.read(0, 3, 4, 0, 1)
        with pytest.raises(DataError, match=r"dataset vis, channel 3, chunk 1: .*radps ingest"):
            opened.read(0, 2, 5, 0, 4)


def test_a_process_that_is_told_the_metadata_finds_the_same_store_or_refuses(store: Path, tmp_path: Path) -> None:
    with VisibilityStore.open(store) as opened, VisibilityStore.attach(store, opened.metadata) as attached:
        np.testing.assert_array_equal(attached.read(0, 0, 8, 0, 4), opened.read(0, 0, 8, 0, 4))
        assert attached.fingerprint() == opened.fingerprint()
    with h5py.File(store, "r+") as file:
        file.attrs["metadata_digest"] = np.bytes_("0" * 32)
    with pytest.raises(DataError, match="another store than rank 0 finds"):
        VisibilityStore.attach(store, opened.metadata)
    with pytest.raises(DataError, match="no such file"):
        VisibilityStore.attach(tmp_path / "elsewhere.vis.h5", opened.metadata)


@pytest.mark.parametrize(("dataset", "at", "says"), [
    ("weight", 40, "dataset weight, channel 0, chunk 0"), ("uvw_m", 17 * 24, "the rows of chunk 1"),
    ("time_index", 4, "the rows of chunk 0"),
])  # fmt: skip
@pytest.mark.fault("corruption", "one flipped bit in weights or rows of a store", "found and named")
def test_damage_to_weights_and_rows_is_found(store: Path, dataset: str, at: int, says: str) -> None:
    flip_byte(store, dataset, at)
    with VisibilityStore.open(store) as opened, pytest.raises(DataError, match=says):
        opened.verify(0, 0, 8)


@pytest.mark.parametrize("dataset", ["vis_checksum", "freq_hz", "frame_factor", "samples", "time_s", "row_checksum"])
@pytest.mark.fault("corruption", "one flipped bit in a table of a store", "found when it is opened: ingest again")
def test_damage_to_tables_is_found_when_the_store_is_opened(store: Path, dataset: str) -> None:
    flip_byte(store, dataset, 3)
    with pytest.raises(DataError, match=r"a\.vis\.h5: its HDF5 structure doesn't match its seal.*radps ingest"):
        VisibilityStore.open(store)


@pytest.mark.fault("corruption", "a changed attribute of a store", "found when it is opened")
def test_a_changed_attribute_is_found(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        file[GROUP].attrs["restfreq_hz"] = 1.0
    with pytest.raises(DataError, match="metadata don't match their checksum"):
        VisibilityStore.open(store)


@pytest.mark.parametrize(("version", "says"), [(2, "newer than version 1.*update radps"), (0, "older than version 1.*ingest")])
@pytest.mark.fault("hostile", "a store of another version", "refused in one line")
def test_other_versions_are_refused_in_one_line(store: Path, version: int, says: str) -> None:
    with h5py.File(store, "r+") as file:
        file.attrs["version"] = version
    with pytest.raises(DataError, match=says) as caught:
        VisibilityStore.open(store)
    assert "\n" not in str(caught.value)


def _replace(path: Path, name: str, put: Callable[[h5py.Group], object]) -> None:
    with h5py.File(path, "r+") as file:
        del file[GROUP][name]
        put(file[GROUP])


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((8,), "<f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (8,))
    group.create_virtual_dataset("freq_hz", layout)


@pytest.mark.parametrize(("put", "says"), [
    (lambda g: g.__setitem__("freq_hz", h5py.ExternalLink("/etc/passwd", "/x")), "soft or external link"),
    (lambda g: g.__setitem__("freq_hz", h5py.SoftLink("/nowhere")), "soft or external link"),
    (lambda g: g.create_dataset("freq_hz", (8,), "<f8", external=[("/etc/passwd", 0, 64)]), "keeps its data in another file"),
    (_virtual, "virtual, chunked or filtered"),
    (lambda g: g.create_dataset("freq_hz", (8,), "<f8", compression="gzip"), "virtual, chunked or filtered"),
    (lambda g: g.create_dataset("freq_hz", (10**13,), "<f8"), "doesn't hold"),
    (lambda g: g.create_dataset("freq_hz", (8,), h5py.string_dtype()), "not plain numbers"),
    (lambda g: g.create_dataset("freq_hz", (8,), "<f4", data=np.ones(8)), r"is float32\[8\], expected float64\[8\]"),
    (lambda g: g.create_dataset("freq_hz", (9,), "<f8", data=np.ones(9)), "expected"),
    (lambda g: g.__setitem__("freq_hz", g.parent), "linked more than once"),
    (lambda g: g.create_dataset("virus", (1,), "<f8", data=[1.0]), "is not an observation"),
])  # fmt: skip
@pytest.mark.fault(
    "hostile", "links, external or virtual data, filters, wrong types, loops in the place of a store's dataset",
    "refused in one line by name",
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line(store: Path, put: Callable[[h5py.Group], object], says: str) -> None:
    _replace(store, "freq_hz", put)
    with pytest.raises(DataError, match=says) as caught:
        VisibilityStore.open(store)
    assert str(store) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.fault("hostile", "in the place of a store: nothing, text, other HDF5", "refused by name", times=3)
def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.vis.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.vis.h5", "w") as file:
        file.attrs["format"] = "something else"
    for name, says in (("missing", "no such file"), ("text", "can't be read as HDF5"), ("other", "not a visibility store")):
        with pytest.raises(DataError, match=says):
            VisibilityStore.open(tmp_path / f"{name}.vis.h5")


@pytest.mark.fault("corruption", "a store cut to half", "refused by name")
def test_a_truncated_store_is_refused(store: Path) -> None:
    with open(store, "r+b") as raw:
        raw.truncate(store.stat().st_size // 2)
    with pytest.raises(DataError, match=r"a\.vis\.h5"):
        VisibilityStore.open(store)


def test_reading_needs_neither_casacore_nor_astropy() -> None:
    program = "import sys, radps_mpi.io.visibility_store; sys.exit(any(m in sys.modules for m in ('casacore', 'astropy')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_reading_ahead_asks_for_the_bytes_that_are_read_next(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: asked.append((start, length)))
    with h5py.File(store, "r") as file:
        starts = {name: (file[f"{GROUP}/{name}"].id.get_offset(), file[f"{GROUP}/{name}"].dtype.itemsize)
                  for name in ("vis", "weight")}  # fmt: skip
    with VisibilityStore.open(store) as opened:
        opened.read_ahead(0, 2, 5, 0, 9)
        whole = [(start + 2 * 2 * 60 * size, 3 * 2 * 60 * size) for start, size in starts.values()]
        assert asked == whole, "all rows of neighbouring channels are one piece"
        asked.clear()
        opened.read_ahead(0, 7, 8, 1, 3)
        pieces = [(start + (line * 60 + 16) * size, 32 * size) for start, size in starts.values() for line in (14, 15)]
        assert asked == pieces
    monkeypatch.undo()
    with VisibilityStore.open(store) as opened:
        opened.read_ahead(0, 0, 8, 0, 4)
