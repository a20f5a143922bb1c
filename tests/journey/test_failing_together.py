"""Whatever fails on one rank, and wherever: all ranks raise, none waits for another, and the next run is undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radps_mpi import make_cube
from radps_mpi.errors import EXIT_IO, RadpsError, StorageError
from radps_mpi.imaging import weighting
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.fits_writer import FitsCubeWriter
from radps_mpi.io.product_hash import hash_product
from radps_mpi.io.run_directory import RunDirectory
from radps_mpi.io.state_file import StateFile
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey import cycles, products
from radps_mpi.journey.masking import MaskSource
from radps_mpi.parallel import on_root, total, world
from radps_mpi.pipeline import Result, resume

PARAMETERS: dict[str, Any] = {
    "imsize": 32, "cell": "0.5arcsec", "outframe": "TOPO", "pblimit": -0.2, "niter": 40, "cycleniter": 10, "nmajor": 2,
    "weighting": "briggs", "row_groups": 7, "keep_state": True, "memory_per_rank": "1MB",
}  # fmt: skip


def image(prefix: Path, store: str, **parameters: Any) -> Result:
    return make_cube(store, imagename=prefix, comm=world(), **(PARAMETERS | parameters))


def hashes(prefix: Path) -> list[str]:
    paths = sorted(prefix.parent.glob(f"{prefix.name}.*.fits"))
    return list(on_root(world(), "hashing", lambda: [hash_product(path).digest for path in paths]))


def fail_on(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, rank: int, nth: int) -> Callable[[], int]:
    """Make the ``nth`` call on ``rank`` raise; returns what tells how often it did."""
    real, calls = getattr(place, name), [0]

    def failing(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if world().rank == rank and calls[0] == nth:
            raise StorageError(f"{name} failed")
        return real(*args, **options)

    monkeypatch.setattr(place, name, failing)
    return lambda: int(world().rank == rank and calls[0] >= nth)


PLACES = [
    (VisibilityStore, "read", 1, 1), (VisibilityStore, "read_rows", 3, 0), (weighting, "local_density", 1, 2),
    (weighting, "density_factors", 1, 1), (weighting, "apply_weights", 2, 1), (Gridder, "grid", 2, 2),
    (Gridder, "to_dirty", 1, 0), (Gridder, "to_dirty", 3, 0), (Gridder, "from_model", 1, 0), (Gridder, "degrid", 1, 2),
    (cycles, "fit_beam", 2, 0), (cycles, "hogbom", 1, 1), (MaskSource, "of", 2, 0), (Checkpoint, "stage", 1, 0),
    (Checkpoint, "stage", 1, 2), (Checkpoint, "load", 1, 1), (Checkpoint, "read_model", 1, 0),
    (Checkpoint, "read_model", 6, 2), (StateFile, "sync", 1, 2), (StateFile, "sync", 3, 0), (StateFile, "sync", 4, 1),
    (FitsCubeWriter, "write_plane", 1, 0), (FitsCubeWriter, "write_plane", 2, 2), (products, "restore", 1, 1),
]  # fmt: skip


@pytest.mark.mpi(min_size=3)
@pytest.mark.skipif(world().size > 3, reason="three ranks see all of it")
@pytest.mark.timeout(30)
@pytest.mark.parametrize(("place", "name", "nth", "rank"), PLACES, ids=[f"{p[1]} {p[2]} on {p[3]}" for p in PLACES])
@pytest.mark.fault(
    "ranks", "an error on one rank of 3 just before a collective step: reading, weighting, gridding, cleaning, fsync, products",
    "all ranks raise and name it, none waits",
)  # fmt: skip
def test_a_failure_on_one_rank_is_everyones(
    monkeypatch: pytest.MonkeyPatch, mpi_tmp_path: Path, chunked_store: str, place: Any, name: str, nth: int, rank: int
) -> None:
    comm = world()
    with monkeypatch.context() as patch:
        happened = fail_on(patch, place, name, rank, nth)
        try:
            image(mpi_tmp_path / "small", chunked_store)
            error: RadpsError | None = None
        except RadpsError as raised:
            error = raised
    assert total(comm, happened()) == 1
    assert error is not None and error.exit_status == EXIT_IO
    told = f"{name} failed"
    assert str(error) == told if comm.rank == rank else str(error).startswith(f"rank {rank} failed while ")
    assert str(error).endswith(told)


@pytest.mark.mpi
@pytest.mark.timeout(30)
@pytest.mark.parametrize(("place", "name", "nth"), [(Checkpoint, "stage", 5), (cycles, "hogbom", 1), (StateFile, "sync", 3)])
@pytest.mark.fault(
    "ranks", "an error on one rank while staging, cleaning or syncing",
    "all ranks raise; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_run_that_failed_resumes_to_the_bits_of_an_undisturbed_one(
    monkeypatch: pytest.MonkeyPatch, mpi_tmp_path: Path, chunked_store: str, place: Any, name: str, nth: int
) -> None:
    whole = image(mpi_tmp_path / "whole", chunked_store)
    with monkeypatch.context() as patch:
        fail_on(patch, place, name, 0, nth)
        with pytest.raises(RadpsError):
            image(mpi_tmp_path / "small", chunked_store)
    resumed = resume(str(mpi_tmp_path / "small"), world())
    assert (resumed.stop_code, resumed.iterations, resumed.major_cycles) == (
        whole.stop_code, whole.iterations, whole.major_cycles)  # fmt: skip
    assert hashes(mpi_tmp_path / "small") == hashes(mpi_tmp_path / "whole") != []


@pytest.mark.mpi
@pytest.mark.timeout(30)
@pytest.mark.fault("disk", "status, convergence and provenance refused by the disk", "the run ends well all the same", times=3)
def test_reports_that_the_disk_refuses_stop_no_run(
    monkeypatch: pytest.MonkeyPatch, mpi_tmp_path: Path, chunked_store: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("No space left on device")

    for name in ("write_status", "write_convergence", "add_event"):
        monkeypatch.setattr(RunDirectory, name, refuse)
    image(mpi_tmp_path / "small", chunked_store, niter=0)
    assert len(hashes(mpi_tmp_path / "small")) == 7


@pytest.mark.mpi
@pytest.mark.timeout(30)
@pytest.mark.fault("ranks", "an error on a rank while the disk refuses the report of it", "the error is told")
def test_a_report_that_the_disk_refuses_hides_no_other_error(
    monkeypatch: pytest.MonkeyPatch, mpi_tmp_path: Path, chunked_store: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("No space left on device")

    monkeypatch.setattr(RunDirectory, "add_event", refuse)
    fail_on(monkeypatch, Gridder, "grid", 0, 1)
    with pytest.raises(RadpsError, match="grid failed"):
        image(mpi_tmp_path / "small", chunked_store)
