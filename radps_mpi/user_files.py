"""Files that a user keeps for all runs: the constants of a machine, the settings of a site."""

from __future__ import annotations

import os
from pathlib import Path

from radps_mpi.errors import UsageError


def user_file(name: str) -> Path:
    """``$XDG_CONFIG_HOME/radps/NAME``, by default in ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "radps" / name


def read_user_file(path: Path, what: str) -> str:
    """Its text. UsageError, which says ``what`` it should be, if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from None
