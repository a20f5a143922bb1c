"""What a job leaves to the next at its very beginning and its very end."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpi4py import MPI

from radps_mpi import make_cube
from radps_mpi.config import RunConfig
from radps_mpi.errors import FinishedRunError, OutOfTimeError
from radps_mpi.journey import session
from radps_mpi.pipeline import resume

OPTIONS = {"imsize": 32, "cell": "0.5arcsec", "outframe": "TOPO", "nchan": 2, "start": 0, "products": ["image"]}


@pytest.mark.fault("kills", "ended while the state of a finished run is removed", "nothing is done again")
def test_a_kill_amid_the_removal_of_the_state_has_nothing_done_again(
    tmp_path: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(directory: object, own_store: bool) -> None:
        for name in ("manifest.previous", "manifest"):
            (tmp_path / "x.radps" / name).unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        make_cube(chunked_store, imagename=tmp_path / "x", comm=MPI.COMM_SELF, **OPTIONS)
    monkeypatch.undo()
    store = tmp_path / "x.radps/visibilities.vis.h5"
    store.touch()
    for inputs, stays in ([str(store)], True), (["some.ms"], False):
        config = tmp_path / "x.radps/config.toml"
        config.write_text(RunConfig.from_toml(config.read_text(), "x").replaced({"vis": tuple(inputs)}).to_toml())
        with pytest.raises(FinishedRunError, match="the run is finished"):
            resume(str(tmp_path / "x"), MPI.COMM_SELF)
        assert store.exists() == stays, "what a kill has left is removed, an input isn't"
    assert not (tmp_path / "x.radps/state.h5").exists()


@pytest.mark.fault("time", "stopped while a resumed run with other parameters ingests", "the next job goes on with those")
def test_what_a_resume_was_asked_for_is_kept_when_it_stops_before_there_is_a_state(
    tmp_path: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise OutOfTimeError("stopped")

    with monkeypatch.context() as amid_ingest:
        amid_ingest.setattr("radps_mpi.pipeline.open_store", stopped)
        with pytest.raises(OutOfTimeError):
            make_cube(chunked_store, imagename=tmp_path / "x", comm=MPI.COMM_SELF, **OPTIONS)
        with pytest.raises(OutOfTimeError):
            resume(str(tmp_path / "x"), MPI.COMM_SELF, {"niter": 7})
    assert "\nniter = 7\n" in (tmp_path / "x.radps/config.toml").read_text()
