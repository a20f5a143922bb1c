"""Asking the file system for room: its own answer, and nothing left behind."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from radps_mpi.io import durable

MB = 1 << 20


@pytest.fixture(params=[True, False], ids=["nameless files", "names for an instant"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On file systems of both kinds."""
    if not request.param:
        monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", False)
    return tmp_path


def test_room_that_is_there_is_taken_back(folder: Path) -> None:
    before = durable.free_bytes(folder)
    durable.claim_room(folder, [64 * MB, 0, MB])
    assert list(folder.iterdir()) == []
    assert durable.free_bytes(folder) > before - 32 * MB


def test_all_files_are_asked_for_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors: list[int] = []

    def claim(fd: int, nbytes: int) -> bool:
        descriptors.append(fd)
        return nbytes > 0

    monkeypatch.setattr(durable, "_claim", claim)
    durable.claim_room(folder, [MB, MB, MB])
    assert len(set(descriptors)) == 3, "the number of a file that is closed is given to the next"


def test_a_folder_that_is_still_to_be_made_is_not_made(folder: Path) -> None:
    durable.claim_room(folder / "runs" / "today", [MB])
    assert list(folder.iterdir()) == []


@pytest.fixture
def short_files() -> Iterator[None]:
    """A limit of 1 MB for each file (ulimit -f)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("short_files")
def test_a_limit_of_files_sizes_holds_for_each_and_is_told(folder: Path) -> None:
    durable.claim_room(folder, [MB, MB, MB])
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as told:
        durable.claim_room(folder, [MB, 2 * MB])
    assert told.value.errno == errno.EFBIG and list(folder.iterdir()) == []


def test_more_than_the_disk_has_is_refused(folder: Path) -> None:
    """A petabyte: asked for a little more than is free, a file system fills up before it says no, under other tests too."""
    with pytest.raises(OSError) as told:
        durable.claim_room(folder, [1 << 50])
    assert told.value.errno in (errno.ENOSPC, errno.EFBIG) and list(folder.iterdir()) == []
