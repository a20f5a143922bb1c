"""How long a job may work: from the user, from Slurm's variables, from Slurm's answer."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from radps_mpi.planning.wall_time import slurm_seconds, wall_time_left_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:30", 90.0), ("2:00:05", 7205.0), ("1-00:00:00", 86400.0), ("3-2:01:00", 266460.0), ("UNLIMITED", math.inf),
     ("INVALID", math.inf), ("NOT_SET", math.inf), ("", math.inf)],
)  # fmt: skip
def test_slurms_way_to_write_times(text: str, seconds: float) -> None:
    assert slurm_seconds(text) == seconds


def test_without_a_limit_there_is_no_end() -> None:
    assert wall_time_left_s(None, {}) == math.inf


def test_the_users_limit_counts_from_the_start_of_the_process() -> None:
    left_s = wall_time_left_s(3600.0, {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1"})
    assert 0.0 < left_s < 3600.0


def test_the_end_of_the_slurm_job_is_the_default() -> None:
    end = int(time.time()) + 500
    assert 490.0 < wall_time_left_s(None, {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(end)}) <= 500.0


def test_slurm_is_asked_where_its_variables_dont_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$3" = 7 ] && echo 2:05\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert wall_time_left_s(None, {"SLURM_JOB_ID": "7"}) == 125.0
    assert wall_time_left_s(None, {"SLURM_JOB_ID": "8"}) == math.inf
