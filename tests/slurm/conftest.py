"""A Slurm of two emulated nodes, the jobs submitted to it, and what they should make."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import jobs
from support.simulate import CO_10_HZ, Point, Setup, simulate

TESTBED = jobs.REPOSITORY / "jobs" / "slurm_testbed.sh"
TEMPLATE = jobs.REPOSITORY / "jobs" / "radps.sbatch"

PARAMETERS = """
vis = ["{vis}"]
imsize = 64
cell = "0.4arcsec"
niter = 200
cycleniter = 40
nmajor = 2
"""


@dataclass(frozen=True, slots=True)
class Slurm:
    """Slurm's commands, sent to the testbed."""

    variables: Mapping[str, str]
    folder: Path

    def ask(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = subprocess.run(command, env=jobs.environment(self.variables), cwd=jobs.REPOSITORY, capture_output=True,
                              text=True, timeout=30, check=False)  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *configs: Path, options: tuple[str, ...] = (), hold: Path | None = None, fault: str = "") -> str:
        """The number of a job of the template, on one rank of each node."""
        exported = {"RADPS_FAULT": fault, "RADPS_FAULT_HOLD": str(hold or "")}
        export = ",".join(["ALL", *(f"{name}={value}" for name, value in exported.items())])
        return self.ask("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--mem=100", "--time=10",
                        f"--output={self.folder}/%A_%a.log", f"--export={export}", *options, str(TEMPLATE),
                        *map(str, configs))  # fmt: skip

    def states(self, job: str) -> list[str]:
        """One word for each job of the array, or one."""
        return self.ask("squeue", "-h", "-r", "-j", job, "-t", "all", "-o", "%T").split()

    def attempts(self, job: str) -> int:
        """How often the job has been queued again."""
        fields = dict(field.split("=", 1) for field in self.ask("scontrol", "show", "job", job).split() if "=" in field)
        return int(fields["Restarts"])

    def log(self, job: str) -> str:
        """What all jobs of this number have printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{job}_*.log")))

    def wait(self, job: str, happened: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something has ``happened``; fails with the job's log if it takes longer."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"job {job}, {self.states(job)}: {self.log(job)}"
            time.sleep(0.1)

    def finish(self, job: str) -> None:
        """Wait for success of the job; one that was queued again would be held for two minutes."""
        held = {"PENDING", "REQUEUED", "SPECIAL_EXIT"}
        seen_running = time.monotonic()

        def ended() -> bool:
            nonlocal seen_running
            states = set(self.states(job))
            if not states & held:
                seen_running = time.monotonic()
            elif time.monotonic() - seen_running > CREDENTIAL_S:
                subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, timeout=30,
                               env=jobs.environment(self.variables), check=False)  # fmt: skip
            return not states & (held | {"RUNNING", "COMPLETING", "CONFIGURING"})

        self.wait(job, ended)
        assert set(self.states(job)) == {"COMPLETED"}, self.log(job)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """The testbed; skipped, with its reason, where Slurm is missing and can't be installed."""
    folder = tmp_path_factory.mktemp("slurm")
    bed = folder / "bed"
    start = ["bash", str(TESTBED), "start", str(bed)]
    started = subprocess.run(start, capture_output=True, text=True, timeout=300, check=False)
    if started.returncode == NO_SLURM:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    try:
        assert started.returncode == 0, started.stderr
        variables = {"SLURM_CONF": str(bed / "slurm.conf"), "PATH": f"{jobs.REPOSITORY}/.venv/bin:{os.environ['PATH']}",
                     "OMPI_MCA_btl": "self,tcp"}  # fmt: skip
        yield Slurm(variables, folder)
    finally:
        subprocess.run(["bash", str(TESTBED), "stop", str(bed)], timeout=120, check=True)


NO_SLURM = 69
"""EX_UNAVAILABLE, from the testbed's script."""

CREDENTIAL_S = 2.0
"""A job that starts again in the second in which its first attempt was ended is refused: "Job credential revoked"."""


SETUP = Setup(CO_10_HZ + 1e6 * np.arange(36), noise_jy=0.01)
"""36 channels: three blocks."""

SKIES = {"two points": [Point(2e-6, 3e-6, 1.0), Point(-1e-5, 4e-6, 0.5)], "one point": [Point(8e-6, -5e-6, 0.8)]}


@dataclass(frozen=True, slots=True)
class Observed:
    """A MeasurementSet of a sky, and the hashes of the products of a run on it under mpirun to which nothing happens."""

    vis: Path
    undisturbed: dict[str, str]


@pytest.fixture(scope="session")
def skies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Observed]:
    found = {}
    for name, points in SKIES.items():
        folder = tmp_path_factory.mktemp("sky")
        vis = simulate(folder / "sky.ms", SETUP, points)
        config = write_config(folder / "cube.toml", vis)
        jobs.succeed(["image", "--config", config, "--imagename", config.with_suffix("")], ranks=2)
        found[name] = Observed(vis, jobs.product_hashes(config.with_suffix("")))
    return found


@pytest.fixture
def undisturbed(skies: dict[str, Observed]) -> dict[str, str]:
    return skies["two points"].undisturbed


def write_config(path: Path, vis: Path) -> Path:
    path.write_text(PARAMETERS.format(vis=vis))
    return path


@pytest.fixture
def config(skies: dict[str, Observed], tmp_path: Path) -> Path:
    """The parameters of a run; its products come to lie beside them."""
    return write_config(tmp_path / "cube.toml", skies["two points"].vis)


@pytest.fixture
def other_config(skies: dict[str, Observed], tmp_path: Path) -> Path:
    """Those of another sky."""
    return write_config(tmp_path / "other.toml", skies["one point"].vis)
