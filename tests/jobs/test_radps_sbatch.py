"""The Slurm template, run with stand-ins for Slurm's commands: what it starts, when it asks to be queued again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).resolve().parents[2]


class Site:
    """A folder with the template, an empty environment, and commands that note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls_file = root / "calls"
        (root / "bin").mkdir()
        (root / "jobs").mkdir()
        (root / "runs").mkdir()
        (root / "jobs" / "environment.sh").write_text("")
        (root / "radps_mpi" / "slurm").mkdir(parents=True)
        shutil.copy(REPOSITORY / "radps_mpi" / "slurm" / "attempt.sh", root / "radps_mpi" / "slurm")
        self.command("scontrol", "")
        self.command("mpirun", "exit 0")
        self.launcher_ends_with(0)

    def command(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.calls_file}"\n{body}\n')
        path.chmod(0o755)

    def launcher_ends_with(self, status: int) -> None:
        self.command("srun", f'[ "$1" = --mpi=list ] && echo "pmix_v4 pmix" || exit {status}')

    def environment(self, restarts: int) -> dict[str, str]:
        return {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(self.root), "SLURM_JOB_ID": "17",
                "SLURM_RESTART_COUNT": str(restarts)}  # fmt: skip

    def start(self, restarts: int = 0, **variables: str) -> subprocess.Popen[str]:
        template = REPOSITORY / "jobs" / "radps.sbatch"
        command = ["bash", str(template), "runs/ngc5921.toml", "runs/orion.toml"]
        return subprocess.Popen(command, env=self.environment(restarts) | variables, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def submit(self, restarts: int = 0, **variables: str) -> tuple[int, str]:
        job = self.start(restarts, **variables)
        output, _ = job.communicate(timeout=30)
        return job.returncode, output

    def calls(self) -> list[str]:
        return [line for line in self.calls_file.read_text().splitlines() if "--mpi=list" not in line]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_first_attempt_makes_the_image_and_ends_well(site: Site) -> None:
    status, _ = site.submit()
    assert status == 0
    assert len(site.calls()) == 1
    assert site.calls()[0].endswith(" radps image --config runs/ngc5921.toml --imagename runs/ngc5921")


@pytest.mark.fault("slurm", "exit 75 (batch script, stand-ins for Slurm)", "requeued")
def test_a_job_stopped_in_time_is_queued_again(site: Site) -> None:
    site.launcher_ends_with(75)
    status, output = site.submit()
    assert status == 75
    assert site.calls()[-1] == "scontrol requeue 17"
    assert "exit 75, requeued" in output


@pytest.mark.fault(
    "slurm", "scontrol requeue is refused (batch script, stand-ins for Slurm)",
    "the log doesn't say requeued, but how to go on",
)  # fmt: skip
def test_a_job_that_slurm_would_not_queue_again_says_how_to_go_on(site: Site) -> None:
    site.launcher_ends_with(75)
    site.command("scontrol", "exit 1")
    status, output = site.submit()
    assert status == 75
    assert "requeued" not in output and "'radps resume runs/ngc5921' goes on from here" in output


def test_what_is_queued_again_says_so_also_when_slurm_ends_the_script_at_once(site: Site) -> None:
    site.launcher_ends_with(75)
    site.command("scontrol", "kill $PPID; sleep 0.2")
    status, output = site.submit()
    assert status == 75 and "exit 75, requeued" in output


@pytest.mark.parametrize("status", [137, 138, 143])
@pytest.mark.fault("slurm", "a launcher ended by SIGKILL, SIGUSR1 or SIGTERM (batch script, stand-ins for Slurm)", "requeued")
def test_a_killed_job_is_queued_again(site: Site, status: int) -> None:
    site.launcher_ends_with(status)
    assert site.submit()[0] == status
    assert site.calls()[-1] == "scontrol requeue 17"


@pytest.mark.parametrize("status", [1, 64, 65, 74, 139])
@pytest.mark.fault("slurm", "exit 1, 64, 65, 74, 139 (batch script, stand-ins for Slurm)", "the job ends with it")
def test_an_error_that_would_come_back_ends_the_job(site: Site, status: int) -> None:
    site.launcher_ends_with(status)
    assert site.submit()[0] == status
    assert not [call for call in site.calls() if call.startswith("scontrol")]


def test_an_attempt_with_committed_state_resumes(site: Site) -> None:
    (site.root / "runs" / "ngc5921.radps").mkdir()
    (site.root / "runs" / "ngc5921.radps" / "manifest").write_text("state")
    assert site.submit(restarts=1)[0] == 0
    assert site.calls()[0].endswith(" radps resume runs/ngc5921")


def test_an_attempt_stopped_in_its_ingest_resumes(site: Site) -> None:
    (site.root / "runs" / "ngc5921.radps").mkdir()
    (site.root / "runs" / "ngc5921.radps" / "config.toml").write_text("parameters")
    assert site.submit(restarts=1)[0] == 0
    assert site.calls()[0].endswith(" radps resume runs/ngc5921")


def test_an_earlier_run_that_was_to_be_replaced_is_not_resumed(site: Site) -> None:
    (site.root / "runs" / "ngc5921.radps" / "replaced").mkdir(parents=True)
    (site.root / "runs" / "ngc5921.radps" / "config.toml").write_text("parameters")
    assert site.submit(restarts=1)[0] == 0
    assert " image --config " in site.calls()[0]


@pytest.mark.fault("slurm", "killed before the first commit (batch script, stand-ins for Slurm)", "starts again")
def test_an_attempt_killed_before_its_first_commit_starts_again(site: Site) -> None:
    (site.root / "runs" / "ngc5921.radps").mkdir()
    assert site.submit(restarts=1)[0] == 0
    assert " image --config " in site.calls()[0]


def test_each_job_of_an_array_has_a_file_of_its_own(site: Site) -> None:
    site.launcher_ends_with(75)
    assert site.submit(SLURM_ARRAY_JOB_ID="16", SLURM_ARRAY_TASK_ID="1")[0] == 75
    assert " --config runs/orion.toml --imagename runs/orion" in site.calls()[0]
    assert site.calls()[-1] == "scontrol requeue 16_1"


def test_an_array_of_more_jobs_than_files_is_refused(site: Site) -> None:
    status, output = site.submit(SLURM_ARRAY_JOB_ID="16", SLURM_ARRAY_TASK_ID="2")
    assert status != 0
    assert "name one TOML file" in output


@pytest.mark.fault(
    "slurm", "a job that is killed in every attempt (batch script, stand-ins for Slurm)",
    "not requeued for ever",
)  # fmt: skip
def test_attempts_end_somewhere(site: Site) -> None:
    site.launcher_ends_with(75)
    status, output = site.submit(restarts=19)
    assert status == 75
    assert "attempt 20 of 20" in output
    assert not [call for call in site.calls() if call.startswith("scontrol")]


def test_mpirun_starts_the_ranks_where_slurm_has_no_pmix(site: Site) -> None:
    site.command("srun", 'echo "none pmi2"')
    assert site.submit()[0] == 0
    assert site.calls()[0].startswith("mpirun radps image ")


def test_only_slurms_own_launcher_is_told_the_cores_of_a_rank(site: Site) -> None:
    """The srun with which mpirun starts one daemon on each node would keep all ranks of a node on so many cores."""
    site.command("srun", '[ "$1" = --mpi=list ] && echo "${pmix-pmix}" || echo "cores $SRUN_CPUS_PER_TASK"')
    site.command("mpirun", 'echo "cores ${SRUN_CPUS_PER_TASK-of the node}"')
    assert "cores 4\n" in site.submit(SLURM_CPUS_PER_TASK="4")[1]
    assert "cores of the node\n" in site.submit(SLURM_CPUS_PER_TASK="4", pmix="")[1]


@pytest.mark.fault(
    "slurm", "SIGUSR1 to the script (batch script, stand-ins for Slurm)",
    "passed on; the launcher's status counts",
)  # fmt: skip
def test_the_warning_of_the_time_limit_reaches_the_launcher_and_its_status_counts(site: Site) -> None:
    ready = site.root / "ready"
    site.command("srun", f'[ "$1" = --mpi=list ] && echo pmix && exit; trap "exit 75" USR1; touch "{ready}"\n'
                         "for i in $(seq 200); do sleep 0.05; done; exit 1")  # fmt: skip
    job = site.start()
    deadline = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGUSR1)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 75, output
    assert "told to stop" in output
    assert site.calls()[-1] == "scontrol requeue 17"
