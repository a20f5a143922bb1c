"""Many ranks, one file: the same bytes as one rank, and no product torn by a failure or a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from mpi4py import MPI
from support.data import REPOSITORY
from support.products import GEOMETRY, beams, frequency_axis, write_cube

from radps_mpi.io.fits_writer import FitsCubeWriter
from radps_mpi.parallel import RemoteRankError, on_root

PROGRAM = """
import sys
from pathlib import Path
from support.products import beams, write_cube
from radps_mpi.parallel import abort_on_uncaught_errors, world
from radps_mpi.errors import RadpsError
comm = world()
abort_on_uncaught_errors(comm)
try:
    write_cube(sys.argv[1], comm=comm, beams=beams(7, [2, 5]), blank=[2, 5], history=["one run"])
except (RadpsError, RuntimeError) as error:
    Path(f"{sys.argv[1]}.rank{comm.rank}.log").write_text(str(error))
    comm.barrier()
    sys.exit(3)
"""


def write_on_ranks(ranks: int, path: Path, fault: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'kernels'}:{REPOSITORY / 'tests'}", "RADPS_FAULT": fault,
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    command = ["mpirun", "-n", str(ranks), sys.executable, "-c", PROGRAM, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def write_here(path: Path) -> bytes:
    write_cube(path, beams=beams(7, [2, 5]), blank=[2, 5], history=["one run"])
    return path.read_bytes()


@pytest.mark.launches_mpi
@pytest.mark.parametrize("ranks", [2, 3, 5, 9])
def test_any_number_of_ranks_writes_the_bytes_of_one(tmp_path: Path, ranks: int) -> None:
    alone = write_here(tmp_path / "alone.fits")
    run = write_on_ranks(ranks, tmp_path / "together.fits")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "together.fits").read_bytes() == alone
    with fits.open(tmp_path / "together.fits", checksum=True) as hdus:
        assert hdus[0].data.shape == (1, 7, *GEOMETRY.shape)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.fits", "together.fits"]


@pytest.mark.launches_mpi
@pytest.mark.parametrize(
    "fault", ["product-before-write:2:1:enospc", "product-before-write:1:1:raise", "product-before-rename:1:0:enospc"]
)
@pytest.mark.fault(
    "ranks", "no space left or an exception (injected) on one rank that writes a product",
    "all ranks name it; the earlier product stays",
)  # fmt: skip
def test_when_one_rank_fails_all_ranks_say_so_and_the_earlier_product_stays(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "cube.fits"
    path.write_bytes(b"the earlier product")
    run = write_on_ranks(3, path, fault)
    assert run.returncode == 3, run.stderr
    failing = int(fault.split(":")[2])
    said = [Path(f"{path}.rank{rank}.log").read_text() for rank in range(3)]
    for rank in {0, 1, 2} - {failing}:
        assert said[rank].startswith(f"rank {failing} failed while")
        assert "cube.fits" in said[rank]
        assert said[rank].endswith(said[failing]) or "InjectedFault" in said[rank]
    assert path.read_bytes() == b"the earlier product"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.launches_mpi
@pytest.mark.parametrize("fault", ["product-before-write:2:1", "mid-write:1:1", "product-before-rename:1:0"])
@pytest.mark.fault(
    "kills", "SIGKILL before a product's rename (writer alone)",
    "the earlier product stays; written again with the same bytes",
)  # fmt: skip
def test_a_kill_before_the_rename_leaves_the_earlier_product_and_the_next_run_succeeds(
    tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "cube.fits"
    path.write_bytes(b"the earlier product")
    assert write_on_ranks(3, path, fault).returncode != 0
    assert path.read_bytes() == b"the earlier product"
    expected = write_here(tmp_path / "alone.fits")
    assert write_here(path) == expected


@pytest.mark.launches_mpi
@pytest.mark.fault("kills", "SIGKILL after a product's rename (writer alone)", "the new product is complete")
def test_a_kill_after_the_rename_leaves_the_complete_new_product(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    path.write_bytes(b"the earlier product")
    assert write_on_ranks(2, path, "product-after-rename:1:0").returncode != 0
    assert path.read_bytes() == write_here(tmp_path / "alone.fits")


@pytest.mark.mpi
def test_ranks_that_write_nothing_take_part_and_the_bytes_are_those_of_one(mpi_tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    together, alone = mpi_tmp_path / "together.fits", mpi_tmp_path / "alone.fits"
    write_cube(together, axis=frequency_axis(2), comm=comm, beams=beams(2), blank=[1])
    if comm.rank == 0:
        write_cube(alone, axis=frequency_axis(2), beams=beams(2), blank=[1])
        assert together.read_bytes() == alone.read_bytes()
    comm.barrier()


@pytest.mark.mpi
@pytest.mark.fault("ranks", "an exception on one rank that writes a product", "all ranks raise; nothing left")
def test_an_error_on_the_last_rank_is_raised_on_all(mpi_tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    path = mpi_tmp_path / "cube.fits"
    last = comm.rank == comm.size - 1
    with (
        pytest.raises(KeyError if last else RemoteRankError),
        FitsCubeWriter(comm, path, GEOMETRY, frequency_axis(), bunit="") as writer,
    ):
        writer.write_plane(comm.rank % 7, read_plane_or_fail(last))
    assert on_root(comm, "looking", lambda: [p.name for p in mpi_tmp_path.iterdir()]) == []


def read_plane_or_fail(fail: bool) -> np.ndarray:
    if fail:
        raise KeyError("plane")
    return np.zeros(GEOMETRY.shape)


@pytest.mark.mpi(min_size=2)
@pytest.mark.fault("ranks", "two ranks that write the same channel of a product", "an error on all ranks")
def test_a_channel_written_by_two_ranks_is_an_error_on_all(mpi_tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    path = mpi_tmp_path / "cube.fits"
    with (
        pytest.raises(RuntimeError, match="several ranks wrote the same channel"),
        FitsCubeWriter(comm, path, GEOMETRY, frequency_axis(), bunit="") as writer,
    ):
        writer.write_plane(0, np.zeros(GEOMETRY.shape))
    comm.barrier()
    assert not path.exists()


@pytest.mark.mpi
def test_a_bad_header_is_refused_on_every_rank(mpi_tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    with pytest.raises(Exception, match="6 beams for 7 channels"):
        FitsCubeWriter(comm, mpi_tmp_path / "cube.fits", GEOMETRY, frequency_axis(), bunit="", beams=beams(6))
    with pytest.raises(Exception, match=r"nowhere/cube\.fits\.partial: No such file"):
        write_cube(mpi_tmp_path / "nowhere" / "cube.fits", comm=comm)
