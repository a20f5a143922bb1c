"""A resumed run says how long what is left should take, on the ranks that it finds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from radps_mpi import make_cube, pipeline
from radps_mpi.config import RunConfig
from radps_mpi.imaging.stopping import CyclePlan
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import IMAGED, PENDING
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey.blocks import gridder_of
from radps_mpi.journey.describe import describe
from radps_mpi.journey.replanning import work_left
from radps_mpi.parallel import world

OPTIONS = {"imsize": 32, "cell": "0.5arcsec", "outframe": "TOPO"}


def test_a_resume_says_what_is_left_on_the_ranks_that_it_finds(
    tmp_path: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    name = Path(world().bcast(str(tmp_path))) / "a"
    make_cube(chunked_store, imagename=name, niter=20, keep_state=True, comm=world(), **OPTIONS)
    assert "plan: some" not in capfd.readouterr().err
    (name.with_suffix(".radps") / "provenance.json").write_text("damaged")
    pipeline.resume(str(name), world(), {"niter": 4000})
    said = re.findall(r"plan: some ([\d.]+) s more on (\d) ranks? x 1 thread on 1 node \((.*?)\)", capfd.readouterr().err)
    if world().rank == 0:
        ((seconds, ranks, parts),) = said
        assert float(seconds) > 0.0 and int(ranks) == world().size
        assert "minor cycles" in parts and "major cycle" in parts and "writing products" in parts
        assert "PSFs" not in parts and "built-in constants" in parts


def test_what_is_left_follows_from_the_state(tmp_path: Path, chunked_store: str) -> None:
    config = RunConfig.from_flat({"vis": [chunked_store], "imagename": "x", "niter": 900, "nmajor": 2, **OPTIONS}, {})
    with VisibilityStore.open(Path(chunked_store)) as store:
        d = describe(config, store)
    folder = Path(world().bcast(str(tmp_path)))
    state = Checkpoint.create(world(), folder, {"control": None}, d.shape, masks=False)
    gridder = gridder_of(d)
    work, first = work_left(d, gridder, state, None)
    assert (first, work.line_channels, work.cycles, work.iterations) == (1.0, 8, 2, 900)

    state.table["status"][:] = IMAGED
    state.table["iterations"][:6] = 50
    state.table["mask_pixels"] = 77
    state.header["control"] = {"cycle": 1}
    active = np.arange(8) < 3
    plan = CyclePlan(np.zeros(8), np.zeros(8, np.int64), active)
    work, first = work_left(d, gridder, state, plan)
    assert (first, work.line_channels, work.line_blocks, work.cycles, work.iterations) == (0.0, 3, 1, 1, 300)
    assert work.mask_pixels == 77

    state.header["control"] = {"cycle": 2}
    assert work_left(d, gridder, state, plan)[0].cycles == 0  # nmajor is reached
    assert work_left(d, gridder, state, None)[0].cycles == 0  # CLEAN is done
    state.table["status"][4:] = PENDING
    assert work_left(d, gridder, state, None)[1] == 0.5
    state.close()
