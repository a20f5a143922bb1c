"""A tiny store of many row chunks, so that even four ranks share one block's leaves."""

from __future__ import annotations

import numpy as np
import pytest
from support.simulate import CO_10_HZ, Point, Setup, simulate

from radps_mpi.io.ingest import ingest
from radps_mpi.io.selection import Selection
from radps_mpi.parallel import on_root, world

NCHAN = 8  # fewer would be imaged one by one
SKY = [Point(2e-5, 1e-5, 3.0), Point(-3e-5, 2e-5, 1.0)]


@pytest.fixture(scope="session")
def chunked_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """540 rows in 9 row chunks, 8 channels, two point sources and noise; the same path on all ranks. Collective."""
    comm = world()
    folder = comm.bcast(tmp_path_factory.mktemp("chunked") if comm.rank == 0 else None)
    setup = Setup(CO_10_HZ + 1e6 * np.arange(NCHAN), noise_jy=0.1)
    on_root(comm, "simulating", lambda: simulate(folder / "small.ms", setup, SKY))
    ingest(comm, [str(folder / "small.ms")], [Selection()], folder / "small.vis.h5", row_chunk=64)
    return str(folder / "small.vis.h5")
