"""The batch script on a real Slurm: stopped by its time limit, requeued in the middle, as an array; and with a
rank lost."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support import jobs

pytestmark = [pytest.mark.launches_mpi, pytest.mark.slurm, pytest.mark.timeout(150)]

IN_THE_FIRST_MAJOR_CYCLE = "before-write:60:0:wait"


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """Rank 0 waits at its fault point while this exists."""
    path = tmp_path / "hold"
    path.touch()
    return path


def reached(hold: Path) -> bool:
    return hold.read_text() == "reached"


@pytest.mark.fault(
    "slurm", "a time limit too short, on a real Slurm",
    "signalled, exit 75, requeued; finished in the second attempt, same hashes as under mpirun",
)  # fmt: skip
def test_a_job_told_to_stop_at_its_time_limit_finishes_in_its_second_attempt(
    slurm: Any, config: Path, hold: Path, undisturbed: dict[str, str]
) -> None:
    job = slurm.submit(config, options=("--time=10", "--signal=B:USR1@45"), hold=hold, fault=IN_THE_FIRST_MAJOR_CYCLE)
    slurm.wait(job, lambda: reached(hold))
    slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")  # now that the run is in the middle of its work
    slurm.wait(job, lambda: "told to stop" in slurm.log(job))
    time.sleep(1.0)  # from the script to the ranks
    hold.unlink()
    slurm.finish(job)
    assert "exit 75, requeued" in slurm.log(job)
    assert f"attempt 2: radps resume {config.with_suffix('')}" in slurm.log(job)
    assert jobs.product_hashes(config.with_suffix("")) == undisturbed


@pytest.mark.fault(
    "slurm", "scontrol requeue in the middle, on a real Slurm",
    "resumed in the second attempt, same hashes as under mpirun",
)  # fmt: skip
def test_a_job_requeued_in_the_middle_gives_the_same_bits(
    slurm: Any, config: Path, hold: Path, undisturbed: dict[str, str]
) -> None:
    job = slurm.submit(config, hold=hold, fault=IN_THE_FIRST_MAJOR_CYCLE)
    slurm.wait(job, lambda: reached(hold))
    slurm.ask("scontrol", "requeue", job)
    hold.unlink()
    slurm.finish(job)
    assert slurm.attempts(job) == 1
    assert f"attempt 2: radps resume {config.with_suffix('')}" in slurm.log(job)
    assert jobs.product_hashes(config.with_suffix("")) == undisturbed


@pytest.mark.fault(
    "slurm", "SIGKILL of a rank, on a real Slurm",
    "requeued, finished in the second attempt, same hashes as under mpirun",
)  # fmt: skip
def test_a_job_that_has_lost_a_rank_is_queued_again_and_gives_the_same_bits(
    slurm: Any, config: Path, hold: Path, undisturbed: dict[str, str]
) -> None:
    job = slurm.submit(config, hold=hold, fault=IN_THE_FIRST_MAJOR_CYCLE)
    slurm.wait(job, lambda: reached(hold))
    os.kill(json.loads((config.with_suffix(".radps") / "lock").read_text())["pid"], signal.SIGKILL)
    hold.unlink()
    slurm.wait(job, lambda: "requeued" in slurm.log(job))  # the launcher gives the other rank half a minute
    slurm.finish(job)
    assert slurm.attempts(job) == 1
    assert jobs.product_hashes(config.with_suffix("")) == undisturbed


@pytest.mark.fault(
    "slurm", "a job array of two sets, on a real Slurm",
    "both images have the hashes of runs under mpirun", times=2,
)  # fmt: skip
def test_an_array_images_one_set_with_each_job(
    slurm: Any, config: Path, other_config: Path, skies: dict[str, Any]
) -> None:
    slurm.finish(slurm.submit(config, other_config, options=("--array=0-1",)))
    assert jobs.product_hashes(config.with_suffix("")) == skies["two points"].undisturbed
    assert jobs.product_hashes(other_config.with_suffix("")) == skies["one point"].undisturbed


@pytest.mark.fault("slurm", "a parameter that doesn't exist, on a real Slurm", "the job fails with status 64, not requeued")
def test_an_error_in_the_parameters_ends_the_job_with_its_status(slurm: Any, config: Path) -> None:
    config.write_text(config.read_text() + "no_such_parameter = 1\n")
    job = slurm.submit(config)
    slurm.wait(job, lambda: slurm.states(job) == ["FAILED"])
    assert "ExitCode=64:0" in slurm.ask("scontrol", "show", "job", job)
    assert slurm.attempts(job) == 0
