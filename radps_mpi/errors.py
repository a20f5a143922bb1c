"""What can go wrong, by exit status: every error a user can cause or cure has a class here and one clear line."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_STALLED = 71
EXIT_IO = 74
EXIT_TRY_AGAIN = 75


class RadpsError(Exception):
    """Base of the errors that are reported as one line instead of a traceback."""

    exit_status = EXIT_FAILURE
    label = "error"
    """What the line begins with."""


class UsageError(RadpsError):
    """An option, a parameter or their combination can't be used; the message names it."""

    exit_status = EXIT_USAGE


class FinishedRunError(UsageError):
    """The run is finished, and has kept no state from which it could be gone on with."""


class DataError(RadpsError):
    """An input (MeasurementSet, store, state) is missing, broken or not supported; the message names file and column."""

    exit_status = EXIT_DATA


class StorageError(RadpsError):
    """The file system refused: full, read-only, gone; the message names the file and what is needed."""

    exit_status = EXIT_IO


class OutOfTimeError(RadpsError):
    """The job's time is up, or somebody asked it to stop: what is finished is committed, and another job can go on."""

    exit_status = EXIT_TRY_AGAIN
    label = "stopped"


def printable(text: str) -> str:
    """Text on one line, with escapes for what a terminal would obey: names come from files that others wrote."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
