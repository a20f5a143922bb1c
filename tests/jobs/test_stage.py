"""Copying the environment to the nodes of a job, with stand-ins for Slurm's commands and for Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A checkout whose Python only says how it was called, and commands that do their work here."""
    checkout, commands = tmp_path / "checkout", tmp_path / "bin"
    for folder in ("jobs", ".venv/bin", "radps_mpi", "kernels", ".cache/numba/abc"):
        (checkout / folder).mkdir(parents=True)
    for name in ("stage.sh", "radps"):
        shutil.copy(JOBS / name, checkout / "jobs")
    (checkout / "jobs" / "warm.sh").write_text(f'echo "$NUMBA_CACHE_DIR" >>{tmp_path}/warmed\n')
    (checkout / "radps_mpi" / "__init__.py").touch()
    (checkout / ".cache" / "numba" / "abc" / "kernel.nbi").touch()
    commands.mkdir()
    for path, body in (
        (checkout / ".venv" / "bin" / "python", 'echo "$0 $*"'),
        (commands / "sbcast", '[ "$1" = --force ] && cp "$2" "$3"'),
        (commands / "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'),
    ):
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    return tmp_path


def run(site: Path, then: str) -> subprocess.CompletedProcess[str]:
    script = f"set -euo pipefail; RADPS_ROOT={site}/checkout; export RADPS_ROOT; . {site}/checkout/jobs/stage.sh; {then}"
    variables = {"PATH": f"{site}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "17", "TMPDIR": f"{site}/node", "SLURM_NNODES": "1",
                 "NUMBA_CACHE_DIR": f"{site}/checkout/.cache/numba"}  # fmt: skip
    (site / "node").mkdir(exist_ok=True)
    return subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=30, check=False)


def test_ranks_start_from_the_copy_on_their_node(site: Path) -> None:
    done = run(site, "radps image x.ms; echo $PYTHONPATH; echo $NUMBA_CACHE_DIR; find $RADPS_STAGE -name kernel.nbi")
    assert done.returncode == 0, done.stderr
    started, path, cache, kernel = done.stdout.splitlines()
    staged = f"{site}/node/radps-17"
    assert started.endswith(" -m mpi4py -m radps_mpi image x.ms") and Path(started.split()[0]).is_relative_to(staged)
    assert path == f"{staged}:{site}/checkout/kernels"
    assert cache == f"{staged}/.cache/numba" and kernel == f"{cache}/abc/kernel.nbi"
    assert (site / "warmed").read_text().splitlines() == [cache]


def test_nothing_is_left_on_the_node_nor_in_the_checkout(site: Path) -> None:
    assert run(site, "exit 3").returncode == 3
    assert list((site / "node").iterdir()) == []
    assert [path.name for path in (site / "checkout" / ".cache").iterdir()] == ["numba"]


def test_outside_of_a_job_it_says_what_it_is_for(site: Path) -> None:
    script = f". {site}/checkout/jobs/stage.sh"
    done = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30,
                          check=False)  # fmt: skip
    assert done.returncode != 0 and "jobs/stage.sh is for batch jobs" in done.stderr
