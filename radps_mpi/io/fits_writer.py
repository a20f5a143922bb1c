"""A FITS cube written by all ranks at once: planes at computed offsets, one header, no concatenation step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radps_kernels.fits_words import swap_words

from radps_mpi import faults
from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.beam import Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import OutOfTimeError, StorageError
from radps_mpi.io.durable import WriteBehind, fsync_directory, naming, reserve, write_at
from radps_mpi.io.fits_beams import beams_table, beams_table_bytes
from radps_mpi.io.fits_cards import BLOCK_BYTES, fold, padded, with_checksums
from radps_mpi.io.fits_header import CubeHeader, ProductMetadata
from radps_mpi.parallel import all_or_none, merge_disjoint, on_root, total
from radps_mpi.parallel.types import Comm

_DISK = np.dtype(">f4")
_HEADER_ALLOWANCE_BYTES = 16 * BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class WrittenPlanes:
    """Which planes of a partial file are on the disk: ``written`` (nchan,) bool, and ``sums`` (nchan,) int64, their words'
    sums, 0 where nothing is written."""

    written: NDArray[np.bool_]
    sums: NDArray[np.int64]

    @classmethod
    def none(cls, nchan: int) -> WrittenPlanes:
        """Nothing is."""
        return cls(np.zeros(nchan, np.bool_), np.zeros(nchan, np.int64))


class FitsCubeWriter:
    """Writes ``path``, a 4-D float32 FITS image (STOKES, FREQ or VOPT, DEC, RA), and a BEAMS table for a list of beams.

    Opening and leaving are collective over ``comm``; :meth:`write_plane` is independent, and a collective call in the body of
    the ``with`` must make one rank's failure everyone's. Everything goes to ``path`` + ".partial", which replaces ``path``
    when all ranks are done. If any rank fails, all ranks raise, the partial file is removed and an earlier product stays as
    it was; a body that ends by OutOfTimeError leaves it, and another job goes on with what it was given as ``kept``. Channels
    that nobody wrote are blank: NaN. The bytes depend on neither the number of ranks or jobs nor the clock. Unit, metadata,
    beams and history are those that rank 0 gives.

    Raises
    ------
    DataError
        If a header can't describe the axes.
    StorageError
        If the file system refuses; names the file and the bytes needed.
    """

    def __init__(
        self,
        comm: Comm,
        path: str | os.PathLike[str],
        geometry: ImageGeometry,
        axis: SpectralAxis,
        *,
        bunit: str,
        btype: str = "Intensity",
        metadata: ProductMetadata | None = None,
        beams: Beam | Sequence[Beam] | None = None,
        history: Iterable[str] = (),
        kept: WrittenPlanes | None = None,
    ) -> None:
        self._comm = comm
        self.path = Path(path)
        self._partial = partial_path_of(path)
        self._shape = geometry.shape
        self._plane_bytes = geometry.ny * geometry.nx * _DISK.itemsize
        self._sums = np.zeros(axis.nchan, np.int64)
        self._written = np.zeros(axis.nchan, np.bool_)
        self._before = WrittenPlanes.none(axis.nchan)
        self._fd = -1
        self._behind = WriteBehind()
        self._cards: list[str] = []
        self._beams: Sequence[Beam] = ()
        header = CubeHeader(geometry, axis, bunit, btype, metadata or ProductMetadata(), beams, tuple(history))
        self._data_start: int = on_root(comm, f"describing {self.path.name}", lambda: self._describe(header))
        try:
            goes_on = on_root(comm, f"creating {self._partial}", lambda: self._create(kept is not None))
            if kept is not None and goes_on:
                self._before = kept
            with all_or_none(comm, f"opening {self._partial}"):
                if comm.rank > 0:
                    self._fd = self._open(os.O_RDWR)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> FitsCubeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd < 0:
            return
        if isinstance(error, OutOfTimeError):
            self._close_file()
            return
        if error is not None and not isinstance(error, Exception):
            self._discard()
            return
        try:
            with all_or_none(self._comm, f"writing {self.path.name}"):
                if error is not None:
                    raise error
            self._finish()
        except BaseException:
            self._discard()
            raise

    def close(self) -> None:
        """Finish the file and put it in place; collective. Leaving the ``with`` block does it."""
        self.__exit__(None, None, None)

    def write_plane(self, chan: int, plane: NDArray[Any]) -> None:
        """Write channel ``chan``: ``plane`` (ny, nx), any real dtype, stored as float32 with one bit pattern for NaN.

        Each channel belongs to one rank; writing it again replaces it.
        """
        nchan = len(self._sums)
        if plane.shape != self._shape or not 0 <= chan < nchan:
            raise ValueError(f"channel {chan}, plane {plane.shape}: there are {nchan} channels of {self._shape}")
        pixels = np.ascontiguousarray(plane, np.float32).reshape(-1)
        words = np.empty(pixels.size, np.uint32)
        word_total = swap_words(pixels.view(np.uint32), words)
        data = words.view(np.uint8).data
        with naming(self._partial, f"writing channel {chan}", self._plane_bytes):
            faults.reach("product-before-write")
            write_at(self._fd, data, self._data_start + chan * self._plane_bytes)
            self._behind.wrote(self._fd, self._plane_bytes)
        self._sums[chan] = fold(word_total)
        self._written[chan] = True

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(nchan,) planes that an earlier job wrote: they needn't be written again."""
        return self._before.written

    def sync(self) -> WrittenPlanes:
        """Wait until everything written so far is on the disk; what that is, on all ranks. Collective."""
        with all_or_none(self._comm, f"writing {self.path.name}"):
            self._flush()
        written, sums = self._planes_of_all()
        return WrittenPlanes(written | self._before.written, np.where(written, sums, self._before.sums))

    def _planes_of_all(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(nchan,) planes written by this job, and their sums."""
        mine = self._written
        return merge_disjoint(self._comm, mine, mine), merge_disjoint(self._comm, self._sums, mine)

    def _flush(self) -> None:
        if self._written.any():
            with naming(self._partial, "waiting for the disk"):
                os.fsync(self._fd)

    def _describe(self, header: CubeHeader) -> int:
        self._cards, self._beams = header.cards(), header.beam_list
        return len(with_checksums(self._cards, 0))

    def _create(self, go_on: bool) -> bool:
        """Make the partial file, or find that of an earlier job; True if there is one to go on with."""
        if self.path.is_dir():
            raise StorageError(f"{self.path}: is a directory, so no product can be written there")
        if go_on and self._partial.exists():
            self._fd = self._open(os.O_RDWR)
            if os.fstat(self._fd).st_size == self._nbytes():
                return True
            raise StorageError(f"{self._partial}: has another size than it had; resume the run to have it made again")
        self._fd = self._open(os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        with naming(self._partial, "making it", self._nbytes()):
            os.ftruncate(self._fd, self._nbytes())
        reserve(self._fd, self._nbytes(), self._partial)
        return False

    def _open(self, flags: int) -> int:
        with naming(self._partial, "opening it"):
            return os.open(self._partial, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def _nbytes(self) -> int:
        table = beams_table_bytes(len(self._beams)) if self._beams else 0
        return self._data_start + padded(len(self._sums) * self._plane_bytes) + table

    def _finish(self) -> None:
        """Blank channels, then data on disc everywhere, then header and table, then the name."""
        comm = self._comm
        done = merge_disjoint(comm, self._written, self._written)
        if total(comm, int(self._written.sum())) != int(done.sum()):
            raise RuntimeError(f"{self.path}: several ranks wrote the same channel")
        with all_or_none(comm, f"writing {self.path.name}"):
            blank = np.full(self._shape, np.nan, np.float32)
            for chan in np.flatnonzero(~(done | self._before.written))[comm.rank :: comm.size]:
                self.write_plane(int(chan), blank)
            self._flush()
        datasum = fold(total(comm, int(self._sums.sum())) + int(self._before.sums[~done].sum()))
        on_root(comm, f"finishing {self.path}", lambda: self._publish(datasum))
        self._close_file()

    def _publish(self, datasum: int) -> None:
        with naming(self.path, "putting it in place"):
            write_at(self._fd, with_checksums(self._cards, datasum), 0)
            if self._beams:
                table = beams_table(self._beams)
                write_at(self._fd, table, self._nbytes() - len(table))
            os.fsync(self._fd)
            faults.reach("product-before-rename")
            os.replace(self._partial, self.path)
            faults.reach("product-after-rename")
            fsync_directory(self.path.parent)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _discard(self) -> None:
        mine = self._fd >= 0 and self._comm.rank == 0
        self._close_file()
        if mine:
            with suppress(OSError):  # a file system that refuses it has refused something before, which is what must be told
                self._partial.unlink()


def partial_path_of(path: str | os.PathLike[str]) -> Path:
    """Where a product is written until it is whole."""
    return Path(f"{os.fspath(path)}.partial")


def footprint_bytes(products: Iterable[str], nchan: int, ny: int, nx: int) -> int:
    """Disc space of ``products`` (names such as "image"; "sumwt" has one pixel per channel), with room for headers.

    Counts a BEAMS table for every product, and 45 kB of header each: an upper bound for histories of up to 500 cards.
    """
    pixels = {"sumwt": 1}
    return sum(_HEADER_ALLOWANCE_BYTES + padded(nchan * pixels.get(name, ny * nx) * _DISK.itemsize)
               + beams_table_bytes(nchan) for name in products)
