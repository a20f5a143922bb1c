"""Batch scripts as text: what Slurm and the shell read in them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from radps_mpi.slurm.script import (
    Request,
    compiling,
    head,
    image_arguments,
    job_name_of,
    preparation,
    run_script,
    slurm_time,
)
from radps_mpi.slurm.site import Site, site_of_toml

SITE = """
account = "radio"
srun_options = ["--mpi=pmix_v4", "--label=it's me"]
sbatch_options = ["--exclusive"]
setup = "module load openmpi"
[[partition]]
name = "long"
cores_per_node = 64
memory_per_node = "250GB"
sbatch_options = ["--qos=long"]
"""


@pytest.fixture
def site() -> Site:
    return site_of_toml(SITE, "site.toml")


def test_the_head_asks_for_what_was_planned(site: Site) -> None:
    request = Request("runs/ngc 5921", site.partitions[0], "radio", 2, 16, 4, 3 * 2**30, 90_061.0)
    assert head(request, site, ["--requeue"]) == [f"#SBATCH {option}" for option in (
        "--job-name=ngc-5921", "--partition=long", "--account=radio", "--nodes=2", "--ntasks-per-node=16", "--cpus-per-task=4",
        "--mem=3072M", "--time=1-01:01:01", "--output=%x-%j.log", "--requeue", "--exclusive", "--qos=long",
    )]  # fmt: skip


def test_without_an_account_the_users_default_is_taken(site: Site) -> None:
    request = Request("a", site.partitions[0], "", 1, 1, 1, 0, 60.0)
    lines = head(request, site)
    assert not [line for line in lines if "--account" in line]
    assert "#SBATCH --mem=0M" in lines and "#SBATCH --time=00:01:00" in lines


@pytest.mark.parametrize(("seconds", "text"), [
    (60, "00:01:00"), (59.2, "00:01:00"), (86_399, "23:59:59"), (86_400, "1-00:00:00"),
])  # fmt: skip
def test_times_are_as_slurm_writes_them(seconds: float, text: str) -> None:
    assert slurm_time(seconds) == text


@pytest.mark.parametrize(("imagename", "name"), [
    ("runs/ngc5921", "ngc5921"), ("a b\n#SBATCH --x", "a-b-SBATCH-x"), ("runs/-x", "x"), ("runs/'", "radps"),
    ("M 31.v2", "M-31.v2"),
])  # fmt: skip
def test_a_job_is_called_by_what_is_plain_in_the_images_name(imagename: str, name: str) -> None:
    assert job_name_of(imagename) == name


def test_the_shell_finds_the_sites_settings_and_the_folder(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "it's $(touch pwned)"
    folder.mkdir()
    lines = [line for line in preparation(site, folder) if not line.startswith((". ", "module "))]
    script = "\n".join([*lines, 'printf "%s\\n" "$PWD" "$launcher" "${srun_options[@]}"'])
    shown = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True).stdout
    assert shown.splitlines() == [str(folder), "auto", "--mpi=pmix_v4", "--label=it's me"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(("least", "staged"), [(0, False), (32, True), (33, False)])
def test_jobs_of_many_ranks_start_from_copies_on_their_nodes(least: int, staged: bool, tmp_path: Path) -> None:
    site = site_of_toml(f"stage_ranks = {least}\n{SITE}", "site.toml")
    request = Request("a", site.partitions[0], "", 2, 16, 1, 0, 60.0)
    lines = run_script(request, site, [], "a", ["a.ms"], tmp_path).splitlines()
    sourced = [Path(shlex.split(line)[1]).name for line in lines if line.startswith(". ")]
    assert sourced == ["attempt.sh", "environment.sh", *(["stage.sh"] if staged else [])]


@pytest.mark.parametrize(("ranks_per_node", "least", "named"), [
    (16, 0, []), (32, 0, ["warm.sh"]), (32, 64, ["stage.sh"]), (16, 1, ["stage.sh"]),
])  # fmt: skip
def test_kernels_are_compiled_before_many_ranks_would_do_it(
    site: Site, ranks_per_node: int, least: int, named: list[str], tmp_path: Path
) -> None:
    site = site_of_toml(f"stage_ranks = {least}\n{SITE}", "site.toml")
    request = Request("a", site.partitions[0], "", 2, ranks_per_node, 1, 0, 60.0, ("--precision=double", "--epsilon=1e-06"))
    text = run_script(request, site, [], "a", ["a.ms", "--niter=5"], tmp_path)
    assert [name for name in ("warm.sh", "stage.sh") if f"/jobs/{name}" in text] == named
    assert ("\nkernel_options=(--precision=double --epsilon=1e-06)\n" in text) == bool(named)
    subprocess.run(["bash", "-n"], input=text, text=True, timeout=20, check=True)


@pytest.mark.parametrize(("there", "compiled"), [(True, False), (False, True)])
def test_what_is_compiled_already_is_not_compiled_again(
    site: Site, there: bool, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radps_mpi.slurm.script.WARM", tmp_path / "warm.sh")
    (tmp_path / "warm.sh").write_text(f'echo "$@" >{tmp_path}/warmed; exit 1\n')
    if there:
        (tmp_path / "kernel.nbi").touch()
    request = Request("a", site.partitions[0], "", 2, 64, 1, 0, 60.0, ("--precision=double",))
    lines = ["set -eo pipefail", *compiling(request, site), "echo on"]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], env={"PATH": "/usr/bin:/bin", "NUMBA_CACHE_DIR": str(tmp_path)},
                          capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    assert done.stdout == "on\n"
    assert (tmp_path / "warmed").exists() == compiled
    assert not compiled or (tmp_path / "warmed").read_text() == "--precision=double\n"


def test_values_are_quoted_and_inputs_that_look_like_options_come_last() -> None:
    given = {"niter": "5", "mask": ["circle[[1pix,1pix],2pix]", "it's"], "overwrite": True, "pbcor": False, "start": "-5km/s"}
    names = ["mask", "niter", "overwrite", "pbcor", "start", "width"]
    flags = ["--mask=circle[[1pix,1pix],2pix]", "--mask=it's", "--niter=5", "--overwrite", "--no-pbcor", "--start=-5km/s"]
    assert shlex.split(" ".join(image_arguments(given, ["a b.ms"], names))) == ["a b.ms", *flags]
    assert shlex.split(" ".join(image_arguments(given, ["-a.ms"], names))) == [*flags, "--", "-a.ms"]
