"""Real visibilities, ingested once for all journeys, and copies of them that tests may change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import jobs

NGC5921 = "ngc5921_src_contsub.ms"

_ROWS = pytest.StashKey[list[tuple[str, int, dict[str, str]]]]()


@pytest.fixture(scope="session")
def record_hashes(request: pytest.FixtureRequest) -> Callable[[str, int, dict[str, str]], None]:
    """``record_hashes(what, ranks, hashes)``: a row of the rank matrix, printed when all tests are done."""
    rows = request.config.stash.setdefault(_ROWS, [])
    return lambda what, ranks, hashes: rows.append((what, ranks, hashes))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("rank matrix: hashes of the pixels")
    width = max(len(what) for what, _, _ in rows)
    terminalreporter.write_line(f"{'job':{width}}  ranks  image     residual  model     psf       sumwt")
    for what, ranks, hashes in rows:
        shown = "  ".join(hashes.get(name, "-")[:8] for name in ("image", "residual", "model", "psf", "sumwt"))
        terminalreporter.write_line(f"{what:{width}}  {ranks:5d}  {shown}")


@pytest.fixture(scope="session")
def galaxy(dataset: Callable[[str], Path]) -> Path:
    """NGC 5921: 63 channels in LSRK, two hands, 12,852 rows."""
    return dataset(NGC5921)


@pytest.fixture(scope="session")
def galaxy_store(galaxy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a visibility store."""
    path = tmp_path_factory.mktemp("stores") / "galaxy.vis.h5"
    jobs.succeed(["ingest", galaxy, "-o", path], ranks=2)
    return path


@pytest.fixture(scope="session")
def undisturbed(galaxy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the products of a run, CLEANed as jobs.CLEAN says, that nothing happens to."""
    imagename = tmp_path_factory.mktemp("undisturbed") / "cube"
    jobs.succeed(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], ranks=2)
    hashes = jobs.product_hashes(imagename)
    assert len(hashes) == 7
    return hashes


@pytest.fixture(scope="session")
def two_nights_store(galaxy: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two topocentric executions, 120 days apart, in one store: two row chunks, two native channels per image channel."""
    folder = tmp_path_factory.mktemp("nights")
    for days in (0, 120):
        make = [sys.executable, str(shared / "data" / "make_topo.py"), str(galaxy), str(folder / f"{days}.ms"), str(days)]
        subprocess.run(make, check=True, timeout=60)
    path = folder / "nights.vis.h5"
    jobs.succeed(["ingest", folder / "0.ms", folder / "120.ms", "-o", path], ranks=2)
    for days in (0, 120):
        shutil.rmtree(folder / f"{days}.ms")
    return path
