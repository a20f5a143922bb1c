"""Named points where a test can kill, fail or starve a rank: nothing happens unless RADPS_FAULT is set.

``RADPS_FAULT="point[:nth[:rank[:action]]]"``: at the ``nth`` time (default 1) that a process of rank ``rank`` (default
any) reaches ``point``, do ``action``: ``kill`` (SIGKILL, the default), ``raise`` (an :class:`InjectedFault`), ``exit`` (at
once, with status 9), ``hang`` (for ever), ``usr1`` (the signal that asks a job to stop, sent to itself), ``enospc``,
``edquot``, ``eio`` or ``erofs`` (the OSError of a full disk, an exhausted quota, a failing or a read-only disk), ``nan`` (in
a result, see :func:`poison`) or ``wait`` (for as long as the file named by RADPS_FAULT_HOLD exists, which is filled to say
that the point is reached). Fields may be empty: ``mid-write::2:enospc``.

Points of the checkpoint, in the order in which a run passes them: ``state-before-rename`` (created, still
``.partial``), ``before-write``, ``mid-write`` (half of a plane is written), ``before-sync``, ``before-rename`` (the
new manifest is durable under its temporary name), ``mid-rename`` (the previous manifest is kept, the new one not yet
in place), ``after-rename``, ``before-done``. Before them come ``run-directory``, ``room`` (the disk is asked whether it has
enough, see :func:`radps_mpi.io.durable.claim_room`) and ``reserve``. Ingest and products name theirs ``ingest-*`` and
``product-*``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import UsageError
from radps_mpi.launcher import launcher_rank

_ERRORS = {"enospc": errno.ENOSPC, "edquot": errno.EDQUOT, "eio": errno.EIO, "erofs": errno.EROFS}
ACTIONS = ("kill", "raise", "exit", "hang", "usr1", "wait", "nan", *_ERRORS)


class InjectedFault(RuntimeError):
    """Raised by the action ``raise``: stands for an error that nobody foresaw."""


@dataclass(slots=True)
class _Fault:
    point: str
    nth: int
    action: str
    reached: int = 0


_armed: _Fault | None = None


def arm(specification: str) -> None:
    """Set the fault of this process from the text of RADPS_FAULT; an empty text disarms.

    Raises
    ------
    UsageError
        If the text isn't ``point[:nth[:rank[:action]]]``.
    """
    global _armed
    _armed = None
    if not specification:
        return
    point, nth, rank, action = [*specification.split(":"), "", "", ""][:4]
    action = action or ACTIONS[0]
    numbers_are_wrong = any(text and not text.isdigit() for text in (nth, rank))
    if not point or specification.count(":") > 3 or numbers_are_wrong or action not in ACTIONS:
        raise UsageError(f"RADPS_FAULT={specification!r}: expected point[:nth[:rank[:{'|'.join(ACTIONS)}]]]")
    if not rank or int(rank) == launcher_rank():
        _armed = _Fault(point, int(nth or 1), action)


def is_armed(point: str) -> bool:
    """True if this process has a fault waiting at ``point``."""
    return _armed is not None and _armed.point == point


def reach(point: str) -> None:
    """Say that the program is at ``point``; costs one comparison when no fault is armed."""
    if _armed is None or _armed.point != point:
        return
    _armed.reached += 1
    if _armed.reached == _armed.nth:
        _strike(_armed)


def _strike(fault: _Fault) -> None:
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.action == "exit":
        os._exit(9)
    if fault.action == "usr1":
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)  # the thread that hears it is given the interpreter
        return
    while fault.action == "hang":
        time.sleep(1.0)
    if number := _ERRORS.get(fault.action):
        raise OSError(number, os.strerror(number))
    if fault.action == "wait":
        _wait_while_held(Path(os.environ["RADPS_FAULT_HOLD"]))
        return
    raise InjectedFault(f"injected at {fault.point}")


def poison(point: str, values: NDArray[Any]) -> None:
    """Put a NaN into ``values`` where the action at ``point`` is ``nan``: what a failing processor may do."""
    if _armed is not None and _armed.action == "nan" and _armed.point == point:
        _armed.reached += 1
        if _armed.reached == _armed.nth:
            values.reshape(-1)[values.size // 2] = np.nan


def _wait_while_held(hold: Path) -> None:
    """What has been let go already, or is let go before it is filled, holds nobody up."""
    with contextlib.suppress(FileNotFoundError), hold.open("r+") as file:
        file.write("reached")
    while hold.exists():
        time.sleep(0.02)


arm(os.environ.get("RADPS_FAULT", ""))
