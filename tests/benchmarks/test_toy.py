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
    assert result["provenance"]["cpu"] and result["provenance"]["versions"]["numpy"] != "missing"
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
    assert one["bits"] == two["bits"]
    assert 0.05 < one["largest rank GB"] < 2.0
    assert not (folder / "scaling").exists()  # products of a large test would fill the disk


@pytest.mark.launches_mpi
def test_weak_scaling_keeps_the_channels_per_rank(folder: Path) -> None:
    one, two = run_toy(folder, "weak_scaling", "--ranks", 1, 2, "--channels", 5)["rows"]
    assert (one["channels"], two["channels"]) == (5, 10) and two["wall ideal"] == one["wall"]


def part(folder: Path, ranks: int, wall_s: float, **changes: Any) -> Path:
    """What a job of a scaling test leaves."""
    about = {"cpu": "a", "cores": 2, "memory_gb": 1, "load": [0.0], "commit": "c", "versions": {"numpy": "2"}, **changes}
    row = {"ranks": ranks, "channels": 64, "wall": wall_s, "compute": wall_s, "bits": about.pop("bits", "same"), "wall E": 9.0}
    path = folder / f"{ranks}.json"
    result = {"benchmark": "strong_scaling", "options": {"scale": "toy"}, "provenance": about, "rows": [row]}
    path.write_text(json.dumps(result))
    return path


def collect(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    options = ["--scale", "toy", "--output", str(folder), "--collect", *map(str, files)]
    return subprocess.run([sys.executable, str(BENCHMARKS / "strong_scaling.py"), *options], env=environment(),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


def test_results_of_several_jobs_become_one_curve(tmp_path: Path) -> None:
    files = [part(tmp_path, 4, 3.0), part(tmp_path, 1, 10.0)]
    found = run_toy(tmp_path, "strong_scaling", "--collect", *files)
    assert [row["ranks"] for row in found["rows"]] == [1, 4]
    assert [row["wall E"] for row in found["rows"]] == [1.0, pytest.approx(10.0 / 4 / 3.0)]
    assert found["provenance"]["commit"] == "c" and len(found["provenance"]["parts"]) == 2


def test_a_job_without_result_is_named_behind_those_that_have_one(tmp_path: Path) -> None:
    done = collect(tmp_path, part(tmp_path, 1, 10.0), tmp_path / "lost.json")
    assert done.returncode == 1 and f"not measured: {tmp_path / 'lost.json'}" in done.stderr
    assert (tmp_path / "strong_scaling-toy.png").exists()
    assert "none of 1 results is there" in collect(tmp_path, tmp_path / "lost.json").stderr


@pytest.mark.parametrize(("changes", "message"), [
    ({"bits": "other"}, "products of 2 ranks differ from those of 1"),
    ({"cpu": "b"}, "was measured with cpu b"),
    ({"commit": "d"}, "was measured with commit d"),
])  # fmt: skip
def test_results_that_cannot_be_one_curve_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    done = collect(tmp_path, part(tmp_path, 1, 10.0), part(tmp_path, 2, 5.0, **changes))
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.launches_mpi
def test_starts_of_one_and_two_ranks_are_timed_and_their_files_counted(folder: Path) -> None:
    one, two = run_toy(folder, "start_up")["rows"]
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert 0.0 < two["to first block"] < two["whole job"]
    assert 300 < one["modules"] < 1500 and 300 < one["files"] < 3000 and one["MB"] > 5.0


@pytest.mark.launches_mpi
def test_load_balance_is_that_of_the_busiest_rank_in_every_part_of_a_run(folder: Path) -> None:
    rows = run_toy(folder, "load_balance", "--ranks", 1, 3)["rows"]
    parts = ["dirty images", "minor cycles", "major cycles", "products", "all"]
    assert [(row["ranks"], row["part"]) for row in rows] == [(ranks, part) for ranks in (1, 3) for part in parts]
    assert all(row["x ideal"] == pytest.approx(1.0) for row in rows[:5]), "one rank is its own ideal"
    assert all(1.0 <= row["x ideal"] <= 3.0 for row in rows[5:])
    assert rows[9]["busiest"] == pytest.approx(sum(row["busiest"] for row in rows[5:9]))
    assert rows[1]["cycles"] == rows[2]["cycles"] > 1


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
