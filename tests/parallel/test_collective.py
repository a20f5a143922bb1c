"""Failing together, and small reductions that keep every bit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.jobs import environment

from radps_mpi.errors import EXIT_DATA, EXIT_FAILURE, EXIT_IO, DataError, RadpsError, StorageError
from radps_mpi.parallel import (
    RemoteRankError,
    all_or_none,
    any_rank,
    broadcast,
    collective,
    every_rank,
    largest,
    merge_disjoint,
    on_root,
    ranks_on_node,
    same_everywhere,
    split,
    total,
    world,
)

pytestmark = pytest.mark.filterwarnings("error")


def failure_of(body: Callable[[], object]) -> Exception:
    try:
        body()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


# One rank and no rank failing ----------------------------------------------------------------------------------------

def test_alone_the_error_is_ones_own() -> None:
    error = ValueError("mine")

    def body() -> None:
        with all_or_none(world(), "working"):
            raise error

    if world().size == 1:
        assert failure_of(body) is error


@pytest.mark.mpi
def test_without_a_failure_all_go_on() -> None:
    with all_or_none(world(), "working"):
        done = 1
    assert total(world(), done) == world().size


# Failing together ----------------------------------------------------------------------------------------------------

@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("error", [DataError("a.ms: broken"), StorageError("disk full"), KeyError("plane")])
@pytest.mark.fault("ranks", "an error on one rank inside all_or_none", "all ranks raise with its rank, message and status")
def test_a_failing_rank_makes_all_raise_with_its_rank_message_and_exit_status(error: Exception) -> None:
    comm = world()
    failing = comm.size - 1

    def body() -> None:
        with all_or_none(comm, "reading rows"):
            if comm.rank == failing:
                raise error

    raised = failure_of(body)
    if comm.rank == failing:
        assert raised is error
        return
    assert isinstance(raised, RemoteRankError)
    assert str(raised).startswith(f"rank {failing} failed while reading rows: ")
    if isinstance(error, RadpsError):
        assert str(raised).endswith(f": {error}") and raised.exit_status == error.exit_status
    else:
        assert "KeyError: 'plane' (test_collective.py:" in str(raised) and raised.exit_status == EXIT_FAILURE


@pytest.mark.mpi(min_size=3)
@pytest.mark.fault("ranks", "errors on two ranks at once", "the lowest rank's is told to the others", times=2)
def test_of_several_failures_the_lowest_rank_is_told_to_the_others() -> None:
    comm = world()

    def body() -> None:
        with all_or_none(comm, "working"):
            if comm.rank > 0:
                raise DataError(f"by {comm.rank}")

    raised = failure_of(body)
    assert str(raised) == ("rank 1 failed while working: by 1" if comm.rank == 0 else f"by {comm.rank}")


@pytest.mark.mpi(min_size=3)
@pytest.mark.fault("ranks", "an error on one rank of a team", "told by its rank in the job")
def test_a_failure_inside_a_team_is_told_by_its_rank_in_the_job() -> None:
    comm = world()
    team = split(comm, 0 if comm.rank > 0 else 1)  # ranks 1, 2, ... are a team, in which they have ranks 0, 1, ...
    failing = comm.size - 1

    def body() -> None:
        with all_or_none(comm, "making images"), all_or_none(team, "imaging a block"):
            if comm.rank == failing:
                raise DataError("a checksum doesn't match")

    raised = failure_of(body)
    if comm.rank == failing:
        assert isinstance(raised, DataError)
    else:
        assert str(raised) == f"rank {failing} failed while making images: a checksum doesn't match"
        assert isinstance(raised, RemoteRankError) and raised.exit_status == EXIT_DATA
    team.Free()


@pytest.mark.mpi
@pytest.mark.fault("ranks", "an error on each rank in turn", "the ranks are still in step")
def test_after_a_failure_the_ranks_are_still_in_step(injected: Callable[..., None]) -> None:
    comm = world()
    injected(comm.size)
    for failing in range(comm.size):
        with pytest.raises(RadpsError), all_or_none(comm, "working"):
            if comm.rank == failing:
                raise DataError("once")
        assert total(comm, 1) == comm.size


@pytest.mark.mpi
@pytest.mark.fault("ranks", "an error in work of rank 0", "all ranks raise with its message and status")
def test_work_of_the_root_gives_all_ranks_its_result_or_its_failure() -> None:
    comm = world()
    assert on_root(comm, "asking", lambda: {"rank": comm.rank}) == {"rank": 0}

    def refuse() -> None:
        raise StorageError("read-only")

    raised = failure_of(lambda: on_root(comm, "writing", refuse))
    assert raised.exit_status == EXIT_IO
    assert str(raised) == ("read-only" if comm.rank == 0 else "rank 0 failed while writing: read-only")


# Reductions ----------------------------------------------------------------------------------------------------------

@pytest.mark.mpi
@pytest.mark.parametrize("message_bytes", [1 << 30, 5])
def test_merging_keeps_the_bits_of_nan_payloads_and_negative_zeros(
    monkeypatch: pytest.MonkeyPatch, message_bytes: int
) -> None:
    monkeypatch.setattr(collective, "_MESSAGE_BYTES", message_bytes)
    comm = world()
    bits = np.array([0x7FF8_0000_0000_BEEF, 0xFFF0_0000_0000_0001, 1 << 63, 1, 0x3FF0_0000_0000_0000, 0, 3], np.uint64)
    everything = bits.view(np.float64)
    mine = np.arange(len(bits)) % comm.size == comm.rank
    known = np.where(mine, everything, np.nan)
    merged = merge_disjoint(comm, known, mine)
    np.testing.assert_array_equal(merged.view(np.uint64), bits)


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", [
    np.dtype([("flag", "u1"), ("peak", "<f8"), ("sum", "<u8", (2,))]), np.dtype("?"), np.dtype("<c8"), np.dtype(">i4"),
])  # fmt: skip
def test_merging_keeps_every_kind_of_entry(dtype: np.dtype) -> None:
    comm = world()
    raw = np.random.default_rng(3).integers(0, 2 if dtype.kind == "b" else 256, (6, 2, dtype.itemsize), np.uint8)
    everything = raw.view(dtype)[..., 0]
    mine = np.arange(6) % comm.size == comm.rank
    assert merge_disjoint(comm, everything, mine).tobytes() == everything.tobytes()
    assert merge_disjoint(comm, everything[:0], mine[:0]).shape == (0, 2)


@pytest.mark.mpi
def test_entries_that_no_rank_knows_are_zero() -> None:
    merged = merge_disjoint(world(), np.full(3, np.nan), np.zeros(3, bool))
    np.testing.assert_array_equal(merged, np.zeros(3))


@pytest.mark.mpi
@pytest.mark.parametrize("message_bytes", [1 << 30, 5])
def test_a_broadcast_array_has_the_roots_bits(monkeypatch: pytest.MonkeyPatch, message_bytes: int) -> None:
    monkeypatch.setattr(collective, "_MESSAGE_BYTES", message_bytes)
    comm = world()
    array = np.random.default_rng(1).standard_normal((3, 4)).T  # not contiguous in memory
    got = broadcast(comm, array if comm.rank == 0 else None, (4, 3), np.dtype(np.float64))
    np.testing.assert_array_equal(got, array)


@pytest.mark.mpi
def test_ranks_are_split_by_colour_in_their_order_and_those_without_one_get_none() -> None:
    comm = world()
    part = split(comm, None if comm.rank == 0 else comm.rank % 2)
    if comm.rank == 0:
        assert part is None
        return
    fellows = [rank for rank in range(1, comm.size) if rank % 2 == comm.rank % 2]
    assert part is not None and part.allgather(comm.rank) == fellows
    part.Free()


@pytest.mark.mpi
def test_small_reductions_agree_on_all_ranks() -> None:
    comm = world()
    last = comm.rank == comm.size - 1
    assert any_rank(comm, last) and not any_rank(comm, False)
    assert every_rank(comm, True) and every_rank(comm, not last) is False
    assert total(comm, 2**53 + comm.rank) == comm.size * 2**53 + comm.size * (comm.size - 1) // 2
    assert largest(comm, -1.5 - comm.rank) == -1.5
    assert ranks_on_node(comm) == comm.size
    assert same_everywhere(comm, {"width": 16})
    assert same_everywhere(comm, comm.rank) == (comm.size == 1)


# Start and end of a job ----------------------------------------------------------------------------------------------

START = "from radps_mpi.parallel import world; print(world().size)"


@pytest.mark.launches_mpi
@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
@pytest.mark.fault("ranks", "mpirun of another MPI than the library's", "refused with what was started and what MPI sees")
def test_a_launcher_of_another_mpi_family_is_refused(variable: str) -> None:
    plain = {name: value for name, value in environment().items() if not name.startswith(("PMI", "SLURM"))}
    lone = [sys.executable, "-c", START]
    run = subprocess.run(lone, env=plain | {variable: "4"}, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode != 0
    assert f"the launcher started 4 processes ({variable}) but MPI sees 1" in run.stderr
    run = subprocess.run(lone, env=plain | {variable: "1"}, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "1\n")


@pytest.mark.launches_mpi
@pytest.mark.parametrize("slurm", [{"SLURM_NTASKS": "16"}, {"SLURM_STEP_NUM_TASKS": "4", "OMPI_COMM_WORLD_SIZE": "1"}])
def test_few_ranks_in_a_larger_slurm_allocation_may_run(slurm: dict[str, str]) -> None:
    """Of which mpirun starts daemons on all nodes, whatever the number of ranks."""
    run = subprocess.run([sys.executable, "-c", START], env=environment(slurm), capture_output=True, text=True, timeout=60,
                         check=False)
    assert (run.returncode, run.stdout) == (0, "1\n")


DYING = """
import sys, time
from radps_mpi.parallel import abort_on_uncaught_errors, total, world
comm = world()
abort_on_uncaught_errors(comm)
comm.Barrier()
open(sys.argv[1] + str(comm.rank), "w").write(str(time.time()))
if comm.rank == 1:
    raise ZeroDivisionError("on one rank alone")
total(comm, 1)
"""


@pytest.mark.launches_mpi
@pytest.mark.fault(
    "ranks", "an uncaught error on one rank while others wait in a sum",
    "the job ends within 10 s with rank and traceback",
)  # fmt: skip
def test_a_rank_that_dies_of_an_error_ends_the_job_within_seconds(tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    started_at = tmp_path / "started"
    command = ["mpirun", "-n", "3", sys.executable, str(script), str(started_at)]  # plain python: nothing else ends the job
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=90, check=False)
    ended = time.time()
    started = float(Path(f"{started_at}1").read_text())
    assert ended - started < 10.0
    assert run.returncode == EXIT_FAILURE
    assert "uncaught error on rank 1 of 3" in run.stderr
    assert "ZeroDivisionError: on one rank alone" in run.stderr


def test_alone_an_uncaught_error_is_shown_once_and_ends_the_process_as_usual(tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING.replace("comm.rank == 1", "comm.rank == 0"))
    run = subprocess.run([sys.executable, str(script), str(tmp_path / "started")], env=environment(), capture_output=True,
                         text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.count("ZeroDivisionError: on one rank alone") == 1
