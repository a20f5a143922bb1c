"""A first look at files that may come from anywhere, in a process of its own: a library that crashes there is a message here.

casacore and HDF5 read structures that tell them where to go on reading; damaged or hostile ones can crash them, fill the
memory or keep them busy for ever: of 500 MeasurementSets with one flipped bit in a table's head, 9 ended the process. The
look takes one process 0.15 s before the run goes on; stores whose seal proves them go without. What lies behind the tables,
terabytes of data, is read by the run itself.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from radps_mpi.errors import EXIT_DATA, DataError, RadpsError

MEMORY_BYTES = 4 << 30
"""Address space of the process that looks: libraries and their reservations are 1 to 2 GiB of it."""

CPU_S = 60
_OF_A_JOB = ("OMPI_", "PMIX_", "PMI_", "PRTE_")
"""Variables by which a child would take itself for a rank of the job."""

_SPOKEN = "radps preflight: "

_sound: set[tuple[str, int, int]] = set()
"""What this process has had looked at: a run asks before it plans and again before it reads."""


def look_at_store(path: str | os.PathLike[str]) -> None:
    """Open a visibility store that has no seal in a process of its own. For one process.

    Raises
    ------
    DataError
        If it can't be opened, or crashes the library.
    """
    from radps_mpi.io.seal import check_seal

    if Path(path).is_file() and not check_seal(Path(path)):
        _look("store", os.fspath(path))


def look_at_measurement_set(path: str | os.PathLike[str]) -> None:
    """Read the small tables of a MeasurementSet, and its first and last row, in a process of its own. For one process.

    Raises
    ------
    DataError
        If something can't be read, or crashes casacore.
    """
    _look("set", os.fspath(path))


def _look(kind: str, path: str) -> None:
    seen = _identity(kind, path)
    if seen in _sound:
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_JOB)}
    environment |= {"MPI4PY_RC_INITIALIZE": "false", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "radps_mpi.io.preflight", kind, path]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              timeout=3 * CPU_S)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path}: reading its tables doesn't come to an end; the file is damaged") from error
    except OSError:  # no second process to be had here: the run itself will see
        return
    if done.returncode == 0:
        if seen is not None:
            _sound.add(seen)
        return
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith(_SPOKEN)]
    if done.returncode == EXIT_DATA and said:
        raise DataError(said[-1].removeprefix(_SPOKEN))
    library = "HDF5" if kind == "store" else "casacore"
    raise DataError(f"{path}: reading its tables crashes {library} (status {done.returncode}); the file is damaged")


def _identity(kind: str, path: str) -> tuple[str, int, int] | None:
    """Of this very version of a file; None if there is none."""
    try:
        table = os.stat(os.path.join(path, "table.dat") if kind == "set" else path)
    except OSError:
        return None
    return os.path.realpath(path), table.st_ino, table.st_mtime_ns


def main(kind: str, path: str) -> int:
    """The process that looks: status 0, or 65 with one line on stderr, or a crash."""
    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        _lower(limit, value)
    try:
        _read_store(path) if kind == "store" else _read_set(path)
    except Exception as error:
        text = str(error) if isinstance(error, RadpsError) else f"{path}: can't be read: {type(error).__name__} {error}"
        sys.stderr.write(f"{_SPOKEN}{' '.join(text.split())}\n")
        return EXIT_DATA
    return 0


def _lower(limit: int, value: int) -> None:
    """Set a limit unless a site has set a lower one."""
    hard = resource.getrlimit(limit)[1]
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowered, lowered))


def _read_store(path: str) -> None:
    from radps_mpi.io.visibility_store import VisibilityStore

    VisibilityStore.open(path).close()


def _read_set(path: str) -> None:
    from radps_mpi.io.measurement_set import describe
    from radps_mpi.io.measurement_set_rows import MainTable

    nrow = describe(path).nrow
    with MainTable(path) as main_table:
        for row in {0, nrow - 1} if nrow else ():
            main_table.index(row, 1, with_uvw=True)
            for name in ("DATA", "CORRECTED_DATA", "FLAG", "FLAG_ROW", "WEIGHT", "WEIGHT_SPECTRUM"):
                main_table.cell_shape(name, row)


if __name__ == "__main__":
    sys.stderr.flush()
    os._exit(main(*sys.argv[1:3]))  # libraries that were given nonsense may crash when they clean up
