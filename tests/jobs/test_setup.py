"""jobs/setup.sh where there is nothing to do, and where it can't go on: what it says then."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = ("awk", "bash", "cat", "cut", "date", "dirname", "env", "flock", "grep", "head", "id", "ls", "mkdir", "mktemp",
         "mv", "nproc", "rm", "sed", "sha256sum", "sort", "tail", "tee", "touch", "tr", "uname")  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without a virtual environment."""
    (tmp_path / "jobs").mkdir()
    shutil.copy(REPOSITORY / "jobs" / "setup.sh", tmp_path / "jobs")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with the usual tools but no compiler, MPI, HDF5, package manager or Python."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def run_setup(checkout: Path, **environment: str) -> tuple[int, str]:
    keep = {k: v for k, v in os.environ.items() if k not in ("HDF5_DIR", "HDF5_ROOT", "RADPS_PYTHON", "MPICC")}
    done = subprocess.run(["bash", "jobs/setup.sh"], cwd=checkout, env=keep | {"RADPS_NO_APT": "1"} | environment,
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_second_call_takes_less_than_a_second() -> None:
    stamp = REPOSITORY / ".venv" / "radps-setup"
    inputs = [REPOSITORY / "pyproject.toml", REPOSITORY / "jobs" / "setup.sh"]
    if not stamp.exists() or stamp.stat().st_mtime < max(path.stat().st_mtime for path in inputs):
        pytest.skip("this checkout was not set up by jobs/setup.sh, or not since it changed")
    environment = {k: v for k, v in os.environ.items() if k != "RADPS_PYTHON"}
    started = time.perf_counter()
    output = subprocess.check_output(["bash", "jobs/setup.sh"], cwd=REPOSITORY, env=environment, text=True)
    assert time.perf_counter() - started < 1.0
    assert output == ""


def test_a_bare_machine_is_told_what_to_install_or_load(checkout: Path, bare_path: str) -> None:
    status, output = run_setup(checkout, PATH=bare_path, RADPS_PYTHON="no-such-python")
    assert status == 1
    for word in ("Python 3.11", "RADPS_PYTHON=no-such-python", "mpicc", "a C compiler", "parallel HDF5 1.10.7",
                 "HDF5_DIR", "apt-get install openmpi-bin libopenmpi-dev libhdf5-openmpi-dev"):  # fmt: skip
        assert word in output
    assert not (checkout / ".venv").exists()


def test_only_what_is_missing_is_listed(checkout: Path) -> None:
    if not shutil.which("mpicc"):
        pytest.skip("needs an MPI compiler")
    status, output = run_setup(checkout, RADPS_PYTHON="/bin/false")
    assert status == 1
    assert "- Python 3.11" in output
    assert "- an MPI" not in output


def test_a_serial_hdf5_is_refused_by_name(checkout: Path) -> None:
    site = checkout / "hdf5"
    (site / "include").mkdir(parents=True)
    (site / "include" / "H5pubconf.h").write_text('/* #undef H5_HAVE_PARALLEL */\n#define H5_VERSION "1.14.3"\n')
    status, output = run_setup(checkout, HDF5_DIR=str(site))
    assert status == 1
    assert f"the HDF5 in {site} is not a parallel one" in output


def test_an_hdf5_that_h5py_does_not_take_is_refused(checkout: Path) -> None:
    if not shutil.which("mpicc"):
        pytest.skip("needs an MPI compiler")
    site = checkout / "hdf5"
    (site / "include").mkdir(parents=True)
    (site / "include" / "H5pubconf.h").write_text('#define H5_HAVE_PARALLEL 1\n#define H5_VERSION "1.8.21"\n')
    status, output = run_setup(checkout, HDF5_ROOT=str(site))
    assert status == 1
    assert "HDF5 1.8.21 is too old" in output


def test_the_environment_keeps_what_is_set_and_caches_stay_in_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    shutil.copy(REPOSITORY / "jobs" / "environment.sh", tmp_path / "jobs")
    script = """set -eu; . jobs/environment.sh
    echo "$NUMBA_CACHE_DIR|$HDF5_USE_FILE_LOCKING|$RADPS_ROOT|$OMPI_MCA_rmaps_base_oversubscribe" """
    base = {"PATH": os.environ["PATH"]}

    def variables(**environment: str) -> list[str]:
        output = subprocess.check_output(["bash", "-c", script], cwd=tmp_path, env=base | environment, text=True)
        return output.strip().split("|")

    compiled, *others = variables()
    assert Path(compiled).parent == tmp_path / ".cache" / "numba"
    assert others == ["BEST_EFFORT", str(tmp_path), "1"]
    elsewhere = str(tmp_path / "elsewhere")
    assert variables(HDF5_USE_FILE_LOCKING="FALSE", NUMBA_CACHE_DIR=elsewhere)[:2] == [elsewhere, "FALSE"]


def test_the_caches_of_a_read_only_checkout_are_the_users(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    shutil.copy(REPOSITORY / "jobs" / "environment.sh", tmp_path / "jobs")
    (tmp_path / ".cache").touch()  # no folder can be made there, not even by root
    script = "set -eu; . jobs/environment.sh; echo $NUMBA_CACHE_DIR; [ -d $NUMBA_CACHE_DIR ]"
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    output = subprocess.check_output(["bash", "-c", script], cwd=tmp_path, env=variables, text=True)
    assert output.startswith(f"{tmp_path}/home/.cache/radps/numba/")


def test_kernels_are_compiled_anew_when_any_of_their_sources_has_changed(tmp_path: Path) -> None:
    """numba would go on with what it compiled of a file that calls a changed one."""
    sources = tmp_path / "kernels" / "radps_kernels"
    sources.mkdir(parents=True)
    (tmp_path / "jobs").mkdir()
    shutil.copy(REPOSITORY / "jobs" / "environment.sh", tmp_path / "jobs")
    (sources / "lanes.py").write_text("one")
    script = """set -euo pipefail
    . jobs/environment.sh; echo $NUMBA_CACHE_DIR
    . jobs/environment.sh; echo $NUMBA_CACHE_DIR
    echo two >kernels/radps_kernels/lanes.py; . jobs/environment.sh; echo $NUMBA_CACHE_DIR"""
    output = subprocess.check_output(["bash", "-c", script], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, text=True)
    before, again, after = output.split()
    assert before == again != after
