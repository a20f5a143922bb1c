"""What a rank of a large job does without: packages of many files, which all ranks would look for on one file system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

REFUSE = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name in ("astropy", "casacore", "matplotlib"):
            raise ImportError(f"{name} was to be done without")

sys.meta_path.insert(0, Refused())
"""
"""Python imports a module of the name sitecustomize at its start."""


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """Variables for a job that fails if it imports one of those packages."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSE)
    return {"PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), jobs.environment()["PYTHONPATH"]))}


@pytest.mark.parametrize("package", ["astropy.io.fits", "casacore.tables", "matplotlib.figure"])
def test_the_packages_are_refused_to_those_who_ask(without: dict[str, str], package: str) -> None:
    tried = subprocess.run(
        [sys.executable, "-c", f"import {package}"], env=jobs.environment(without), capture_output=True, text=True, timeout=60
    )
    assert tried.returncode == 1 and "was to be done without" in tried.stderr


def test_images_from_a_store_and_a_resume_take_neither_astropy_nor_casacore_nor_matplotlib(
    galaxy_store: Path, tmp_path: Path, without: dict[str, str]
) -> None:
    """Not even for FITS files, the frame of the axis and regions of a mask."""
    image = ["image", galaxy_store, "--imagename", tmp_path / "cube", "--imsize", "64", "--cell", "30arcsec", "--pbcor",
             "--nchan", "20", "--start", "9", "--outframe", "BARY", "--niter", "4000", "--cycleniter", "40", "--keep-state",
             "--mask", "circle[[30pix,33pix],20pix]"]  # fmt: skip
    for args in ([*image, "--nmajor", "1"], ["resume", tmp_path / "cube", "--nmajor", "2"], ["verify", tmp_path / "cube"]):
        done = jobs.run_radps(args, 2, without)
        assert done.returncode == 0, done.stderr
    assert len(jobs.product_hashes(tmp_path / "cube")) == 8
