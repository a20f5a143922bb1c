"""One run at a time in a run directory: an advisory lock that dies with its holder, and a text that says who that is.

Two files: ``lock``, held exclusively by rank 0, with the holder's description; ``lock.ranks``, held shared by every
rank, so that a new run waits for the last survivor of a killed one before it touches the state.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from radps_mpi.errors import UsageError
from radps_mpi.io.durable import naming

LOCK_NAME = "lock"
RANKS_NAME = "lock.ranks"
SURVIVOR_WAIT_S = 20.0
"""Launchers kill the ranks of a job one after the other; Slurm's KillWait is 30 s, but the state isn't written for so
long."""

_BUSY = {errno.EAGAIN, errno.EACCES}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_MAX_LOCK_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run directory. ``boot_id`` and ``started_ticks`` tell a process from a later one of the same pid."""

    host: str
    pid: int
    job_id: str
    started: str
    boot_id: str
    started_ticks: str

    def __str__(self) -> str:
        job = f", job {self.job_id}" if self.job_id else ""
        return f"process {self.pid} on {self.host}{job}, since {self.started}"


class RunLock:
    """The lock of one run directory, from this process's side."""

    def __init__(self, root: Path, job_id: str = "") -> None:
        self.root = root
        self._job_id = job_id or batch_job_id()
        self._fds: dict[str, int] = {}
        self._is_mine = False

    def acquire(self, *, break_lock: bool = False) -> None:
        """Take the run for this job; for rank 0.

        A lock whose holder died on this host, or was an earlier run of the same batch job, is broken without asking.

        Raises
        ------
        UsageError
            Saying who holds it and, where a dead holder can't be told from a living one, how to break the lock.
        """
        path = self.root / LOCK_NAME
        with naming(path, "locking it"):
            fd = self._open(LOCK_NAME)
            free = flock(fd, fcntl.LOCK_EX)
            holder = _parse(os.pread(fd, _MAX_LOCK_TEXT, 0))
            refusal = _refusal(path, holder, free, self._job_id, break_lock)
            if refusal:
                self.release()
                raise UsageError(refusal)
            self._wait_for_survivors()
            text = json.dumps(asdict(this_process(self._job_id)), indent=1).encode() + b"\n"
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
            os.fsync(fd)
            self._is_mine = True

    def _wait_for_survivors(self) -> None:
        fd = self._open(RANKS_NAME)
        deadline = time.monotonic() + SURVIVOR_WAIT_S
        while flock(fd, fcntl.LOCK_EX) is False:
            if time.monotonic() > deadline:
                self.release()
                raise UsageError(f"{self.root}: processes of an earlier, killed run are still alive and may write to "
                                 f"it; end them first (they hold {RANKS_NAME})")
            time.sleep(0.2)
        os.close(self._fds.pop(RANKS_NAME))

    def join(self) -> None:
        """Say that this rank belongs to the run; for every rank, after rank 0 has acquired it."""
        with naming(self.root / RANKS_NAME, "locking it"):
            if flock(self._open(RANKS_NAME), fcntl.LOCK_SH) is False:
                raise UsageError(f"{self.root}: another run has just taken it")

    def release(self) -> None:
        """Give up what this process holds; rank 0 also empties the lock file."""
        if self._is_mine:
            os.ftruncate(self._fds[LOCK_NAME], 0)
            self._is_mine = False
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fds[name] = os.open(self.root / name, flags, 0o666)
        return self._fds[name]


def read_holder(root: Path) -> tuple[Holder | None, bool | None]:
    """Who is written in the lock file, and whether it lives: None if that can't be told from this host."""
    try:
        fd = os.open(root / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, False
    try:
        holder = _parse(os.pread(fd, _MAX_LOCK_TEXT, 0)) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        if holder is None:
            return None, False
        if holder.host == socket.gethostname():
            return holder, _lives(holder)
        return holder, True if flock(fd, fcntl.LOCK_SH) is False else None
    finally:
        os.close(fd)


def _refusal(path: Path, holder: Holder | None, free: bool | None, job_id: str, break_lock: bool) -> str:
    """Why the lock can't be taken, or "". ``free``: flock's verdict, None where the file system has none."""
    who = str(holder) if holder else "another process"
    if free is False:
        return f"{path.parent} is in use by {who}; wait for it, or end it"
    if holder is None or break_lock or (job_id and holder.job_id == job_id):
        return ""
    if holder.host == socket.gethostname():
        return f"{path.parent} is in use by {who}; wait for it, or end it" if free is None and _lives(holder) else ""
    return (f"{path.parent} is locked by {who}. If that run is dead (this host can't tell), "
            f"say --break-lock, or remove {path}")


def flock(fd: int, kind: int) -> bool | None:
    """True: locked; False: somebody else has it; None: this file system knows no locks."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _parse(text: bytes) -> Holder | None:
    try:
        values = json.loads(text)
        holder = Holder(**{entry.name: values[entry.name] for entry in fields(Holder)})
        return holder if isinstance(holder.pid, int) and isinstance(holder.host, str) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def batch_job_id() -> str:
    """Of the batch system, "" outside of one."""
    return os.environ.get("SLURM_JOB_ID", "") or os.environ.get("PBS_JOBID", "")


def this_process(job_id: str) -> Holder:
    """This process as the holder of a lock."""
    pid = os.getpid()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(socket.gethostname(), pid, job_id, started, _boot_id(), _started_ticks(pid))


def _lives(holder: Holder) -> bool:
    """Whether the process, on this host, still exists: same boot, same pid, same start."""
    return holder.boot_id == _boot_id() and holder.started_ticks == _started_ticks(holder.pid) != ""


def _boot_id() -> str:
    return _text_of(Path("/proc/sys/kernel/random/boot_id")).strip()


def _started_ticks(pid: int) -> str:
    """When the process started, in clock ticks since boot (field 22 of proc(5) stat); "" if it doesn't exist or is a
    zombie."""
    words = _text_of(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return words[19] if len(words) > 19 and words[0] not in "ZX" else ""


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
