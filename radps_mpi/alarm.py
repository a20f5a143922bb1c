"""What one process hears from outside while it works: signals that ask it to stop, and silence that means it hangs.

A thread does the hearing, since Python's own handlers wait until a kernel, a transform or a read returns. The first SIGUSR1
or SIGTERM is noted (:func:`asked`): the program stops where its state is whole. The second one ends the process at once.
Nothing here communicates: ranks agree in :mod:`radps_mpi.parallel.stints`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO

from radps_mpi.errors import EXIT_STALLED, EXIT_TRY_AGAIN
from radps_mpi.launcher import launcher_rank

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""Slurm's --signal, and what batch systems, launchers and people send to end a job. The terminal's SIGINT stays as it is."""

_PAUSE_S = 0.5
_GRACE_S = 10.0
"""A thread can't speak while the main one holds the interpreter inside a library's call: faulthandler, which needs no
interpreter, ends the process this much later."""

_asked = ""
_hearing = False
_doing = ""
_waiting = False
_last_beat_s = 0.0
_last_rearmed_s = 0.0
_stall_timeout_s = 0.0
_log: Path | None = None


def asked() -> str:
    """Name of the signal that asked this process to stop, "" if none has."""
    return _asked


def beat(doing: str, *, waiting: bool = False) -> None:
    """Say that this process is getting on, and with what.

    ``waiting``: for the other ranks, from now on. It is then given twice the time, so that the rank that hangs is the one that
    ends the job, with its own name.
    """
    global _doing, _last_beat_s, _waiting
    _doing, _last_beat_s, _waiting = doing, time.monotonic(), waiting
    _rearm()


def _patience_s() -> float:
    return _stall_timeout_s * (2.0 if _waiting else 1.0)


def _rearm() -> None:
    global _last_rearmed_s
    if _stall_timeout_s and _last_beat_s - _last_rearmed_s > _PAUSE_S:
        faulthandler.dump_traceback_later(2.0 * _stall_timeout_s + _GRACE_S, exit=True)
        _last_rearmed_s = _last_beat_s


@contextmanager
def listening(stall_timeout_s: float = 0.0, log: Path | None = None) -> Iterator[None]:
    """Hear signals, and silences of more than ``stall_timeout_s`` (0: none is too long), while the body runs.

    ``log``: file to which this process's traceback is added when it stalls. For the main thread; signal handlers are put back
    at the end. Inside another one's body it adds its watch to that one's ears: a signal heard in the inner body stays heard
    until the outer one has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers: a program that images in another one keeps its own
        return
    with nullcontext() if _hearing else _heard_signals(), _watched(stall_timeout_s, log):
        yield


@contextmanager
def _heard_signals() -> Iterator[None]:
    global _asked, _hearing
    _asked, _hearing = "", True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _heard_by_interpreter) for number in SIGNALS}
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    ended = threading.Event()
    thread = threading.Thread(target=_hear, args=(reader, ended), name="radps-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, b"\0")
        thread.join()
        os.close(writer)
        os.close(reader)
        _asked, _hearing = "", False


@contextmanager
def _watched(stall_timeout_s: float, log: Path | None) -> Iterator[None]:
    global _stall_timeout_s, _log, _last_rearmed_s
    if not stall_timeout_s:
        yield
        return
    _stall_timeout_s, _log, _last_rearmed_s = stall_timeout_s, log, 0.0
    beat("starting")
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ended,), name="radps-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        faulthandler.cancel_dump_traceback_later()
        thread.join()
        _stall_timeout_s = 0.0


def _heard_by_interpreter(number: int, frame: object) -> None:
    """Python wants a handler; the thread at the other end of the pipe has heard the signal already."""


def _hear(reader: int, ended: threading.Event) -> None:
    global _asked
    while True:
        for number in os.read(reader, 64):
            if ended.is_set():
                return
            if number not in SIGNALS:
                continue
            if _asked:
                os._exit(EXIT_TRY_AGAIN)  # what is committed is whole at any moment, and nothing may hold up this exit
            _asked = signal.Signals(number).name


def _watch(ended: threading.Event) -> None:
    while not ended.wait(min(_PAUSE_S, _stall_timeout_s / 4.0)):
        silence_s = time.monotonic() - _last_beat_s
        if silence_s > _patience_s():
            doing = f"waiting for other ranks after {_doing}" if _waiting else _doing
            _tell(
                f"radps: error: rank {launcher_rank()} on {os.uname().nodename} has not got on for {silence_s:.0f} s with: "
                f"{doing} (--stall-timeout); ending the job\n"
            )
            os._exit(EXIT_STALLED)


def _tell(text: str) -> None:
    """The message and every thread's traceback, on stderr and in the rank's log."""

    def dump(to: Callable[[str], object], fileno: int) -> None:
        to(text)
        faulthandler.dump_traceback(fileno, all_threads=True)

    with suppress(OSError):  # nothing may keep this process from ending
        sys.stderr.flush()
        dump(lambda line: os.write(2, line.encode()), 2)
    if _log is not None:
        with suppress(OSError), open_log(_log) as log:
            dump(log.write, log.fileno())


def open_log(path: Path) -> TextIO:
    """A file to append lines to; OSError if it is a link, which could lead anywhere, or a pipe, which nobody may ever read."""

    def never_elsewhere(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    return open(path, "a", encoding="utf-8", buffering=1, opener=never_elsewhere)
