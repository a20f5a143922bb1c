"""The look at files in a process of its own: once per version of a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.simulate import CO_10_HZ, Point, Setup, simulate

from radps_mpi.io import preflight


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each process that is started to look."""
    started, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: started.append(command) or run(command, **options))
    return started


def test_a_measurement_set_is_looked_at_once_and_again_when_it_has_changed(tmp_path: Path, processes: list[Any]) -> None:
    vis = simulate(tmp_path / "sky.ms", Setup(np.array([CO_10_HZ])), [Point(0.0, 0.0, 1.0)])
    for _ in range(2):
        preflight.look_at_measurement_set(vis)
    assert len(processes) == 1
    os.utime(vis / "table.dat", ns=(0, 1))
    preflight.look_at_measurement_set(vis)
    assert len(processes) == 2


def test_a_file_that_was_refused_is_looked_at_again(tmp_path: Path, processes: list[Any]) -> None:
    store = tmp_path / "obs.vis.h5"
    store.write_bytes(bytes(1000))
    for _ in range(2):
        with pytest.raises(preflight.DataError):
            preflight.look_at_store(store)
    assert len(processes) == 2
