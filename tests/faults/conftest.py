"""A small store, and a run on it that kept its state, for tests to damage copies of."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import jobs

SKY = """
[[component]]
offset = ["3arcsec", "-2arcsec"]
flux = 1.5
"""
TELESCOPE = ["--nantenna=8", "--max-baseline=300m", "--nchan=4", "--nintegration=4", "--integration=60s", "--width=10MHz",
             "--noise=5mJy"]  # fmt: skip


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed visibility store of four channels; read-only."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "sky.toml").write_text(SKY)
    jobs.succeed(["simulate", folder / "sky.toml", "-o", folder / "sim.vis.h5", *TELESCOPE])
    return folder / "sim.vis.h5"


@pytest.fixture(scope="session")
def kept_run(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imagename of a CLEANed cube of it whose state was kept; read-only."""
    imagename = tmp_path_factory.mktemp("kept") / "cube"
    jobs.succeed(["image", small_store, "--imagename", imagename, *jobs.IMAGE, "--keep-state"])
    return imagename
