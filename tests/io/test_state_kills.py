"""Kill real jobs at every point of the checkpoint protocol, then look at what is left with another number of ranks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.launches_mpi

JOB = Path(__file__).parents[1] / "support" / "state_job.py"
REPOSITORY = JOB.parents[2]
CYCLES = 3
LAUNCH = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
          "OMPI_MCA_rmaps_base_oversubscribe": "1",
          "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
          "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'kernels'}"}


def command(directory: Path, ranks: int, cycles: int = CYCLES) -> list[str]:
    return ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", str(JOB), str(directory), str(cycles)]


def run(directory: Path, ranks: int, fault: str = "", cycles: int = CYCLES) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **LAUNCH, "RADPS_FAULT": fault}
    return subprocess.run(command(directory, ranks, cycles), env=environment, text=True, capture_output=True,
                          timeout=120, check=False)


def resumed(directory: Path, ranks: int, cycles: int = CYCLES) -> dict[str, Any]:
    """What a job on ``ranks`` ranks found, and made of it; the journal's last commit must be among the found ones."""
    journal = directory / "journal.txt"
    promised = int(journal.read_text().split()[-1]) if journal.exists() else 0
    done = run(directory, ranks, cycles=cycles)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["commit"] >= promised
    assert found["wrong"] == [] and found["wrong_at_end"] == []
    return found


@cache
def uninterrupted_digest(scratch: Path, cycles: int) -> str:
    scratch.mkdir(exist_ok=True)
    return str(resumed(scratch, 1, cycles)["digest"])


@pytest.fixture
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return uninterrupted_digest(tmp_path_factory.getbasetemp() / "uninterrupted", CYCLES)


@pytest.mark.parametrize(("fault", "ranks_after"), [
    ("state-before-rename:1:0", 2),
    ("before-write:30:2", 1), ("mid-write:1:1", 2), ("mid-write:25:0", 7), ("before-sync:4:1", 2),
    ("before-rename:1:0", 2), ("before-rename:5:0", 1), ("mid-rename:6:0", 2), ("after-rename:6:0", 4),
    ("before-done:5:0", 2), ("before-done:5:2", 1)])
@pytest.mark.fault(
    "kills", "SIGKILL at a named point",
    "resumed on another number of ranks, no commit lost (state protocol alone): same hashes as an undisturbed run",
)  # fmt: skip
def test_a_job_killed_at_a_named_point_resumes_to_the_same_bits(
        tmp_path: Path, fault: str, ranks_after: int, digest: str, injected: Callable[..., None]) -> None:
    injected(what=f"SIGKILL at the point {fault.split(':')[0]}")
    killed = run(tmp_path, 3, fault)
    assert killed.returncode != 0 and "signal 9" in killed.stderr + killed.stdout
    assert resumed(tmp_path, ranks_after)["digest"] == digest


@pytest.mark.fault(
    "kills", "SIGKILL of all ranks at random instants (state protocol alone)",
    "each job gets further than the one before; resumed: same hashes as an undisturbed run", times=4,
)  # fmt: skip
def test_jobs_killed_again_and_again_at_random_instants_resume_to_the_same_bits(tmp_path: Path) -> None:
    cycles = 15
    moments = random.Random(5)
    commits = []
    for ranks in (3, 2, 4, 1):
        job = subprocess.Popen(command(tmp_path, ranks, cycles), env={**os.environ, **LAUNCH, "SLOW_S": "0.02"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_a_commit(tmp_path, job)
        time.sleep(moments.uniform(0.0, 0.3))
        kill_ranks(tmp_path, ranks)
        assert job.wait(timeout=60) != 0
        commits.append(int((tmp_path / "journal.txt").read_text().split()[-1]))
    assert commits == sorted(set(commits)), "each job got further than the one before"
    straight = uninterrupted_digest(tmp_path / "uninterrupted", cycles)
    assert resumed(tmp_path, 2, cycles)["digest"] == straight


def wait_for_a_commit(directory: Path, job: subprocess.Popen[bytes]) -> None:
    journal = directory / "journal.txt"
    before = journal.read_text() if journal.exists() else ""
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.read_text() == before:
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def kill_ranks(directory: Path, ranks: int) -> None:
    for rank in range(ranks):
        os.kill(int((directory / f"pid{rank}").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("point", ["mid-write:20:1:enospc", "before-sync:4:2:enospc", "before-rename:5:0:enospc"])
@pytest.mark.fault(
    "disk", "no space left (injected) in a write, an fsync or the rename (state protocol alone)",
    "all ranks end, the commit before is kept; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_full_disk_ends_all_ranks_and_keeps_the_commit_before(tmp_path: Path, point: str, digest: str) -> None:
    full = run(tmp_path, 3, point)
    assert full.returncode != 0
    assert "No space left on device" in full.stderr and str(tmp_path) in full.stderr
    assert resumed(tmp_path, 2)["digest"] == digest


@pytest.mark.fault(
    "ranks", "an unforeseen exception before the manifest's rename (state protocol alone)",
    "the commit before is kept; resumed on 3 ranks: same hashes as an undisturbed run",
)  # fmt: skip
def test_an_error_that_nobody_foresaw_keeps_the_commit_before(tmp_path: Path, digest: str) -> None:
    assert "InjectedFault" in run(tmp_path, 2, "before-rename:4:0:raise").stderr
    assert resumed(tmp_path, 3)["digest"] == digest


def test_more_ranks_than_channels_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCHAN", "3")
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    assert resumed(tmp_path / "many", 5)["digest"] == resumed(tmp_path / "one", 1)["digest"]
