"""Work in stints: every rank stops at the same place, with everything committed, and a job does one step at least."""

from __future__ import annotations

import os
import signal
import time

import pytest

from radps_mpi import alarm
from radps_mpi.errors import OutOfTimeError
from radps_mpi.parallel import stints, world
from radps_mpi.parallel.stints import WallTime, work_in_stints

pytestmark = pytest.mark.mpi(min_size=1)


class Work:
    """What was worked and what was committed, on this rank."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.done: list[int] = []
        self.committed: list[int] = []
        self.step_s = step_s

    def step(self, number: int) -> None:
        time.sleep(self.step_s)
        self.done.append(number)

    def commit(self) -> None:
        self.committed = list(self.done)

    def run(self, limit: WallTime, steps: int, **options: object) -> None:
        work_in_stints(limit, steps, "testing", self.step, self.commit, lambda done: None, **options)


def test_everything_is_worked_once_in_order_and_committed() -> None:
    work = Work()
    work.run(WallTime(world(), float("inf")), 50)
    assert work.done == work.committed == list(range(50))


def test_the_caller_may_commit_the_last_stint_himself() -> None:
    work = Work()
    work.run(WallTime(world(), float("inf")), 5, commit_last=False)
    assert work.done == list(range(5)) and work.committed == []


def test_commits_come_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stints, "COMMIT_INTERVAL_S", 0.05)
    work, seen = Work(0.01), []
    work_in_stints(
        WallTime(world(), float("inf")), 20, "testing", work.step, lambda: seen.append(len(work.done)), lambda done: None
    )
    assert seen[-1] == 20 and 3 <= len(seen) <= 20


@pytest.mark.fault("time", "a job whose time is up before it begins", "one step done and committed, then it stops")
def test_a_job_without_time_does_one_step_and_stops() -> None:
    work, limit = Work(), WallTime(world(), -100.0)
    with pytest.raises(OutOfTimeError, match="time is nearly up"):
        work.run(limit, 3)
    assert work.done == work.committed == [0]
    with pytest.raises(OutOfTimeError):
        work.run(limit, 3)
    assert work.done == [0], "the next part of the work isn't begun"


@pytest.mark.fault("time", "time up on one rank alone", "all ranks stop at the same step")
def test_the_rank_with_the_least_time_counts() -> None:
    comm = world()
    work = Work()
    with pytest.raises(OutOfTimeError):
        work.run(WallTime(comm, 0.0 if comm.rank == comm.size - 1 else float("inf")), 3)
    assert work.done == [0]


@pytest.mark.fault("time", "SIGUSR1 to one rank in a stint", "all ranks stop at the same step, committed")
def test_one_rank_that_is_asked_to_stop_stops_all() -> None:
    comm = world()
    work = Work()

    def step(number: int) -> None:
        work.step(number)
        if number == 3 and comm.rank == comm.size - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.2)

    with alarm.listening(), pytest.raises(OutOfTimeError, match="asked to by"):
        work_in_stints(WallTime(comm, float("inf")), 10, "testing", step, work.commit, lambda done: None)
    assert work.done == work.committed and work.done[0] == 0
    assert comm.rank != comm.size - 1 or work.done == [0, 1, 2, 3]


@pytest.mark.fault("time", "SIGUSR1 inside nested listening", "heard until the outer one ends")
def test_a_signal_stays_heard_until_the_outer_ears_are_closed() -> None:
    with alarm.listening():
        with alarm.listening(60.0):
            os.kill(os.getpid(), signal.SIGUSR1)
            deadline = time.monotonic() + 10.0
            while not alarm.asked() and time.monotonic() < deadline:
                time.sleep(0.01)
        assert alarm.asked() == "SIGUSR1"
    assert alarm.asked() == ""
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_the_time_since_the_last_commit_is_kept_over_many_short_pieces_of_work() -> None:
    limit, work, committed = WallTime(world(), float("inf")), Work(), []
    for _ in range(3):
        work.run(limit, 1, commit_last=False)
        committed.append(len(work.committed))
        limit.committed_s -= 0.6 * stints.COMMIT_INTERVAL_S  # as if the next piece came so much later
    assert committed == [0, 0, 3], "each piece is shorter than the interval, all of them are longer"
