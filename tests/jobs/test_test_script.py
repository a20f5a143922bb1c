"""jobs/test.sh on small checkouts: what it counts, and that it can't pass by accident."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

SERIAL = """
def test_passes():
    assert 1 + 1 == 2

def test_fails():
    assert 1 + 1 == 3
"""
RANKS = """
import pytest
from mpi4py import MPI

@pytest.mark.mpi
def test_all_ranks_are_there():
    assert MPI.COMM_WORLD.size == 2

@pytest.mark.mpi
def test_second_rank_fails():
    assert MPI.COMM_WORLD.rank != {failing}
    MPI.COMM_WORLD.Barrier()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is set up already, with this Python, and has no tests yet."""
    for name in ("jobs", "tests"):
        (tmp_path / name).mkdir()
    for name in ("test.sh", "environment.sh"):
        shutil.copy(REPOSITORY / "jobs" / name, tmp_path / "jobs")
    (tmp_path / "jobs" / "setup.sh").write_text("exit 0\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run_tests(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    job_variables = ("OMPI_", "PMIX_", "PRTE_", "PMI_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(job_variables)}
    environment["PATH"] = f"{checkout}:{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["bash", "jobs/test.sh", *arguments], cwd=checkout, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, check=False)  # fmt: skip
    return done.returncode, done.stdout.splitlines()


def test_the_last_line_counts_and_a_failure_is_one(checkout: Path) -> None:
    (checkout / "tests" / "test_serial.py").write_text(SERIAL)
    status, lines = run_tests(checkout, "serial")
    assert status == 1
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"


def test_arguments_reach_pytest(checkout: Path) -> None:
    (checkout / "tests" / "test_serial.py").write_text(SERIAL)
    status, lines = run_tests(checkout, "serial", "-k", "passes")
    assert status == 0
    assert lines[-1] == "1 passed, 0 failed, 0 skipped"


def test_a_run_without_tests_does_not_pass(checkout: Path) -> None:
    status, lines = run_tests(checkout, "serial")
    assert status == 5
    assert lines[-1] == "jobs/test.sh: no test ran"


def test_a_file_that_cannot_be_imported_is_a_failure(checkout: Path) -> None:
    (checkout / "tests" / "test_serial.py").write_text("import no_such_module\n")
    status, lines = run_tests(checkout, "serial")
    assert status == 1
    assert lines[-1] == "0 passed, 1 failed, 0 skipped"


def test_an_unknown_stage_is_refused(checkout: Path) -> None:
    status, lines = run_tests(checkout, "parallel")
    assert status == 64
    assert "no stage 'parallel'" in lines[-1]


EVERYTHING = """
import pytest

def test_on_one_core():
    assert False

@pytest.mark.alone
def test_that_measures_time():
    pass

@pytest.mark.launches_mpi
def test_that_starts_ranks():
    pass

@pytest.mark.mpi
def test_on_ranks():
    pass
"""


@pytest.mark.launches_mpi
def test_all_stages_run_every_test_and_count_what_fails_beside_them(checkout: Path) -> None:
    for name, status in (("ruff", 0), ("mypy", 1), ("lint-imports", 0)):
        (tool := checkout / name).write_text(f"#!/bin/sh\nexit {status}\n")
        tool.chmod(0o755)
    for name in ("tests", "tests/kernels", "tests/slurm"):
        (checkout / name).mkdir(exist_ok=True)
    (checkout / "tests" / "test_everything.py").write_text(EVERYTHING)
    for name, mark in (("kernels", ""), ("slurm", "@pytest.mark.slurm\n")):
        test = f"import pytest\n\n{mark}def test_{name}():\n    pass\n"
        (checkout / "tests" / name / f"test_{name}.py").write_text(test)
    status, lines = run_tests(checkout, "all")
    assert status == 1, lines
    # three tools, four tests of the serial stages, one of them again with bounds, one on 2, 3 and 4 ranks, one on a Slurm
    assert lines[-1].startswith(f"{3 + 4 + 1 + 3 + 1 - 2} passed, 2 failed, "), lines
    assert any("test_on_one_core" in line for line in lines)


@pytest.mark.launches_mpi
def test_several_ranks_print_and_count_once(checkout: Path) -> None:
    (checkout / "tests" / "test_ranks.py").write_text(RANKS.format(failing=7))
    status, lines = run_tests(checkout, "2")
    assert status == 0, lines
    assert lines[-1] == "2 passed, 0 failed, 0 skipped"
    assert sum("rank: " in line for line in lines) == 1


@pytest.mark.launches_mpi
def test_a_failure_on_a_rank_that_does_not_print_is_seen(checkout: Path) -> None:
    (checkout / "tests" / "test_ranks.py").write_text(RANKS.format(failing=1))
    status, lines = run_tests(checkout, "2")
    assert status == 1
    assert ", 1 failed" in lines[-1]
    assert any("test_second_rank_fails" in line for line in lines)
