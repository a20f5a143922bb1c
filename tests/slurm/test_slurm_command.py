"""radps slurm without a Slurm: what is written, what a script would run, and what sbatch is handed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import jobs

from radps_mpi import cli
from radps_mpi.config import RunConfig
from radps_mpi.errors import DataError, RadpsError, StorageError, UsageError
from radps_mpi.given_parameters import gather_parameters
from radps_mpi.parallel import world

SITE = """
account = "radio"
memory_margin = 1.5
[[partition]]
name = "short"
cores_per_node = 8
memory_per_node = "16GB"
most_nodes = 2
time_limit = "2h"
[[partition]]
name = "long"
cores_per_node = 8
memory_per_node = "16GB"
time_limit = "7d"
"""
SMALL = ["--imsize", "64", "--cell", "0.4arcsec"]
LARGE = ["--imsize", "2000", "--cell", "0.1arcsec", "--niter", "60000000"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen channels of noise."""
    path = tmp_path_factory.mktemp("store") / "sky.vis.h5"
    small = ["--nchan", "64", "--nantenna", "8", "--nintegration", "3", "--noise", "50mJy"]
    assert cli.parse(["simulate", "-o", str(path), *small]).run(world()) == 0
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a site file; nobody's own settings, no Slurm."""
    (tmp_path / "work").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "work" / "site.toml").write_text(SITE)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    program(tmp_path / "bin" / "sbatch", "exit 127")
    return tmp_path / "work"


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def slurm(*arguments: object) -> int:
    return cli.parse(["slurm", "--site", "site.toml", *map(str, arguments)]).run(world())


def asked(script: str) -> dict[str, str]:
    """Options of the #SBATCH lines."""
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", Path(script).read_text(), re.MULTILINE))


