"""Opening casacore tables that may come from anywhere.

casacore opens a shared library named after each data manager that a table declares and that it doesn't know. So the
declaration in ``table.dat`` is read first, without casacore, and only the data managers of MeasurementSets are let
through.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from radps_mpi.errors import DataError

DATA_MANAGERS = frozenset(
    {
        "StandardStMan",
        "IncrementalStMan",
        "StManAipsIO",
        "TiledShapeStMan",
        "TiledColumnStMan",
        "TiledCellStMan",
        "TiledDataStMan",
    }
)
"""Built into casacore, and used by the MeasurementSets of every observatory."""

_MAGIC = b"\xbe\xbe\xbe\xbe"
_LARGEST_TABLE_DAT = 1 << 28


class _AipsIO:
    """Cursor over the canonical (big-endian) format of casacore's AipsIO class."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def _take(self, nbytes: int) -> bytes:
        if nbytes < 0 or self.at + nbytes > len(self.data):
            raise ValueError("it ends too early")
        piece = self.data[self.at : self.at + nbytes]
        self.at += nbytes
        return piece

    def number(self, code: str = "I") -> int:
        return int(struct.unpack(">" + code, self._take(struct.calcsize(code)))[0])

    def text(self) -> str:
        return self._take(self.number()).decode("latin-1")

    def skip_object(self) -> None:
        """Objects start with their length, which counts itself; casacore insists that it is right."""
        length = self.number()
        self._take(length - 4)


def declared_data_managers(table_dat: bytes) -> list[str]:
    """The data managers that casacore would load for a table, from the bytes of its ``table.dat``.

    Raises
    ------
    ValueError
        If this is not the description of a plain table; the message completes "table.dat can't be read: ...".
    """
    if table_dat[:4] != _MAGIC:
        raise ValueError("it doesn't start as a casacore table does")
    stream = _AipsIO(table_dat)
    stream.at = 8  # magic and length
    if stream.text() != "Table":
        raise ValueError("it isn't the description of a table")
    version = stream.number()
    if version not in (2, 3):
        raise ValueError(f"version {version} of the table format is unknown")
    stream.number("I" if version == 2 else "Q")  # rows
    stream.number()  # byte order
    kind = stream.text()
    if kind != "PlainTable":
        raise ValueError(f"it is a {kind} (a view of other tables); make a deep copy of it first")
    stream.skip_object()
    return _column_set(stream)


def _column_set(stream: _AipsIO) -> list[str]:
    version = -stream.number("i")
    if version not in (2, 3):
        raise ValueError(f"version {version} of the column set is unknown")
    stream.number("I" if version == 2 else "Q")  # rows
    if version == 3:
        stream.number("i")  # storage option
        stream.number("i")  # its block size
    stream.number()  # sequence count
    managers = []
    for _ in range(stream.number()):
        managers.append(stream.text())
        stream.number()  # sequence number
    return managers


def refuse_unsafe_table(path: Path) -> None:
    """Raise DataError unless ``path`` is a plain casacore table whose data managers are all known to be harmless."""
    description = path / "table.dat"
    if not path.exists():
        raise DataError(f"{path}: no such MeasurementSet or table")
    if not description.is_file():
        raise DataError(f"{path}: not a casacore table (it has no file table.dat)")
    if description.stat().st_size > _LARGEST_TABLE_DAT:
        raise DataError(f"{description}: too large for a table's description")
    _refuse_pipes_and_devices(path)
    try:
        managers = declared_data_managers(description.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: table.dat can't be read: {error}") from error
    for manager in managers:
        if manager == "DyscoStMan":
            raise DataError(f"{path}: its data are Dysco-compressed, which is not supported; decompress it first")
        if manager not in DATA_MANAGERS:
            raise DataError(f"{path}: data manager {manager!r} is not one that MeasurementSets need; refused")


def _refuse_pipes_and_devices(path: Path) -> None:
    """casacore would wait for somebody to write into the one, and never come to the end of the other."""
    for entry in path.iterdir():
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise DataError(f"{entry}: is neither a file nor a folder; refused")


def open_table(path: Path) -> Any:
    """A ``casacore.tables.table``, read-only and without locks, after :func:`refuse_unsafe_table`.

    Raises
    ------
    DataError
        If the table is missing, unsafe or broken.
    """
    refuse_unsafe_table(path)
    from casacore.tables import table

    try:
        return table(str(path), ack=False, lockoptions="usernoread")
    except RuntimeError as error:
        raise DataError(f"{path}: can't be opened: {first_line(error)}") from error


def read_column(table: Any, name: str, start: int = 0, nrow: int = -1) -> Any:
    """Rows of one column (numpy array, or list of strings), or a DataError that names table and column."""
    if name not in table.colnames():
        raise DataError(f"{table.name()}: column {name} is missing")
    if table.nrows() == 0:
        return []
    try:
        return table.getcol(name, start, nrow)
    except RuntimeError as error:
        raise DataError(f"{table.name()}: column {name} can't be read: {first_line(error)}") from error


def read_cell(table: Any, name: str, row: int) -> Any:
    """One cell, None where it is undefined, or a DataError that names table and column."""
    if name not in table.colnames():
        raise DataError(f"{table.name()}: column {name} is missing")
    try:
        return table.getcell(name, row) if table.iscelldefined(name, row) else None
    except RuntimeError as error:
        raise DataError(f"{table.name()}: column {name}, row {row} can't be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an exception's text, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
