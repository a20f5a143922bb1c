"""Standard output and standard error, which may be closed, on a full disk, or read by nobody any more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from radps_mpi.errors import StorageError


def open_closed_streams() -> None:
    """Give the process those of the three streams that it was started without (``radps ... 2>&-``).

    Else the next file that it opens gets the number of one, and what a library writes to standard error ends up in the state.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def say(text: str) -> None:
    """What a command was asked for, to standard output.

    Raises
    ------
    StorageError
        If it can't be written; a BrokenPipeError where its reader has gone.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"standard output: {error.strerror}") from error


def tell(text: str) -> None:
    """News and complaints, to standard error: a disk that refuses them changes neither what is done nor how it ends."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        raise
    except OSError:
        pass


def let_go_of_what_cannot_be_written() -> None:
    """At the end: Python flushes both streams once more, and a refusal would become the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
