"""What can be read in provenance.json about a run: where and with what it ran, of which inputs, and who changed what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from astropy.io import fits
from mpi4py import MPI

from radps_mpi import make_cube
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io.run_status import read_provenance
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey import session
from radps_mpi.journey.provenance import JOB_VARIABLES, hosts_of
from radps_mpi.parallel import world
from radps_mpi.pipeline import resume


def image(prefix: Path, store: str, comm: MPI.Intracomm = MPI.COMM_SELF, **parameters: Any) -> None:
    options = {"imsize": 32, "cell": "0.5arcsec", "outframe": "TOPO", "pblimit": -0.2, "cycleniter": 10, "niter": 20,
               "nchan": 2, "start": 0, "keep_state": True, "products": ["image"]}  # fmt: skip
    make_cube(store, imagename=prefix, comm=comm, **(options | parameters))


def events_of(prefix: Path) -> list[dict[str, Any]]:
    return read_provenance(Path(f"{prefix}.radps"))


@pytest.fixture
def run(tmp_path: Path, chunked_store: str) -> Path:
    image(tmp_path / "small", chunked_store)
    return tmp_path / "small"


def test_a_start_says_where_with_what_and_with_which_parameters(
    tmp_path: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    image(tmp_path / "small", chunked_store)
    started, imaging, finished = events_of(tmp_path / "small")
    assert [e["event"] for e in (started, imaging, finished)] == ["started", "imaging", "finished"]
    assert (started["ranks"], sum(started["hosts"].values())) == (1, 1)
    assert started["job"] == {"SLURM_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    assert started["versions"]["numpy"] == np.__version__ and "missing" not in started["versions"].values()
    assert started["libraries"]["MPI"] in MPI.Get_library_version() and started["libraries"]["HDF5"].startswith("1.")
    assert imaging["config"]["niter"] == 20 and imaging["config"]["vis"] == [chunked_store] == started["inputs"]


def test_the_inputs_are_told_by_their_hashes(tmp_path: Path, chunked_store: str) -> None:
    planes = np.zeros((32, 32), np.float32)
    planes[10:20, 10:20] = 1
    fits.writeto(tmp_path / "mask.fits", planes)
    seen = []
    for name in ("first", "same", "other"):
        if name == "other":
            fits.writeto(tmp_path / "mask.fits", planes.T[::-1] * 2, overwrite=True)
        image(tmp_path / name, chunked_store, mask=str(tmp_path / "mask.fits"))
        seen.append(events_of(tmp_path / name)[1])
    with VisibilityStore.open(chunked_store) as store:
        assert {event["visibilities"]["xxh3_128"] for event in seen} == {store.fingerprint()}
    assert [entry["source"].rsplit("/")[-1] for entry in seen[0]["visibilities"]["observations"]] == ["small.ms"]
    masks = [event["mask"] for event in seen]
    assert masks[0] == masks[1] != masks[2] and masks[0][0] == masks[2][0] == str(tmp_path / "mask.fits")


@pytest.mark.fault("two runs", "a resume with other niter and mask", "goes on; the change is in provenance.json")
def test_what_a_resume_has_changed_is_recorded_with_what_it_was_before(run: Path) -> None:
    resume(str(run), MPI.COMM_SELF, {"niter": 40, "mask": ("circle[[16pix,16pix],5pix]",)})
    resume(str(run), MPI.COMM_SELF)
    assert [e["event"] for e in events_of(run)] == ["started", "imaging", "finished"] + ["resumed", "imaging", "finished"] * 2
    first, second, third = (event for event in events_of(run) if event["event"] == "imaging")
    assert first["config"]["niter"] == 20 and third["changed"] == {}
    assert second["changed"] == {
        "niter": {"from": 20, "to": 40}, "mask": {"from": [], "to": ["circle[[16pix,16pix],5pix]"]},
    }  # fmt: skip


@pytest.mark.fault("two runs", "niter edited in config.toml, then resumed", "goes on; the change is in provenance.json")
def test_a_change_by_an_editor_is_recorded_too(run: Path) -> None:
    path = Path(f"{run}.radps/config.toml")
    path.write_text(path.read_text().replace("niter = 20\n", "niter = 30\n"))
    resume(str(run), MPI.COMM_SELF)
    assert events_of(run)[-2]["changed"] == {"niter": {"from": 20, "to": 30}}


def test_a_refused_resume_changes_nothing_and_says_why(run: Path) -> None:
    with pytest.raises((UsageError, DataError)):
        resume(str(run), MPI.COMM_SELF, {"niter": 50, "mask": ("nowhere.fits",)})
    resume(str(run), MPI.COMM_SELF, {"niter": 60})
    *_, resumed, failed, again, imaging, finished = events_of(run)
    assert [e["event"] for e in (resumed, failed, again, finished)] == ["resumed", "failed", "resumed", "finished"]
    assert resumed["after"] == "finished" and again["after"] == "failed" and "nowhere.fits" in failed["error"]
    assert imaging["changed"] == {"niter": {"from": 20, "to": 60}}


def test_a_resume_after_a_kill_says_that_the_job_before_left_no_word(run: Path) -> None:
    path = Path(f"{run}.radps/provenance.json")
    path.write_text(json.dumps(events_of(run)[:-1]))  # what a kill in the middle of the run leaves
    resume(str(run), MPI.COMM_SELF)
    assert [event.get("after") for event in events_of(run) if event["event"] == "resumed"] == ["interrupted"]


@pytest.mark.fault("corruption", "provenance damaged or lost, then resumed", "goes on, with the change on record", times=3)
@pytest.mark.parametrize("text", [None, "{", "[1, null]"])
def test_a_lost_record_takes_no_change_with_it(run: Path, text: str | None) -> None:
    path = Path(f"{run}.radps/provenance.json")
    path.unlink() if text is None else path.write_text(text)
    resume(str(run), MPI.COMM_SELF, {"niter": 30})
    (imaging,) = (e for e in events_of(run) if isinstance(e, dict) and e["event"] == "imaging")
    assert imaging["changed"] == {"niter": {"from": 20, "to": 30}}


def test_an_earlier_run_that_is_given_back_keeps_its_parameters(
    run: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no state"):
        patch.setattr(session.Checkpoint, "create", Mock(side_effect=RuntimeError("no state")))
        image(run, chunked_store, overwrite=True, niter=777, cell="1arcsec")
    resume(str(run), MPI.COMM_SELF, {"niter": 30})
    assert events_of(run)[-2]["changed"] == {"niter": {"from": 20, "to": 30}}


@pytest.mark.mpi
@pytest.mark.timeout(60)
def test_the_hosts_of_all_ranks_are_counted(mpi_tmp_path: Path, chunked_store: str) -> None:
    comm = world()
    image(mpi_tmp_path / "small", chunked_store, comm=comm)
    started = comm.bcast(events_of(mpi_tmp_path / "small")[0] if comm.rank == 0 else None)
    assert (started["ranks"], list(started["hosts"].values())) == (comm.size, [comm.size])
    assert sum(hosts_of(comm).values()) == (comm.size if comm.rank == 0 else 0)
