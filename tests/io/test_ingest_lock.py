"""The lock of an ingest: shared by the ranks of a job from its first moment on, held against other jobs."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_SH
from pathlib import Path

import pytest

from radps_mpi.errors import UsageError
from radps_mpi.io import ingest_lock
from radps_mpi.io.run_lock import flock
from radps_mpi.parallel import world


def test_other_ranks_may_join_as_soon_as_they_hear_of_the_lock(tmp_path: Path) -> None:
    store = tmp_path / "a.vis.h5"
    first = ingest_lock._acquire(store, ingest_lock.lock_path(store))
    for kind, free in ((LOCK_SH, True), (LOCK_EX, False)):  # another rank's, another job's
        other = os.open(ingest_lock.lock_path(store), os.O_RDWR)
        assert flock(other, kind) is free
        os.close(other)
    os.close(first)


@pytest.mark.fault("two runs", "a second ingest while one writes the store", "refused, with who writes it")
def test_a_second_ingest_is_refused_until_the_first_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_lock, "SURVIVOR_WAIT_S", 0.2)
    store = tmp_path / "a.vis.h5"
    with (ingest_lock.writing_alone(world(), store), pytest.raises(UsageError, match=f"process {os.getpid()}"),
          ingest_lock.writing_alone(world(), store)):  # fmt: skip
        pass
    with ingest_lock.writing_alone(world(), store):
        pass
    assert list(tmp_path.iterdir()) == []
