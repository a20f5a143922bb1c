"""An earlier run that a new one of the same name is to replace: kept until the new one has a state of its own.

The files of the earlier run wait in ``replaced/`` inside the run directory. Moving them there and back goes through
``replaced.partial/``: a directory of that name is always moved back whole, so a kill in between loses nothing. Each function
is for one process that holds the directory's lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from radps_mpi.io import commit
from radps_mpi.io.durable import fsync_directory, naming

WAITING_NAME = "replaced"
_MOVING_NAME = WAITING_NAME + ".partial"


def set_aside(root: Path, names: Iterable[str]) -> None:
    """Move the files ``names``, those that exist, out of the new run's way.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    moving = root / _MOVING_NAME
    with naming(moving, "setting the earlier run aside"):
        moving.mkdir()
        for name in names:
            if (root / name).exists():
                os.replace(root / name, moving / name)
        fsync_directory(moving)
        os.replace(moving, root / WAITING_NAME)
        fsync_directory(root)


def bring_back(root: Path, names: Iterable[str]) -> bool:
    """Put the earlier run back if the one that was to replace it never got a state; True if there was something to put back.

    The files ``names`` that the new run left give way. An earlier run that has been replaced is let go.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    waiting, moving = root / WAITING_NAME, root / _MOVING_NAME
    if waiting.is_dir():
        if commit.exists(root):
            let_go(root)
            return False
        with naming(waiting, "bringing the earlier run back"):
            for name in names:  # what is there now is the new run's: the earlier one must not take it for its own
                (root / name).unlink(missing_ok=True)
            os.replace(waiting, moving)
    if not moving.is_dir():
        return False
    with naming(moving, "bringing the earlier run back"):
        for path in sorted(moving.iterdir()):
            os.replace(path, root / path.name)
        fsync_directory(root)
        moving.rmdir()
    return True


def let_go(root: Path) -> None:
    """Forget the earlier run: the new one has its state."""
    waiting = root / WAITING_NAME
    if waiting.is_dir():
        with naming(waiting, "removing the earlier run"):
            shutil.rmtree(waiting)
