"""Work in stints: pieces at whose ends all ranks meet, commit what they have when it is time to, and stop if the job must.

A job stops when a signal has asked one of its ranks to (:mod:`radps_mpi.alarm`), or when the next step and its commit would not
end before the job does. What is finished is committed first, and a job does one step at least: work of any length gets done
by enough jobs, however short they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from radps_mpi import alarm
from radps_mpi.errors import OutOfTimeError
from radps_mpi.parallel.collective import all_or_none, any_rank, largest
from radps_mpi.parallel.types import Comm
from radps_mpi.units import format_duration

COMMIT_INTERVAL_S = 60.0
"""What is finished is committed about this often; less so where a step takes longer than those before it."""

EXIT_S = 3.0
"""Time that ranks, launcher and batch script need between the last commit and the end."""

_SHORTEST_S = 1e-3


class WallTime:
    """When this job ends, and what its steps have taken so far. Every method is collective over ``comm``.

    ``left_s``: seconds from now on, inf for a job without an end; the least of all ranks counts.
    """

    def __init__(self, comm: Comm, left_s: float) -> None:
        self.comm = comm
        self._end_s = time.monotonic() - largest(comm, -left_s)
        self._step_s = self._commit_s = 0.0
        self._worked = False
        self.committed_s = time.monotonic()
        """When this rank last had everything committed, of its monotonic clock: kept from one piece of work to the next, or
        many short ones would commit nothing."""

    def remaining_s(self) -> float:
        """Seconds left for work; the same on all ranks."""
        return -largest(self.comm, time.monotonic() - self._end_s) - EXIT_S - 2.0 * self._commit_s

    def reason_to_leave(self) -> str:
        """Why the job is to stop as soon as everything is committed, "" if it may go on."""
        if any_rank(self.comm, bool(alarm.asked())):
            return f"asked to by {alarm.asked() or 'a signal to another rank'}"
        left_s = self.remaining_s()
        if self._worked and left_s < self._step_s:
            return (f"the job's time is nearly up: {format_duration(max(0.0, left_s))} left for work, a step may take "
                    f"{format_duration(self._step_s)}")
        return ""

    def note_step(self, step_s: float) -> None:
        """A step took so long on its slowest rank."""
        self._step_s, self._worked = max(self._step_s, step_s), True

    def note_commit(self, commit_s: float) -> None:
        """A commit took so long on this rank."""
        self._commit_s = max(self._commit_s, largest(self.comm, commit_s))


def work_in_stints(
    limit: WallTime, steps: int, what: str, work: Callable[[int], None], commit: Callable[[], object],
    progress: Callable[[int], None], *, stopping: Callable[[], bool] = lambda: bool(alarm.asked()), commit_last: bool = True,
    together: bool = False,
) -> None:
    """``work`` on steps 0 to ``steps`` - 1 of this rank, with a ``commit`` every COMMIT_INTERVAL_S and at the end. Collective.

    How many steps lie between meetings is agreed from the slowest rank's pace. ``steps`` is that of the rank with the most;
    ``work`` does nothing for those that a rank doesn't have. ``stopping`` is asked after each step; ranks that do a step
    together must have one answer. Without ``commit_last`` the caller commits what the last stint has done. ``together``: a
    step is one of all ranks, which makes a failure everyone's by itself.

    Raises
    ------
    OutOfTimeError
        On all ranks, with everything committed that has been worked, when the job is to stop before the end.
    """
    if why := limit.reason_to_leave():
        commit()  # what an earlier part of the work has left to this one
        raise OutOfTimeError(why)
    done, stride = 0, 1
    while done < steps:
        with nullcontext() if together else all_or_none(limit.comm, what):
            step_s = _stint(range(done, min(done + stride, steps)), what, work, stopping)
        done = min(done + stride, steps)
        step_s = max(largest(limit.comm, step_s), _SHORTEST_S)
        limit.note_step(step_s)
        why = limit.reason_to_leave()
        room_s = COMMIT_INTERVAL_S - largest(limit.comm, time.monotonic() - limit.committed_s)
        if why or room_s < step_s or (done == steps and commit_last):
            began = time.monotonic()
            alarm.beat(f"committing after {what}")
            commit()
            limit.committed_s, room_s = time.monotonic(), COMMIT_INTERVAL_S
            limit.note_commit(limit.committed_s - began)
        if why:
            raise OutOfTimeError(why)
        progress(done)
        alarm.beat(what)
        # no more than twice as many as before: cheap steps, such as a band's empty edge, may be followed by dear ones
        stride = max(1, min(2 * stride, int(min(room_s, limit.remaining_s()) / step_s)))


def _stint(steps: range, what: str, work: Callable[[int], None], stopping: Callable[[], bool]) -> float:
    """Work until the stint is done or the job is to stop; seconds of the longest step."""
    longest_s = 0.0
    for step in steps:
        began = time.monotonic()
        work(step)
        longest_s = max(longest_s, time.monotonic() - began)
        alarm.beat(what)
        if stopping():
            break
    alarm.beat(what, waiting=True)
    return longest_s
