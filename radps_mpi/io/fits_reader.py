"""Reading image products, and masks and models in FITS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import DataError
from radps_mpi.io.durable import open_regular


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """Where the pixels of a FITS file's primary HDU are: ``offset`` and ``nbytes``, ``shape`` in numpy's order."""

    offset: int
    nbytes: int
    shape: tuple[int, ...]


def find_image(path: str | os.PathLike[str]) -> ImageBytes:
    """Locate the primary image of a plain (not compressed) FITS file without reading its pixels.

    Raises
    ------
    DataError
        If the file is missing, isn't FITS, holds no image, or is shorter than its header says.
    """
    from astropy.io import fits

    try:
        with open_regular(Path(path)) as file:
            header = fits.Header.fromfile(file, endcard=True)
            offset = file.tell()
            held = os.fstat(file.fileno()).st_size - offset
        shape = tuple(int(header[f"NAXIS{i}"]) for i in range(int(header["NAXIS"]), 0, -1))
        nbytes = abs(int(header["BITPIX"])) // 8
    except (OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{os.fspath(path)}: cannot be read as a FITS image ({error})") from error
    if header.get("SIMPLE") is not True or not shape or min(shape) < 1:
        raise DataError(f"{os.fspath(path)}: the primary HDU holds no image")
    for n in shape:
        nbytes *= n
    if nbytes > held:
        raise DataError(f"{os.fspath(path)}: ends {nbytes - held} bytes before its header says")
    return ImageBytes(offset, nbytes, shape)


def read_cube(
    path: str | os.PathLike[str], channels: Sequence[int] | None = None
) -> tuple[NDArray[np.float32], Any]:
    """The pixels (nchan, ny, nx) in native float32 and the primary header (``astropy.io.fits.Header``) of a FITS image.

    Takes images of 2 to 4 axes with one Stokes plane, plain or gzipped; two axes give one channel. With ``channels``
    only those planes are read.

    Raises
    ------
    DataError
        If the file is missing, isn't FITS, is shorter than its header says, or isn't such an image.
    """
    from astropy.io import fits

    if not _is_gzipped(Path(path)):
        find_image(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            header, section = hdus[0].header, hdus[0].section
            shape = _cube_shape(path, header)
            if channels is None or header["NAXIS"] == 2:
                cube = hdus[0].data.reshape(shape)
            else:
                lead = (0,) if header["NAXIS"] == 4 and header["NAXIS4"] == 1 else ()
                cube = np.stack([section[(*lead, chan)].reshape(shape[1:]) for chan in map(int, channels)])
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{os.fspath(path)}: cannot be read as a FITS image ({error})") from error
    return np.ascontiguousarray(cube, dtype=np.float32), header


def count_channels(path: str | os.PathLike[str]) -> int:
    """Number of planes that :func:`read_cube` would give; raises as it does."""
    from astropy.io import fits

    try:
        return _cube_shape(path, fits.getheader(path))[0]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{os.fspath(path)}: cannot be read as a FITS image ({error})") from error


def _is_gzipped(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _cube_shape(path: str | os.PathLike[str], header: Any) -> tuple[int, int, int]:
    naxis = int(header["NAXIS"])
    sizes = [int(header[f"NAXIS{i}"]) for i in range(1, naxis + 1)]
    if not 2 <= naxis <= 4:
        raise DataError(f"{os.fspath(path)}: {naxis} axes; an image has 2 to 4")
    for i, size in enumerate(sizes[2:], 3):
        if str(header.get(f"CTYPE{i}", "")).startswith("STOKES") and size != 1:
            raise DataError(f"{os.fspath(path)}: {size} Stokes planes; expected 1")
    if naxis == 4 and 1 not in sizes[2:]:
        raise DataError(f"{os.fspath(path)}: shape {sizes}; one of the axes beyond the sky must have length 1")
    nchan = 1
    for size in sizes[2:]:
        nchan *= size
    return nchan, sizes[1], sizes[0]
