"""radps slurm and jobs/scaling on a real Slurm: what jobs are given, and that they make what they should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import jobs

pytestmark = [pytest.mark.launches_mpi, pytest.mark.slurm, pytest.mark.timeout(200)]

SITE = """
stop_before = "1min"
least_time = "1min"
log = "{folder}/%A_%a.log"

[[partition]]
name = "main"
cores_per_node = 4
memory_per_node = "2000MiB"
most_nodes = 2
time_limit = "1h"
"""

SLOW = "machine_version = 3\nminor_us_per_iteration = 4e6\n"
"""A machine on which an iteration of CLEAN takes four seconds, so that it pays to share a few hundred."""


@pytest.fixture
def site(slurm: Any, tmp_path: Path) -> Path:
    """The testbed's site file."""
    path = tmp_path / "site.toml"
    path.write_text(SITE.format(folder=slurm.folder))
    return path


def plan(slurm: Any, site: Path, imagename: Path, *options: object, **variables: str) -> str:
    """What radps slurm says, with more ``variables`` in its environment."""
    command = [sys.executable, "-m", "radps_mpi", "slurm", "--site", site, "--imagename", imagename, *options]
    done = subprocess.run([str(word) for word in command], env=jobs.environment({**slurm.variables, **variables}),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(slurm: Any, site: Path, imagename: Path, *options: object, **variables: str) -> str:
    """The number of the job that radps slurm submits."""
    found = re.search(r"submitted as job (\d+)", said := plan(slurm, site, imagename, "--submit", *options, **variables))
    assert found, said
    return found[1]


def written(slurm: Any, site: Path, imagename: Path, *options: object) -> Path:
    """The script that radps slurm writes."""
    plan(slurm, site, imagename, *options)
    return imagename.with_name(f"{imagename.name}.sbatch")


def given(slurm: Any, job: str) -> dict[str, str]:
    """What Slurm says of a job."""
    return dict(field.split("=", 1) for field in slurm.ask("scontrol", "show", "job", job).split() if "=" in field)


def test_jobs_of_different_sizes_get_different_allocations_and_both_give_the_right_bits(
    slurm: Any, site: Path, skies: dict[str, Any], config: Path, tmp_path: Path
) -> None:
    sky = skies["two points"]
    dirty = [sky.vis, "--imsize", 64, "--cell", "0.4arcsec", "--nchan", 4]
    small = submit(slurm, site, tmp_path / "small", *dirty)
    machine = tmp_path / "machine.toml"
    machine.write_text(SLOW)
    large = submit(slurm, site, tmp_path / "large", "--config", config, "--machine", machine)
    asked = [given(slurm, job) for job in (small, large)]
    assert [int(job["NumTasks"]) for job in asked] == [1, 8]
    assert [int(job["NumNodes"].partition("-")[0]) for job in asked] == [1, 2]
    megabytes = [int(job["MinMemoryNode"].removesuffix("M")) for job in asked]
    assert megabytes[0] < 700 and 4 * 400 < megabytes[1] <= 2000
    assert asked[0]["TimeLimit"] == "00:02:00" < asked[1]["TimeLimit"] < "00:10:00"
    for job in (small, large):
        slurm.finish(job)
    assert jobs.product_hashes(tmp_path / "large") == sky.undisturbed
    jobs.succeed(["image", *dirty, "--imagename", tmp_path / "by-hand"])
    assert jobs.product_hashes(tmp_path / "small") == jobs.product_hashes(tmp_path / "by-hand")


@pytest.mark.fault(
    "slurm", "a time limit too short for a job of radps slurm, on a real Slurm",
    "signalled, exit 75, requeued; finished in the second attempt, same hashes as under mpirun",
)  # fmt: skip
def test_a_job_told_to_stop_before_its_limit_goes_on_in_another_attempt(
    slurm: Any, site: Path, config: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    cube = tmp_path / "cube"
    fault = {"RADPS_FAULT": "before-write:60:0:wait", "RADPS_FAULT_HOLD": str(hold)}
    job = submit(slurm, site, cube, "--config", config, **fault)
    slurm.wait(job, lambda: hold.read_text() == "reached")
    slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")  # now that the run is in the middle of its work
    slurm.wait(job, lambda: "told to stop" in slurm.log(job), seconds=90.0)
    time.sleep(1.0)  # from the script to the ranks
    hold.unlink()
    slurm.finish(job)
    assert "exit 75, requeued" in slurm.log(job)
    assert f"attempt 2: radps resume {cube}" in slurm.log(job)
    assert jobs.product_hashes(cube) == undisturbed


@pytest.mark.timeout(300)
@pytest.mark.fault(
    "slurm", "told to stop while ranks run from copies made by sbcast, which then can't be made again, on a real Slurm",
    "copies gone before the job is requeued; finished without them, same hashes as under mpirun",
)  # fmt: skip
def test_ranks_start_from_copies_if_they_can_be_made_and_none_is_left_behind(
    slurm: Any, site: Path, config: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """On one node, as the emulated ones share a disk; all of .venv, once."""
    site.write_text("stage_ranks = 1\n" + site.read_text().replace('least_time = "1min"', 'least_time = "10min"'))
    disk, hold, cube = tmp_path / "disk", tmp_path / "hold", tmp_path / "cube"
    disk.mkdir()
    hold.touch()
    script = written(slurm, site, cube, "--config", config, "--max-nodes", 1)
    fault = f"export RADPS_FAULT=before-write:60:0:wait RADPS_FAULT_HOLD={hold}"  # of the run, not of what compiles before
    script.write_text(script.read_text().replace("\nattempt ", f"\n{fault}\nattempt "))
    job = slurm.ask("sbatch", "--parsable", f"--export=ALL,RADPS_STAGE={disk}", str(script))
    slurm.wait(job, lambda: hold.read_text() == "reached", seconds=150.0)
    loaded = [Path(name) for name in files_mapped_by(json.loads(Path(f"{cube}.radps/lock").read_text())["pid"])]
    assert any(path.is_relative_to(disk / f"radps-{job}" / ".venv") for path in loaded)
    assert not [path for path in loaded if path.is_relative_to((jobs.REPOSITORY / ".venv").resolve())]
    slurm.ask("scancel", "--batch", "--signal=USR1", job)
    slurm.wait(job, lambda: "told to stop" in slurm.log(job))
    time.sleep(1.0)  # from the script to the ranks
    hold.unlink()
    slurm.wait(job, lambda: "exit 75, requeued" in slurm.log(job))
    disk.rmdir()  # nothing is left there
    disk.touch()
    slurm.finish(job)
    assert f"nothing staged, for what is said above: ranks start from {jobs.REPOSITORY}" in slurm.log(job)
    assert f"attempt 2: radps resume {cube}" in slurm.log(job)
    assert jobs.product_hashes(cube) == undisturbed


def files_mapped_by(pid: int) -> set[str]:
    """Files that are in the memory of a process: its libraries."""
    fields = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {field[5] for field in fields if len(field) == 6 and field[5].startswith("/")}


def test_one_command_measures_scaling_and_puts_the_results_of_its_jobs_together(
    slurm: Any, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scaling"
    script = jobs.REPOSITORY / "jobs" / "scaling" / "submit.py"
    command = [sys.executable, str(script), "--site", str(site), "--ranks", "1", "2", "--scale", "toy", "--output", str(out)]
    submitted = re.findall(r"^([\w-]+): .* job (\d+)$", slurm.ask(*command), re.MULTILINE)
    assert [name for name, _ in submitted] == ["strong-1", "strong-2", "weak-1", "weak-2", "results"]
    slurm.wait(submitted[-1][1], lambda: slurm.states(submitted[-1][1]) == ["COMPLETED"], seconds=150.0)
    for kind in ("strong", "weak"):
        result = json.loads((out / f"{kind}_scaling-toy.json").read_text())
        assert [row["ranks"] for row in result["rows"]] == [1, 2]
        assert (out / f"{kind}_scaling-toy.png").stat().st_size > 1000
    assert {given(slurm, job)["ExitCode"] for _, job in submitted} == {"0:0"}
