"""Rows of a MeasurementSet's main table: index columns by segment, data of chosen rows by band of channels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import DataError
from radps_mpi.io.measurement_set_tables import first_line, open_table, read_cell, read_column

_INTEGER_COLUMNS = ("ANTENNA1", "ANTENNA2", "DATA_DESC_ID", "FIELD_ID", "OBSERVATION_ID", "SCAN_NUMBER", "STATE_ID")

_CASA_TYPE = {"F": "complex", "f": "float", "?": "boolean"}
"""numpy's type character -> casacore's name of the same bits."""


_MOST_SCATTERED = 2
"""Rows that are read ahead are at least one of so many."""


class MainTable:
    """The main table, open for reading by this process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._table = open_table(Path(path))
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._chosen: Any = None
        self._fetching: Thread | None = None

    def close(self) -> None:
        """Release the table."""
        self._chosen = None
        if self._fetching:
            self._fetching.join()
        self._table.close()

    def __enter__(self) -> MainTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def first_time_s(self) -> float:
        """TIME of the first row, 0 where there are no rows."""
        return float(read_column(self._table, "TIME", 0, 1)[0]) if self._table.nrows() else 0.0

    def index(self, start: int, nrow: int, *, with_uvw: bool) -> dict[str, NDArray[Any]]:
        """Columns that say what each of some consecutive rows is: (nrow,) int64 ids, TIME float64, and UVW (nrow,
        3)."""
        rows: dict[str, NDArray[Any]] = {
            name: np.asarray(read_column(self._table, name, start, nrow), dtype=np.int64) for name in _INTEGER_COLUMNS
        }
        rows["TIME"] = np.asarray(read_column(self._table, "TIME", start, nrow), dtype=np.float64)
        if with_uvw:
            rows["UVW"] = np.asarray(read_column(self._table, "UVW", start, nrow), dtype=np.float64).reshape(-1, 3)
        return rows

    def column(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """One column of chosen rows, (nrow, ...)."""
        if not len(rows):
            return np.empty(0)
        return np.asarray(read_column(self._choose(rows), name))

    def slab(self, name: str, rows: NDArray[np.int64], chan0: int, out: NDArray[Any]) -> None:
        """Channels from ``chan0`` on of a data column for chosen rows into ``out`` (nrow, nchan, npol), C-contiguous.

        casacore fills an array of the caller's several times as fast as one that it makes and that is then copied.

        Raises
        ------
        DataError
            If the column can't be read or has cells of another shape.
        """
        nchan, npol = out.shape[1:]
        first, last = [chan0, 0], [chan0 + nchan - 1, npol - 1]
        try:
            chosen = self._choose(rows)
            if self._table.coldatatype(name) == _CASA_TYPE[out.dtype.char]:
                chosen.getcolslicenp(name, out, first, last)
                return
            block = np.asarray(chosen.getcolslice(name, first, last))
        except RuntimeError as error:
            raise DataError(f"{self.path}: column {name} can't be read: {first_line(error)}") from error
        if block.shape != out.shape:
            raise DataError(f"{self.path}: column {name} has cells of another shape than {npol} correlations")
        out[...] = block

    def tile_channels(self, name: str) -> int:
        """Channels of one tile of a data column, in which it is read best; 1 where cells aren't stored in tiles."""
        cubes = self._table.getdminfo(name).get("SPEC", {}).get("HYPERCUBES", {}).values()
        return max((int(cube["TileShape"][1]) for cube in cubes if len(cube["TileShape"]) == 3), default=1)

    def read_ahead(self, names: Sequence[str], rows: NDArray[np.int64], most_bytes: int) -> None:
        """Have the operating system fetch the tiles of columns that the next rows are in, ``most_bytes`` of them; returns at
        once. Advice: where it can't be taken, or the rows are scattered, nothing happens.

        Tiles lie in the order of rows: rows take the share of the file that they have in the table.
        """
        span = int(rows.max()) + 1 - int(rows.min()) if len(rows) else 0
        if not 0 < span <= _MOST_SCATTERED * len(rows) or (self._fetching and self._fetching.is_alive()):
            return
        share = int(rows.min()) / self._table.nrows(), (int(rows.max()) + 1) / self._table.nrows()
        managers = {int(self._table.getdminfo(name)["SEQNR"]) for name in names}
        files = [path for number in managers for path in Path(self.path).glob(f"table.f{number}_TSM*")]
        # a thread, since the system makes one wait who asks for more than fits into the disk's queue
        self._fetching = Thread(target=_fetch, args=(files, share, most_bytes), name="radps-read-ahead", daemon=True)
        self._fetching.start()

    def cell_shape(self, name: str, row: int) -> tuple[int, ...] | None:
        """Shape of one cell, None where the column or the cell is missing."""
        if name not in self._table.colnames():
            return None
        cell = read_cell(self._table, name, row)
        return None if cell is None else tuple(np.shape(cell))

    def _choose(self, rows: NDArray[np.int64]) -> Any:
        """A view of some rows; the last one is kept, since all columns of a chunk are read one after the other."""
        if self._chosen is None or not np.array_equal(rows, self._rows):
            self._chosen = self._table.selectrows(rows.tolist())
            self._rows = rows.copy()
        return self._chosen


def _fetch(files: Sequence[Path], share: tuple[float, float], most_bytes: int) -> None:
    for path in files:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                start = int(share[0] * size)
                count = min(int(share[1] * size) - start, most_bytes)
                if count > 0:  # 0 would be all of the file
                    os.posix_fadvise(fd, start, count, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(fd)


def partner_correlations(corr_types: Sequence[str]) -> NDArray[np.int64] | None:
    """For each correlation the one that holds its conjugate when the antennas change places: XY and YX, RL and LR.

    None if a cross hand's partner isn't recorded: such rows can't be turned round.
    """
    turned = [name[::-1] for name in corr_types]
    if any(name not in corr_types for name in turned):
        return None
    return np.array([list(corr_types).index(name) for name in turned], dtype=np.int64)
