"""The same bits from 1, 2, 3, 4 and 7 ranks: cubes, continuum, shared blocks, any memory, any threads, MS or store; and on
paths through the kernels that those cubes don't take."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import jobs

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.io.visibility_store import VisibilityStore

pytestmark = pytest.mark.launches_mpi

RANKS = (1, 2, 3, 4, 7)
PRODUCTS = {"image", "residual", "model", "psf", "pb", "sumwt", "mask"}

SMALL: dict[str, Any] = {"imsize": 64, "cell": "30arcsec", "niter": 4000, "cycleniter": 40, "threshold": "8mJy"}
GLOBAL = SMALL | {"nchan": 36, "start": 5, "weighting": "briggs", "robust": 0.5, "nmajor": 2}
"""Three blocks, the last of four channels."""
PLANE = SMALL | {"nchan": 20, "start": 9, "weighting": "uniform", "control": "plane", "nmajor": 2, "restoringbeam": "common"}
CONTINUUM = SMALL | {"specmode": "mfs", "weighting": "briggs", "row_groups": 5, "nmajor": 2, "threshold": "0Jy"}
"""Eight atoms of (execution, 16 channels) in five leaves of uneven size."""
CLARK = GLOBAL | {"deconvolver": "clark", "mask": "circle[[30pix,33pix],20pix]"}
NIGHTS = SMALL | {"nchan": 20, "width": 2, "weighting": "briggs", "row_groups": 2, "nmajor": 1}
"""Two blocks of two leaves each: four ranks share them as two teams, seven leave three idle."""

WIDE = SMALL | {"imsize": 320, "cell": "0.1arcsec", "threshold": "20mJy", "weighting": "briggs", "nmajor": 2}
OTHER_PATHS: dict[str, dict[str, Any]] = {
    "wide channels": WIDE,
    "one lane": GLOBAL | {"nchan": 5, "start": 20},
    "eight lanes": PLANE | {"block_pixels": 8 * 64 * 64},
    "double": GLOBAL | {"nchan": 20, "precision": "double"},
}
"""Rows whose lanes fall on several cells (and are too few for channels to go one by one); a cube of too few channels for lanes;
blocks of half a vector of AVX-512, as those of large images are; numbers of twice as many bytes, so vectors of half as many
lanes."""


def flags(parameters: dict[str, Any]) -> list[str]:
    return [text for name, value in parameters.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def make(folder: Path, ranks: int, work: Sequence[dict[str, Any]]) -> str:
    """Run the jobs of ``work`` in one launch, and return what they said."""
    listing = folder / f"work{ranks}.json"
    listing.write_text(json.dumps(work))
    done = jobs.run_script("cubes_job.py", [listing], ranks, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory, galaxy_store: Path, two_nights_store: Path) -> Path:
    """Every configuration on every number of ranks, as ``<configuration><ranks>``, and what must not change bits."""
    folder = tmp_path_factory.mktemp("matrix")
    for ranks in RANKS:
        work = [
            {"inputs": [str(store)], "imagename": str(folder / f"{name}{ranks}"), **parameters}
            for name, store, parameters in (
                ("plane", galaxy_store, PLANE),
                ("continuum", two_nights_store, CONTINUUM),
                ("nights", two_nights_store, NIGHTS),
                ("clark", galaxy_store, CLARK),
            )
        ]
        if ranks in (1, 3):
            variant = NIGHTS | {"memory_per_rank": "1kB"}
            work.append({"inputs": [str(two_nights_store)], "imagename": str(folder / f"uncached{ranks}"), **variant})
        if ranks in (1, 2):
            variant = PLANE | {"threads": 2}
            work.append({"inputs": [str(galaxy_store)], "imagename": str(folder / f"threads{ranks}"), **variant})
        if ranks == 1:
            work.append({"inputs": [str(galaxy_store)], "imagename": str(folder / "store"), **GLOBAL})
        make(folder, ranks, work)
    return folder


@pytest.mark.parametrize("configuration", ["plane", "continuum", "nights", "clark"])
def test_every_product_has_the_same_bits_on_any_number_of_ranks(
    cubes: Path, configuration: str, record_hashes: Callable[[str, int, dict[str, str]], None]
) -> None:
    expected = jobs.product_hashes(cubes / f"{configuration}1")
    assert set(expected) == PRODUCTS
    found = {ranks: jobs.product_hashes(cubes / f"{configuration}{ranks}") for ranks in RANKS}
    for ranks, hashes in found.items():
        record_hashes(configuration, ranks, hashes)
    assert found == dict.fromkeys(RANKS, expected)


def test_the_matrix_compares_images_with_a_source_that_was_cleaned(cubes: Path) -> None:
    from astropy.io import fits

    for configuration in ("plane", "continuum", "nights", "clark"):
        model = fits.getdata(cubes / f"{configuration}1.model.fits")
        residual = fits.getdata(cubes / f"{configuration}1.residual.fits")
        assert model.sum() > 0.01 and abs(residual[residual == residual]).max() > 0.0, configuration


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_rank_without_memory_to_keep_visibilities_gives_the_same_bits(cubes: Path, ranks: int) -> None:
    assert jobs.product_hashes(cubes / f"uncached{ranks}") == jobs.product_hashes(cubes / "nights1")


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_threads_per_rank_give_the_bits_of_one(cubes: Path, ranks: int) -> None:
    assert jobs.product_hashes(cubes / f"threads{ranks}") == jobs.product_hashes(cubes / "plane1")


@pytest.mark.parametrize("ranks", RANKS)
def test_the_command_on_a_measurement_set_gives_the_bits_of_the_store(
    cubes: Path, galaxy: Path, tmp_path: Path, ranks: int, record_hashes: Callable[[str, int, dict[str, str]], None]
) -> None:
    jobs.succeed(["image", galaxy, "--imagename", tmp_path / "cube", *flags(GLOBAL)], ranks)
    record_hashes("from the MeasurementSet", ranks, jobs.product_hashes(tmp_path / "cube"))
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(cubes / "store")


def test_the_hash_command_prints_one_line_for_each_product(cubes: Path) -> None:
    printed = jobs.succeed(["hash", cubes / "store"]).stdout.splitlines()
    expected = jobs.product_hashes(cubes / "store")
    assert len(printed) == len(PRODUCTS)
    for line in printed:
        digest, shape, name = line.split("  ")
        assert shape == ("1x36x1x1" if "sumwt" in name else "1x36x64x64") and len(digest) == 32
        assert expected[name.removeprefix("store.").removesuffix(".fits")].startswith(digest)


@pytest.fixture(scope="module")
def wide_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A point source in 20 channels, each wider than one percent of its frequency."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "sky.toml").write_text("[[component]]\noffset = ['3arcsec', '-2arcsec']\nflux = '1Jy'\nspectral_index = -0.7\n")
    size = ["--nchan", "20", "--nantenna", "12", "--nintegration", "6", "--max-baseline", "150m", "--noise", "20mJy"]
    jobs.succeed(["simulate", folder / "sky.toml", "-o", folder / "wide.vis.h5", *size, "--start", "200GHz", "--width", "3GHz"])
    return folder / "wide.vis.h5"


@pytest.fixture(scope="module")
def other_paths(tmp_path_factory: pytest.TempPathFactory, galaxy_store: Path, wide_store: Path) -> Path:
    """Every configuration of OTHER_PATHS by 1, 2 and 3 ranks, with two threads, and stopped on 2 ranks after the
    first of its two major cycles and resumed on 3."""
    folder = tmp_path_factory.mktemp("paths")

    def work(how: str, **more: Any) -> list[dict[str, Any]]:
        stores = {name: wide_store if parameters is WIDE else galaxy_store for name, parameters in OTHER_PATHS.items()}
        return [
            {"inputs": [str(stores[name])], "imagename": str(folder / f"{name} {how}"), **parameters, **more}
            for name, parameters in OTHER_PATHS.items()
        ]

    said = make(folder, 1, work("1"))
    assert [int(width) for width in re.findall(r"blocks of up to (\d+) channels", said)] == [16, 1, 8, 16]
    make(folder, 2, work("2") + work("threads", threads=2) + work("resumed", stop_at="before-sync:3:1:usr1"))
    for name in OTHER_PATHS:
        assert not jobs.product_hashes(folder / f"{name} resumed"), "it was to be stopped between its major cycles"
    pixels = {name: parameters.get("block_pixels") for name, parameters in OTHER_PATHS.items()}
    resumed = [{"resume": str(folder / f"{name} resumed"), "block_pixels": n} for name, n in pixels.items()]
    make(folder, 3, work("3") + resumed)
    return folder


@pytest.mark.parametrize("configuration", OTHER_PATHS)
def test_other_paths_have_the_same_bits_on_any_number_of_ranks_with_threads_and_after_a_stop(
    other_paths: Path, configuration: str, record_hashes: Callable[[str, int, dict[str, str]], None]
) -> None:
    runs = {"1": 1, "2": 2, "3": 3, "threads": 2, "resumed": 3}
    found = {how: jobs.product_hashes(other_paths / f"{configuration} {how}") for how in runs}
    assert set(found["1"]) == PRODUCTS
    for how, ranks in runs.items():
        record_hashes(configuration if how.isdigit() else f"{configuration}, {how}", ranks, found[how])
    assert found == dict.fromkeys(runs, found["1"])


def test_blocks_of_eight_lanes_give_the_bits_of_sixteen(cubes: Path, other_paths: Path) -> None:
    assert jobs.product_hashes(other_paths / "eight lanes 1") == jobs.product_hashes(cubes / "plane1")


def test_channels_of_the_wide_set_fall_on_several_cells(wide_store: Path) -> None:
    """Cells are no larger than one over the image's side, so lanes that lie further apart than that are not on one cell."""
    with VisibilityStore.open(wide_store) as store:
        uvw_m = store.read_rows(0, 0, 1).uvw_m
        freq_hz = store.observations[0].freq_hz[:16]
    side_rad = WIDE["imsize"] * np.radians(0.1 / 3600)
    apart = np.abs(uvw_m[:, :2]).max(axis=1) * np.ptp(freq_hz) / SPEED_OF_LIGHT_M_S * side_rad
    assert np.mean(apart > 1.0) > 0.5
