"""Copying the environment to the nodes of a job, with stand-ins for Slurm's commands and for Python."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"

OPTIONS_AWAY = 'while [ "${1#--}" != "$1" ]; do shift; done'


def cache_of(sources: Path | str) -> str:
    """The name of numba's folder for the sources in a folder."""
    return f"{Path(sources).name}_{hashlib.sha1(str(sources).encode()).hexdigest()}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A checkout whose Python only says how it was called, and commands that do their work here."""
    checkout = tmp_path / "checkout"
    kernels = checkout / "kernels" / "radps_kernels"
    compiled = tmp_path / "numba" / cache_of(kernels)
    empty = (*(checkout / name for name in ("jobs", "radps_mpi", "benchmarks")), *(tmp_path / name for name in ("bin", "node")))
    for folder in (*empty, kernels, compiled, tmp_path / "venv" / "bin"):
        folder.mkdir(parents=True)
    (checkout / ".venv").symlink_to(tmp_path / "venv")
    (tmp_path / "venv" / "lib64").symlink_to("./bin")
    (compiled / "kernel.nbi").touch()
    (checkout / "radps_mpi" / "__init__.py").touch()
    for name in ("stage.sh", "radps"):
        shutil.copy(JOBS / name, checkout / "jobs")
    (checkout / "jobs" / "warm.sh").write_text(f'echo "$NUMBA_CACHE_DIR" >>{tmp_path}/warmed\n')
    program(tmp_path / "venv" / "bin" / "python", f'[ "$2" = -c ] && echo {kernels} || echo "$0 $*"')
    program(tmp_path / "bin" / "sbcast", '[ "$1" = --force ] && cp "$2" "$3"')
    program(tmp_path / "bin" / "srun", f'{OPTIONS_AWAY}; exec "$@"')
    return tmp_path


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def run(site: Path, then: str) -> subprocess.CompletedProcess[str]:
    script = f"set -euo pipefail; RADPS_ROOT={site}/checkout; export RADPS_ROOT; . {site}/checkout/jobs/stage.sh; {then}"
    variables = {"PATH": f"{site}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "17", "TMPDIR": f"{site}/node/", "SLURM_NNODES": "1",
                 "NUMBA_CACHE_DIR": f"{site}/numba"}  # fmt: skip
    return subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=30, check=False)


def left(site: Path) -> list[str]:
    """Names of what is on the node and, but for what was there before, in the checkout and the cache."""
    known = {"jobs", "radps_mpi", "kernels", "benchmarks", ".venv", cache_of(site / "checkout" / "kernels" / "radps_kernels")}
    folders = (site / "node", site / "checkout", site / "numba")
    return [path.name for folder in folders for path in folder.iterdir() if path.name not in known]


def test_ranks_start_from_the_copy_on_their_node(site: Path) -> None:
    done = run(site, "radps image x.ms; echo $PYTHONPATH; echo $NUMBA_CACHE_DIR; find $NUMBA_CACHE_DIR -name kernel.nbi; "
                     "readlink $RADPS_ROOT/.venv/lib64")  # fmt: skip
    assert done.returncode == 0, done.stderr
    started, path, cache, kernel, link = done.stdout.splitlines()
    staged = f"{site}/node/radps-17"
    assert started.endswith(" -P -m mpi4py -m radps_mpi image x.ms") and Path(started.split()[0]).is_relative_to(staged)
    assert path == f"{staged}:{staged}/kernels"
    assert cache == f"{staged}/.cache/compiled"
    assert kernel == f"{cache}/{cache_of(f'{staged}/kernels/radps_kernels')}/kernel.nbi"
    assert link == "./bin"
    assert (site / "warmed").read_text().splitlines() == [cache]


def test_nothing_is_left_on_the_node_nor_in_the_checkout(site: Path) -> None:
    assert run(site, "exit 3").returncode == 3
    assert left(site) == []


def test_the_copies_are_gone_before_the_job_is_queued_again(site: Path) -> None:
    done = run(site, f"ls {site}/node; before_requeue; echo gone; ls {site}/node; exit 75")
    assert (done.returncode, done.stdout) == (75, "radps-17\ngone\n")


def test_without_compiled_kernels_there_is_nothing_to_copy_of_them(site: Path) -> None:
    shutil.rmtree(site / "numba")
    assert run(site, "radps").returncode == 0
    staged = f"{site}/node/radps-17/.cache/compiled"
    assert (site / "warmed").read_text().splitlines() == [f"{site}/numba", staged], "for the next jobs, then on the node"


def test_a_node_that_is_lost_does_not_keep_the_job_from_being_queued_again(site: Path) -> None:
    stage = site / "checkout" / "jobs" / "stage.sh"
    stage.write_text(stage.read_text().replace("step_limit_s=60", "step_limit_s=1"))
    program(site / "bin" / "srun", f'{OPTIONS_AWAY}; [ "$1" != rm ] || exec sleep 60; exec "$@"')
    done = run(site, "before_requeue; echo queued")
    assert done.stdout == "queued\n" and left(site) == []


def test_a_file_that_changes_while_it_is_read_keeps_nobody_from_starting(site: Path) -> None:
    program(site / "bin" / "tar", '/usr/bin/tar "$@" && exit 1')
    program(site / "bin" / "srun", f'{OPTIONS_AWAY}; PATH=/usr/bin:/bin exec "$@"')  # unpacks well
    assert f"{site}/node/radps-17" in run(site, "radps").stdout


@pytest.mark.parametrize(("command", "body"), [
    ("tar", "exit 2"), ("sbcast", "exit 1"), ("srun", "exit 1"),
    ("srun", f'[[ ${{*: -1}} != */jobs/warm.sh ]] || exit 1; {OPTIONS_AWAY}; exec "$@"'),
])  # fmt: skip
@pytest.mark.fault(
    "slurm", "copying to the nodes fails (jobs/stage.sh, stand-ins for Slurm)",
    "one line says so, the ranks start from the checkout, nothing is left", times=1,
)  # fmt: skip
def test_what_cannot_be_copied_is_started_from_where_it_is(site: Path, command: str, body: str) -> None:
    program(site / "bin" / command, body)
    done = run(site, 'echo "$RADPS_ROOT ${PYTHONPATH-} $NUMBA_CACHE_DIR $PATH"')
    assert done.returncode == 0, done.stderr
    said, started = done.stdout.splitlines()
    assert said == f"radps job 17: nothing staged, for what is said above: ranks start from {site}/checkout"
    assert started == f"{site}/checkout  {site}/numba {site}/bin:/usr/bin:/bin"
    assert left(site) == []


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(site: Path) -> None:
    (site / "node" / "radps-17").mkdir()
    program(site / "bin" / "rm", "exit 1")
    assert "nothing staged" in run(site, "true").stdout
    assert left(site) == ["radps-17"]


def test_outside_of_a_job_it_says_what_it_is_for(site: Path) -> None:
    script = f". {site}/checkout/jobs/stage.sh"
    done = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30,
                          check=False)  # fmt: skip
    assert done.returncode != 0 and "jobs/stage.sh is for batch jobs" in done.stderr
