"""Every benchmark at toy size: contestants agree (each script ends with status 1 if not), table, JSON and plot are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import REPOSITORY, environment

BENCHMARKS = REPOSITORY / "benchmarks"


def run_toy(folder: Path, name: str, *options: object) -> dict[str, Any]:
    """The JSON of a benchmark's toy run."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--scale", "toy", "--output", str(folder), *map(str, options)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / f"{name}-toy.png").stat().st_size > 1000
    result = json.loads((folder / f"{name}-toy.json").read_text())
    assert result["provenance"]["cpu"] and result["provenance"]["versions"]["numpy"] != "not installed"
    header = next(iter(result["rows"][0]))
    assert any(line.lstrip().startswith(header) for line in done.stdout.splitlines())
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that simulated data are shared."""
    return tmp_path_factory.mktemp("benchmarks")


def test_our_gridder_and_ducc_agree_for_every_kind_of_cube(folder: Path) -> None:
    pytest.importorskip("ducc0")
    rows = run_toy(folder, "gridding")["rows"]
    assert {row["case"] for row in rows} == {"narrow", "wide", "few", "single"}
    assert all(0.0 < row["difference"] < 4e-4 for row in rows)
    assert {row["kernel"].split()[0] for row in rows} == {"lanes", "plane"}


def test_gridding_benchmark_fails_when_results_disagree() -> None:
    pytest.importorskip("ducc0")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gridding as g\n"
        "class Coarse(g.Ducc):\n    def __init__(self, data, epsilon): super().__init__(data, 1e-1)\n"
        "g.Ducc = Coarse; g.measure(g.Case('narrow', 64, 2, g.NARROW, 300), 1e-4, 1)"
    )
    command = [sys.executable, "-c", code, str(BENCHMARKS)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "wrong result: narrow 64: residual images differ by" in done.stderr


def test_our_minor_cycle_has_the_bits_of_plain_hogbom_under_every_mask(folder: Path) -> None:
    rows = run_toy(folder, "deconvolution")["rows"]
    assert [row["mask %"] for row in rows] == [1, 10, 30, 100]
    assert all(row["ours 1/s"] > 0 and row["theirs 1/s"] > 0 for row in rows)


@pytest.mark.launches_mpi
def test_cube_jobs_run_from_a_simulated_measurement_set_and_find_its_brightest_source(folder: Path) -> None:
    jobs = {row["job"] for row in run_toy(folder, "cube_job")["rows"]}
    assert "dirty" in jobs


@pytest.mark.launches_mpi
def test_ingest_benchmark_stores_what_was_simulated(folder: Path) -> None:
    (row,) = run_toy(folder, "ingest")["rows"]
    assert row["ours MB/s"] > 0 and row["theirs MB/s"] > 0


@pytest.mark.launches_mpi
def test_strong_scaling_gets_the_same_bits_from_one_and_two_ranks(folder: Path) -> None:
    one, two = run_toy(folder, "strong_scaling", "--ranks", 1, 2)["rows"]
    assert one["wall E"] == one["compute E"] == 1.0
    assert two["wall ideal"] == pytest.approx(one["wall"] / 2)


@pytest.mark.launches_mpi
def test_weak_scaling_keeps_the_channels_per_rank(folder: Path) -> None:
    one, two = run_toy(folder, "weak_scaling", "--ranks", 1, 2)["rows"]
    assert two["channels"] == 2 * one["channels"] and two["wall ideal"] == one["wall"]


@pytest.mark.launches_mpi
def test_starts_of_one_and_two_ranks_are_timed_and_their_files_counted(folder: Path) -> None:
    one, two = run_toy(folder, "start_up")["rows"]
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert 0.0 < two["to first block"] < two["whole job"]
    assert 300 < one["modules"] < 1500 and 300 < one["files"] < 3000 and one["MB"] > 5.0


@pytest.mark.launches_mpi
def test_a_cube_that_is_killed_and_gone_on_with_has_the_bits_of_runs_on_its_parts(folder: Path) -> None:
    rows = {row["job"]: row for row in run_toy(folder, "eighty_thousand")["rows"]}
    assert rows["resume"]["ranks"] == 3
    assert not (folder / "eighty_thousand").exists()


@pytest.mark.launches_mpi
def test_the_cost_model_is_compared_with_runs_part_by_part(folder: Path) -> None:
    rows = run_toy(folder, "plan_model", "--ranks", 1, 2)["rows"]
    assert [row["ranks"] for row in rows] == [1, 2]
    assert all(row["predicted s"] > 0 and row["measured s"] > 0 and row["measured MB"] > 50 for row in rows)