def started(script: str, folder: Path, restarts: int = 0) -> list[str]:
    """What a job of the script starts the ranks with, word by word."""
    program(folder.parent / "bin" / "srun", '[ "$1" = --mpi=list ] && echo pmix || printf "%s\\0" "$@" >started')
    variables = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": str(restarts), "HOME": str(folder)}
    done = subprocess.run(["bash", folder / script], env=variables, capture_output=True, text=True, timeout=30, cwd="/",
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path("started").read_bytes().decode().split("\0")[:-1]


def config_of(arguments: Sequence[str]) -> RunConfig:
    """The configuration that ``radps ARGUMENTS`` makes an image with."""
    command: Any = cli.parse(arguments).run
    return RunConfig.from_flat(*gather_parameters(command.args[0], world()))


def test_jobs_of_different_sizes_ask_for_different_resources(store: Path) -> None:
    slurm(store, "--imagename", "small", *SMALL)
    slurm(store, "--imagename", "large", *LARGE)
    small, large = asked("small.sbatch"), asked("large.sbatch")
    assert int(small["ntasks-per-node"]) * int(small["nodes"]) < int(large["ntasks-per-node"]) * int(large["nodes"])
    assert int(small["mem"][:-1]) < int(large["mem"][:-1]) <= 16e9 / 2**20
    assert small["time"] == "00:10:00" and large["time"] > "00:10:00"
    assert small["account"] == "radio" and small["signal"] == "B:USR1@300"


def test_a_job_of_many_ranks_has_the_kernels_compiled_that_its_configuration_needs(store: Path) -> None:
    Path("site.toml").write_text("stage_ranks = 1" + SITE)
    Path("run.toml").write_text('precision = "double"\nepsilon = 1e-6\n')
    slurm(store, "--imagename", "fine", *SMALL, "--config", "run.toml")
    assert "\nkernel_options=(--precision=double --epsilon=1e-06)\n" in Path("fine.sbatch").read_text()
    slurm(store, "--imagename", "coarse", *SMALL)
    assert "\nkernel_options=(--precision=single --epsilon=0.0001)\n" in Path("coarse.sbatch").read_text()


def test_threads_that_only_the_nodes_with_less_memory_have_cores_for_go_there(store: Path) -> None:
    Path("site.toml").write_text(SITE.replace('cores_per_node = 8\nmemory_per_node = "16GB"\ntime_limit = "7d"',
                                              'cores_per_node = 4\nmemory_per_node = "64GB"\ntime_limit = "7d"'))
    slurm(store, "--imagename", "threads", *LARGE, "--threads", "8")
    found = asked("threads.sbatch")
    assert (found["partition"], found["cpus-per-task"]) == ("short", "8")
    with pytest.raises(UsageError, match="threads: 9 of a rank are more than the 8 cores of a node"):
        slurm(store, "--imagename", "more", *LARGE, "--threads", "9")


def test_the_script_asks_for_what_radps_plan_says(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = ["--cores-per-node", "8", "--memory-per-node", "16GB", "--max-nodes", "2"]
    cli.parse(["plan", str(store), *LARGE, *nodes, "--json"]).run(world())
    best = json.loads(capsys.readouterr().out)["best"]
    slurm(store, "--imagename", "large", *LARGE, "--partition", "short")
    found = asked("large.sbatch")
    assert int(found["nodes"]) * int(found["ntasks-per-node"]) == best["ranks"]
    assert int(found["cpus-per-task"]) == best["threads"]
    assert int(found["mem"][:-1]) * 2**20 >= 1.49 * best["memory_per_rank_bytes"] * best["ranks"] / best["nodes"]


def test_the_job_makes_the_image_with_the_parameters_that_were_given(store: Path, folder: Path) -> None:
    Path("run.toml").write_text('niter = 100\nweighting = "briggs"\nthreshold = "8mJy"\n')
    name = "runs/it's $(touch pwned) `id` \"x\""
    parameters = ["--config", "run.toml", "--imagename", name, *SMALL, "--niter", "60", "--mask", "circle[[32pix,32pix],9pix]",
                  "ellipse[[32pix, 32pix], [4pix, 3pix], 0deg]", "--keep-state", "--start", "3"]  # fmt: skip
    slurm(store, *parameters, "-o", "job.sbatch", "--max-nodes", "1")
    launch = started("job.sbatch", folder)
    at = launch.index("radps")
    assert launch[:at] == ["--mpi=pmix", "--wait=30"]
    assert config_of(launch[at + 1 :]) == config_of(["image", str(store), *parameters])
    assert config_of(launch[at + 1 :]).weighting.weighting == "briggs"
    assert not list(folder.parent.rglob("pwned"))


def test_a_later_attempt_goes_on_with_the_run(store: Path, folder: Path) -> None:
    slurm(store, "--imagename", "runs/a", *SMALL)
    Path("runs/a.radps").mkdir()
    Path("runs/a.radps/manifest").touch()
    assert started("runs/a.sbatch", folder, restarts=1)[-3:] == ["radps", "resume", "runs/a"]


def test_cell_and_size_that_the_plan_proposes_are_in_the_script(store: Path, folder: Path) -> None:
    slurm(store, "--imagename", "a")
    image = config_of(started("a.sbatch", folder)[3:]).image
    assert image.nx > 64 and image.cell_rad[0] > 0.0


def test_threads_of_the_plan_reach_the_program_and_those_of_the_user_the_plan(store: Path, folder: Path) -> None:
    slurm(store, "--imagename", "a", *SMALL, "--threads", 2)
    assert asked("a.sbatch")["cpus-per-task"] == "2"
    assert config_of(started("a.sbatch", folder)[3:]).parallel.threads == 2
    Path("site.toml").write_text(SITE.replace("16GB", "2GB"))  # for one rank alone
    slurm(store, "--imagename", "b", *LARGE)
    threads = int(asked("b.sbatch")["cpus-per-task"])
    assert threads > 1
    assert config_of(started("b.sbatch", folder)[3:]).parallel.threads == threads


def test_a_job_that_stops_by_itself_is_not_given_more_time(store: Path) -> None:
    slurm(store, "--imagename", "a", *LARGE, "--niter", 10**11, "--max-time", "30min")
    assert asked("a.sbatch")["time"] == "00:36:00"


def test_a_run_longer_than_every_limit_goes_on_in_the_longest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slurm(store, "--imagename", "a", *LARGE, "--niter", 10**13)
    assert asked("a.sbatch")["partition"] == "long" and asked("a.sbatch")["time"] == "7-00:00:00"
    assert "of them in a row" in (said := capsys.readouterr().out)
    assert "warning: most_attempts is 20" in said


def test_an_earlier_script_is_replaced_only_when_asked(store: Path) -> None:
    slurm(store, "--imagename", "a", *SMALL)
    slurm(store, "--imagename", "a", *SMALL)  # the same text
    before = Path("a.sbatch").read_text()
    with pytest.raises(UsageError, match=r"a\.sbatch exists: .* --overwrite-script"):
        slurm(store, "--imagename", "a", *SMALL, "--overwrite")
    assert Path("a.sbatch").read_text() == before
    slurm(store, "--imagename", "a", *SMALL, "--overwrite", "--overwrite-script")
    assert "--overwrite" in Path("a.sbatch").read_text() and not list(Path().glob("*.tmp"))


def test_an_unfinished_run_is_gone_on_with_and_not_replaced(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.radps").mkdir()
    Path("a.radps/manifest").touch()
    slurm(store, "--imagename", "a", *SMALL)
    assert "warning: an unfinished run of a is there" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--overwrite: an unfinished run of a is there"):
        slurm(store, "--imagename", "a", *SMALL, "--overwrite")


def test_a_job_that_would_find_its_products_there_is_refused_before_it_waits_in_a_queue(store: Path) -> None:
    Path("a.image.fits").touch()
    with pytest.raises(UsageError, match=r"a\.image\.fits exists: choose another imagename, or replace it with --overwrite"):
        slurm(store, "--imagename", "a", *SMALL)
    assert slurm(store, "--imagename", "a", *SMALL, "--overwrite") == 0


def test_the_script_is_handed_to_sbatch_in_the_users_environment(
    store: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(folder.parent / "bin" / "sbatch", 'echo "$@" >submitted; env >environment; echo "17;cluster"')
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    monkeypatch.setenv("MPI4PY_RC_INITIALIZE", "false")
    slurm(store, "--imagename", "runs/a", *SMALL, "--submit")
    assert Path("submitted").read_text().strip() == f"--parsable {folder / 'runs' / 'a.sbatch'}"
    assert "submitted as job 17, log a-17.log" in capsys.readouterr().out
    environment = Path("environment").read_text()
    assert "OMPI_MCA_btl=self,tcp" in environment
    assert not re.search("^(PMIX_|OMPI_COMM_WORLD|MPI4PY_RC)", environment, re.MULTILINE)


def test_a_refusal_of_sbatch_is_one_line_and_the_script_stays(store: Path, folder: Path) -> None:
    program(folder.parent / "bin" / "sbatch", 'echo "sbatch: error: invalid partition specified: long" >&2\nexit 1')
    with pytest.raises(RadpsError, match=r"^sbatch refuses a\.sbatch: invalid partition specified: long$"):
        slurm(store, "--imagename", "a", *SMALL, "--submit")
    assert Path("a.sbatch").exists()


def test_without_sbatch_the_script_is_written_and_that_is_said(
    store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "bin" / "sbatch").unlink()
    (folder.parent / "bin" / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(folder.parent / "bin"))
    with pytest.raises(UsageError, match=r"there is no sbatch here; a\.sbatch is written"):
        slurm(store, "--imagename", "a", *SMALL, "--submit")
    assert Path("a.sbatch").exists()


@pytest.mark.parametrize(("arguments", "kind", "message"), [
    (["--imagename", "a"], UsageError, "no inputs: "),
    (["STORE"], UsageError, "--imagename is missing: "),
    (["STORE", "--imagename", "a", "--partition", "shrt"], UsageError, "no partition 'shrt' in the site file (did you mean"),
    (["STORE", "--imagename", "a", "--account", "a b"], UsageError, "--account: 'a b' can't stand in an #SBATCH line"),
    (["STORE", "--imagename", "a", "--max-nodes", "0"], UsageError, "--max-nodes: 0 is outside"),
    (["STORE", "--imagename", "a", "--niter", "-5"], UsageError, "--niter: -5 is outside"),
    (["STORE", "--imagename", "a", "--imsize", "20000"], UsageError, "no way to spread the job fits into the memory of a node"),
    (["STORE", "--imagename", "a", "-o", "/proc/none/a.sbatch"], StorageError, "/proc/none/a.sbatch: No such file"),
    (["none.vis.h5", "--imagename", "a"], DataError, "none.vis.h5"),
    (["STORE", "--imagename", "a", "--site", "none.toml"], UsageError, "site file none.toml"),
])  # fmt: skip
def test_what_cannot_be_a_job_is_refused(store: Path, arguments: list[str], kind: type[RadpsError], message: str) -> None:
    with pytest.raises(kind) as caught:
        slurm(*(store if word == "STORE" else word for word in arguments))
    assert message in str(caught.value)
    assert not list(Path().glob("*.sbatch"))


def test_a_site_file_kept_for_all_runs_is_found_by_itself(store: Path) -> None:
    command = ["slurm", str(store), "--imagename", "a", *SMALL]
    with pytest.raises(UsageError, match="no site file: name one with --site"):
        cli.parse(command).run(world())
    kept = Path(os.environ["XDG_CONFIG_HOME"]) / "radps" / "site.toml"
    kept.parent.mkdir(parents=True)
    Path("site.toml").rename(kept)
    assert cli.parse(command).run(world()) == 0


@pytest.mark.launches_mpi
def test_the_command_ends_with_one_line_and_the_status_of_a_usage_error(store: Path) -> None:
    refused = jobs.run_radps(["slurm", store, "--imagename", "a", "--site", "none.toml"])
    assert refused.returncode == 64
    assert jobs.error_lines(refused) == ["radps: error: site file none.toml: No such file or directory"]
