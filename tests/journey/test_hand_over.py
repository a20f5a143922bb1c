"""Between minor and major cycle a channel changes hands, perhaps to another node."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from radps_mpi.io.commit import Checkpoint


def test_planes_are_flushed_before_another_rank_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS another node reads what was there before until this one has flushed its own."""
    state = Checkpoint.create(MPI.COMM_SELF, tmp_path, {}, (2, 8, 8), masks=False)
    flushed: list[str] = []
    real = os.fsync

    def watched(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", watched)
    state.stage(1, model=np.ones((8, 8), np.float32))
    assert flushed == []
    state.hand_over(np.zeros(2, np.int32))
    assert flushed == [str(tmp_path / "state.h5")]
    assert state.staged == (1,)
    state.close()
