"""status, verify, --dry-run, --products, configuration files, and the program as a library."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

DIRTY = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "20", "--start", "9"]


@pytest.fixture(scope="module")
def kept(galaxy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that kept its state."""
    imagename = tmp_path_factory.mktemp("kept") / "cube"
    clean = ["--niter", "500", "--nmajor", "1", "--keep-state"]
    jobs.succeed(["image", galaxy_store, "--imagename", imagename, *DIRTY, *clean], ranks=2)
    return imagename


def test_status_tells_of_a_finished_run(kept: Path) -> None:
    lines = jobs.succeed(["status", kept]).stdout.splitlines()
    assert lines[0] == f"{kept}: not running"
    assert "finished" in lines[1] and "major cycle 1" in lines[1]
    assert "2 ranks" in lines[-1]


def test_status_tells_of_a_run_at_work_from_another_shell(galaxy: Path, tmp_path: Path) -> None:
    imagename = tmp_path / "cube"
    with jobs.Job(["image", galaxy, "--imagename", imagename, *DIRTY], ranks=2) as job:
        assert job.wait_until((tmp_path / "cube.radps" / "status.json").exists)
        shown = jobs.run_radps(["status", imagename])
        assert job.finish(60).returncode == 0
    assert shown.returncode == 0 and shown.stdout.startswith(f"{imagename}: ")
    assert "2 ranks" in shown.stdout


def test_status_of_nothing_is_refused(tmp_path: Path) -> None:
    refused = jobs.run_radps(["status", tmp_path / "nothing"])
    assert refused.returncode == 65 and len(jobs.error_lines(refused)) == 1


@pytest.mark.fault("corruption", "one flipped bit in a PSF, radps verify", "status 65, one finding naming the channel")
def test_verify_finds_a_flipped_bit_and_nothing_without_one(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept.parent, tmp_path, dirs_exist_ok=True)
    copy = tmp_path / kept.name
    assert "no damage" in jobs.succeed(["verify", copy], ranks=2).stdout
    with h5py.File(Path(f"{copy}.radps") / "state.h5", "r+") as state:
        plane = state["psf"][7]
        plane.view("u4")[3, 5] ^= 1
        state["psf"][7] = plane
    found = jobs.run_radps(["verify", copy], ranks=3)
    assert found.returncode == 65 and "damage in 1 place" in found.stdout and "channel 7" in found.stdout


def test_a_dry_run_prints_parameters_and_plan_and_writes_nothing(galaxy: Path, galaxy_store: Path, tmp_path: Path) -> None:
    plans = []
    for source in (galaxy, galaxy_store):
        done = jobs.succeed(["image", source, "--imagename", tmp_path / "cube", *DIRTY, "--niter", "7", "--dry-run"], ranks=2)
        parameters, _, plan = done.stdout.partition("\nimage: ")
        assert tomllib.loads(parameters)["niter"] == 7
        assert "20 channels" in plan and "2 blocks of up to 16 channels x 1 row groups on 2 ranks" in plan
        plans.append([line for line in plan.splitlines() if not line.startswith(("w-term", "disk:"))])
    assert plans[0] == plans[1], "but for baseline lengths and the room that the store takes, the plan follows from metadata"
    assert list(tmp_path.iterdir()) == []


def test_only_the_products_that_are_asked_for_are_written(kept: Path, galaxy_store: Path, tmp_path: Path) -> None:
    args = ["image", galaxy_store, "--imagename", tmp_path / "cube", *DIRTY, "--products", "image", "psf"]
    jobs.succeed(args, ranks=3)
    assert sorted(path.name for path in tmp_path.glob("*.fits")) == ["cube.image.fits", "cube.psf.fits"]
    assert jobs.product_hashes(tmp_path / "cube")["psf"] == jobs.product_hashes(kept)["psf"]


def test_a_primary_beam_corrected_image_rides_with_the_image(galaxy_store: Path, tmp_path: Path) -> None:
    import numpy as np
    from astropy.io import fits

    args = ["image", galaxy_store, "--imagename", tmp_path / "cube", *DIRTY, "--products", "image", "pb", "--pbcor"]
    jobs.succeed(args, ranks=2)
    image, corrected, pb = (fits.getdata(tmp_path / f"cube.{name}.fits") for name in ("image", "image.pbcor", "pb"))
    inside = np.isfinite(corrected)
    assert inside.any() and np.array_equal(inside, np.isfinite(image)) and np.nanmin(pb) >= 0.2
    assert np.allclose(corrected[inside] * pb[inside], image[inside], rtol=1e-5)


def test_the_run_directory_keeps_config_provenance_and_convergence(kept: Path) -> None:
    root = Path(f"{kept}.radps")
    assert tomllib.loads((root / "config.toml").read_text())["imsize"] == [64, 64]
    events = json.loads((root / "provenance.json").read_text())
    assert [event["event"] for event in events] == ["started", "imaging", "finished"]
    with open(root / "convergence.csv") as table:
        cycles = list(csv.DictReader(table))
    assert [int(row["cycle"]) for row in cycles] == [0, 1]
    assert float(cycles[1]["peak_residual_jy"]) < float(cycles[0]["peak_residual_jy"])
    assert "cycle 1: peak residual" in (root / "logs" / "radps.log").read_text()


def test_a_configuration_file_and_the_config_of_an_earlier_run_make_the_same_image(kept: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text((Path(f"{kept}.radps") / "config.toml").read_text())
    jobs.succeed(["image", "--config", config, "--imagename", tmp_path / "again"], ranks=1)
    assert jobs.product_hashes(tmp_path / "again") == jobs.product_hashes(kept)


def test_make_cube_in_a_script_without_a_launcher_makes_the_image_of_the_command(
    kept: Path, galaxy_store: Path, tmp_path: Path
) -> None:
    script = (
        "from radps_mpi import make_cube\n"
        f"result = make_cube({str(galaxy_store)!r}, imagename={str(tmp_path / 'cube')!r}, imsize=64, cell='30arcsec',\n"
        "                   nchan=20, start=9, niter=500, nmajor=1)\n"
        "print(result.stop_code, result.stop_text, result.major_cycles, result.iterations > 0, len(result.products))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=jobs.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(kept)
    assert done.stdout == "1 niter reached 2 True 7\n", "tclean counts the first images as a major cycle"


def test_make_cube_raises_what_the_command_reports(galaxy_store: Path, tmp_path: Path) -> None:
    script = (
        "from radps_mpi import make_cube\nfrom radps_mpi.errors import UsageError, DataError\n"
        "for parameters in ({'nite': 5}, {'cell': '3GHz'}, {'inputs': '/nowhere.ms'}):\n"
        "    try:\n"
        f"        make_cube(**({{'inputs': {str(galaxy_store)!r}, 'imagename': {str(tmp_path / 'cube')!r}, 'imsize': 64,\n"
        "                      'cell': '30arcsec'} | parameters))\n"
        "    except (UsageError, DataError) as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=jobs.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and [line.split()[0] for line in lines] == ["UsageError", "UsageError", "DataError"]
    assert "niter" in lines[0] and "cell" in lines[1] and "/nowhere.ms" in lines[2]
