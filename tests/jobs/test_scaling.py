"""jobs/scaling/submit.py without a Slurm: which jobs it submits, what they ask for and run, what it refuses."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = """
account = "radio"
setup = "module load openmpi"
[[partition]]
name = "short"
cores_per_node = 4
memory_per_node = "2GB"
most_nodes = 2
time_limit = "1h"
[[partition]]
name = "endless"
cores_per_node = 64
memory_per_node = "200GB"
"""


@pytest.fixture(scope="module")
def submit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("submit", REPOSITORY / "jobs" / "scaling" / "submit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["submit"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a site file, and an sbatch that notes how it was called, where, and gives numbers from 11."""
    (tmp_path / "site.toml").write_text(SITE)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f'#!/bin/bash\necho "$PWD $*" >>{tmp_path}/calls\necho $((10 + $(wc -l <{tmp_path}/calls)))\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


OPTIONS = ["--site", "site.toml", "--output", "out", "--scale", "toy"]


def test_jobs_run_one_after_the_other_and_the_last_puts_their_results_together(submit: ModuleType, folder: Path) -> None:
    assert submit.main([*OPTIONS, "--ranks", "8", "1", "2"]) == 0
    calls = (folder / "calls").read_text().splitlines()
    out = folder / "out"
    names = ["strong-1", "strong-2", "strong-8", "weak-1", "weak-2", "weak-8", "results"]
    after = ["", *(f"--dependency=afterany:{job} " for job in range(11, 17))]
    assert calls == [f"{out} --parsable {option}{out / name}.sbatch" for option, name in zip(after, names, strict=True)]
    collecting = (out / "results.sbatch").read_text()
    for kind in ("strong", "weak"):
        parts = " ".join(f"{out}/{kind}-{n}/{kind}_scaling-toy.json" for n in (1, 2, 8))
        assert f"benchmarks/{kind}_scaling.py --scale toy --output {out} --collect {parts} || status=$?" in collecting


def test_a_job_takes_whole_nodes_for_its_ranks_and_shares_the_data(submit: ModuleType, folder: Path) -> None:
    assert submit.main([*OPTIONS, "weak", "--ranks", "8", "--channels", "99", "32", "--time", "20min", "--dry-run"]) == 0
    assert not (folder / "calls").exists()
    text = (folder / "out" / "weak-8.sbatch").read_text()
    asked = set(re.findall("^#SBATCH (.*)$", text, re.MULTILINE))
    assert {"--nodes=2", "--ntasks-per-node=4", "--mem=0M", "--exclusive", "--no-requeue", "--time=00:20:00",
            "--partition=short", "--account=radio"} <= asked  # fmt: skip
    assert f"weak_scaling.py --scale toy --ranks 8 --channels 32 --repeats 0 --data {folder / 'out' / 'data'} " in text
    assert "module load openmpi\n" in text and not (folder / "out" / "strong-8.sbatch").exists()


def test_jobs_of_many_ranks_start_from_copies_as_the_site_file_says(submit: ModuleType, folder: Path) -> None:
    (folder / "site.toml").write_text(f"stage_ranks = 4\n{SITE}")
    assert submit.main([*OPTIONS, "strong", "--ranks", "2", "4", "--dry-run"]) == 0
    few, many = ((folder / "out" / f"strong-{n}.sbatch").read_text() for n in (2, 4))
    assert "stage.sh" not in few and "GIT_DIR" not in few
    stage, copy, measure = (many.index(text) for text in ("/jobs/stage.sh\n", '\ncd "$RADPS_ROOT"', "\npython benchmarks/"))
    assert many.index("/jobs/environment.sh\n") < stage < copy < measure
    assert "stage.sh" not in (folder / "out" / "results.sbatch").read_text()


def test_what_has_been_measured_is_measured_again_only_when_asked(
    submit: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = folder / "out" / "strong-2" / "strong_scaling-toy.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    assert submit.main([*OPTIONS, "--ranks", "1", "2"]) == 64
    assert "strong_scaling-toy.json has been measured" in capsys.readouterr().err
    assert old.exists() and not (folder / "calls").exists()
    assert submit.main([*OPTIONS, "--ranks", "1", "2", "--overwrite"]) == 0
    assert not old.exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--ranks", "9"], "9 ranks take 3 nodes, more than the 2 of short"),
    (["--ranks", "5"], "5 ranks can't be shared out evenly among 2 nodes of up to 4"),
    (["--ranks", "0"], "0 ranks"),
    (["--ranks", "2", "--ranks-per-node", "8"], "a node of short has 4 cores"),
    (["--ranks", "2", "--partition", "sort"], "no partition 'sort' in the site file (did you mean 'short'?)"),
    (["--ranks", "2", "--partition", "endless"], "--time is missing: endless has no time limit"),
    (["--ranks", "2", "--time", "2h"], "--time: '2h' is not between a minute and short's limit"),
    (["--ranks", "2", "--scale", "huge"], "argument --scale: invalid choice: 'huge'"),
    (["string", "--ranks", "2"], "'string' is neither strong nor weak"),
    ([], "the following arguments are required: --ranks"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(
    submit: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert submit.main([*arguments, *OPTIONS]) == 64
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (folder / "calls").exists() and not (folder / "out").exists()


def test_a_refusal_of_slurm_ends_it(submit: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bin" / "sbatch").write_text('#!/bin/bash\necho "sbatch: error: Requested time limit is invalid" >&2; exit 1\n')
    assert submit.main([*OPTIONS, "--ranks", "1"]) == 1
    assert "sbatch refuses" in (said := capsys.readouterr().err) and "Requested time limit is invalid" in said
