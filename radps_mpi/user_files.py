"""Texts that a user writes or keeps for all runs: parameters, skies, the constants of a machine, the settings of a site."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from radps_mpi.errors import UsageError


def user_file(name: str) -> Path:
    """``$XDG_CONFIG_HOME/radps/NAME``, by default in ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "radps" / name


LARGEST_BYTES = 1 << 26
"""Of a text that a person has written: a device, or visibilities by mistake, would fill the memory of every rank."""


def read_text(path: Path) -> str:
    """A text in UTF-8. OSError or UnicodeDecodeError if it isn't one, OSError too if it is too long for one."""
    with path.open("rb") as file:
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise OSError(errno.EFBIG, f"more than {LARGEST_BYTES} bytes: not a text of settings")
    return data.decode("utf-8")


def read_user_file(path: Path, what: str) -> str:
    """Its text. UsageError, which says ``what`` it should be, if it can't be read."""
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from None
