"""Every benchmark at toy size: contestants agree (each script ends with status 1 if not), table, JSON and plot are there."""

from __future__ import annotations

import json
import shutil
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
    assert len(result["provenance"]["load_before"]) == len(result["provenance"]["load"]) == 3
    header = next(iter(result["rows"][0]))
    assert any(line.lstrip().startswith(header) for line in done.stdout.splitlines())
    return result


def run_code(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python code that may import the benchmarks."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n{code}", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that simulated data are shared."""
    return tmp_path_factory.mktemp("benchmarks")


def test_our_gridder_and_ducc_agree_for_every_kind_of_cube(folder: Path) -> None:
    pytest.importorskip("ducc0")
    rows = run_toy(folder, "gridding")["rows"]
    lanes = {(row["case"], row["kernel"].split(",")[0]) for row in rows}
    assert lanes == {
        ("narrow", "lanes 16"), ("wide", "lanes 16"), ("wide 12", "lanes 8"), ("wide 8", "lanes 8"),
        ("few", "plane 1"), ("single", "plane 1"),
    }  # fmt: skip
    assert all(0.0 < row["difference"] < 4e-4 for row in rows)
    steps = [row for row in rows if row["step"] != "residual pass"]
    assert all(0.0 < row["theirs wall"] < row["indexed theirs wall"] for row in steps)


def test_ducc_timers_that_are_not_found_are_an_error() -> None:
    pytest.importorskip("ducc0")
    done = run_code(
        "import gridding as g\n"
        "text = 'Total wall clock time for gridding: 0.02s\\n|\\n+- gridding proper      : 25.00% (0.0050s)\\n'\n"
        "print(g.timer_s(text, 'gridding proper'), g.timer_s(text.replace('0.02s', '8e-05s'), 'gridding proper'))\n"
        "g.timer_s(text, 'building index')"
    )
    assert done.returncode == 1 and done.stdout == "0.005 2e-05\n"
    assert "doesn't print a timer 'building index'" in done.stderr


def test_gridding_benchmark_fails_when_results_disagree() -> None:
    pytest.importorskip("ducc0")
    done = run_code(
        "import gridding as g\n"
        "class Coarse(g.Ducc):\n    def __init__(self, data, epsilon): super().__init__(data, 1e-1)\n"
        "g.Ducc = Coarse; g.measure(g.Case('narrow', 64, 2, g.NARROW, 300), 1e-4, 1)"
    )
    assert done.returncode == 1
    assert "wrong result: narrow 64: residual images differ by" in done.stderr


def test_hogbom_has_the_bits_of_plain_hogbom_and_clark_the_flux_of_ours_under_every_mask(folder: Path) -> None:
    rows = run_toy(folder, "deconvolution")["rows"]
    kinds = [("hogbom", "plain numba"), ("clark", "our hogbom")]
    masks = [(1, 1), (10, 1), (30, 1), (100, 1), (1, 8)]
    expected = [(*kind, *mask) for kind in kinds for mask in masks]
    assert [(row["deconvolver"], row["against"], row["mask %"], row["islands"]) for row in rows] == expected
    assert all(row["ours 1/s"] == pytest.approx(1e6 / row["ours wall"]) and row["theirs 1/s"] > 0 for row in rows)


@pytest.mark.launches_mpi
def test_cube_jobs_run_from_a_simulated_measurement_set_and_find_its_brightest_source(folder: Path) -> None:
    result = run_toy(folder, "cube_job")
    rows = {row["job"]: row for row in result["rows"]}
    assert 0.05 < rows["dirty"]["ours GB"] < 2.0 and "ours iterations" not in rows["dirty"]
    assert ("wsclean" in result["provenance"]["programs"]) == (shutil.which("wsclean") is not None)
    if "CLEAN" in rows:
        assert rows["CLEAN"]["ours iterations"] >= rows["CLEAN"]["niter"] == 200


@pytest.mark.parametrize(("ours", "theirs", "message"), [
    (104_000, 109_400, ""),
    (104_000, 109_500, "104000 to 109500 iterations"),
    (104_000, 99_999, "CLEAN ended after 99999 iterations; 110000 were asked for, 100000 are needed"),
])  # fmt: skip
def test_clean_jobs_of_other_numbers_of_iterations_are_not_compared(ours: int, theirs: int, message: str) -> None:
    done = run_code(
        "import cube_job as c\nfrom common import Timing\n"
        "job = c.Job('CLEAN', None, None, None, 512, 110_000, 2)\n"
        "runs = {name: [c.Finished(Timing(), 1.0, [], int(n))] for name, n in zip(('ours', 'theirs'), sys.argv[1:])}\n"
        "print(c.counted(job, runs)['theirs iterations'])", ours, theirs,
    )  # fmt: skip
    assert message in done.stderr and (done.stdout == f"{theirs}\n") == (not message)


@pytest.mark.launches_mpi
def test_a_measurement_set_made_after_its_store_has_the_same_data(tmp_path: Path) -> None:
    done = run_code(
        "import numpy as np, programs as p\nfrom pathlib import Path\n"
        "from radps_mpi.io.visibility_store import VisibilityStore\n"
        "folder, launcher, what = Path(sys.argv[1]), 'mpirun -n {ranks}', p.Observation(3, 4, 2)\n"
        "store, table = p.simulate(launcher, folder, what)\nassert store.exists() and not table.exists()\n"
        "before = store.stat().st_mtime_ns\np.simulate(launcher, folder, what, ms=True)\n"
        "assert store.stat().st_mtime_ns == before\np.radps(launcher, 1, ['ingest', table, '-o', folder / 'again.vis.h5'])\n"
        "one, two = (VisibilityStore.open(path).read(0, 0, 3, 0, 12) for path in (store, folder / 'again.vis.h5'))\n"
        "assert one.size and np.array_equal(one, two)", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_first_rank_on_another_machine_is_not_killed(tmp_path: Path) -> None:
    holder = {"host": "elsewhere", "pid": 1, "job_id": "", "started": "now", "boot_id": "", "started_ticks": ""}
    (tmp_path / "lock").write_text(json.dumps(holder))
    done = run_code("import programs as p\nfrom pathlib import Path\np._first_rank(Path(sys.argv[1]))", tmp_path)
    assert done.returncode == 1 and "the first rank runs on elsewhere, where this benchmark can't kill it" in done.stderr


def test_what_fails_while_a_program_runs_ends_the_program() -> None:
    done = run_code(
        "import programs as p\nprogram = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "def fail(line): raise SystemExit(f'no more of {line.strip()}')\n"
        "p.run([sys.executable, '-c', program], on_line=fail)"
    )
    assert done.returncode == 1 and done.stderr.startswith("no more of ")
    assert not Path(f"/proc/{done.stderr.split()[-1]}").exists()


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
    one, two = run_toy(folder, "weak_scaling", "--ranks", 1, 2, "--channels", 8)["rows"]
    assert (one["channels"], two["channels"]) == (8, 16) and two["wall ideal"] == one["wall"]
    assert one["bits"] == two["bits"] and two["iterations"] == 2 * one["iterations"] == 3200


def part(folder: Path, ranks: int, wall_s: float, **changes: Any) -> Path:
    """What a job of a scaling test leaves."""
    load = {"load": [0.0] * 3, "load_before": [0.0] * 3}
    about = {"cpu": "a", "cores": 2, "memory_gb": 1, **load, "commit": "c", "versions": {"numpy": "2"}, **changes}
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
    told = [job for job, row in rows.items() if "largest rank GB" in row]
    assert len(told) == len(rows) - 2 and not {"simulate", "ingest"} & set(told)
    assert not (folder / "eighty_thousand").exists()


@pytest.mark.launches_mpi
def test_the_cost_model_is_compared_with_runs_part_by_part(folder: Path) -> None:
    rows = run_toy(folder, "plan_model", "--ranks", 1, 2)["rows"]
    assert [row["ranks"] for row in rows] == [1, 2]
    assert all(row["predicted s"] > 0 and row["measured s"] > 0 and row["measured MB"] > 50 for row in rows)


def test_real_sets_that_are_not_found_are_named(tmp_path: Path) -> None:
    done = run_code(
        "import plan_model as m\nfrom argparse import Namespace\nfrom pathlib import Path\n"
        "m.simulate = lambda *_: (Path('sim'), None)\nout = Path(sys.argv[1])\n"
        "print(list(m.jobs_of(Namespace(output=out, scale='small', launcher='', data=out / 'more'))))", tmp_path,
    )  # fmt: skip
    *left_out, found = done.stdout.splitlines()
    assert found == "['simulated', 'NGC 5921']", done.stderr
    assert [line.split(":")[0] for line in left_out] == ["HD 142527 left out", "DM Tau left out"]
    assert all(str(tmp_path / "more") in line for line in left_out)


@pytest.mark.parametrize("name", ["load_balance", "eighty_thousand"])
def test_options_that_would_do_nothing_are_refused(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--repeats", "3"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "unrecognized arguments: --repeats 3" in done.stderr
