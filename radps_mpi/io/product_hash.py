"""One hash per product, to compare runs by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import xxhash

from radps_mpi.errors import DataError
from radps_mpi.io.fits_reader import find_image

_PIECE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class ProductHash:
    """``digest``: xxh3-128 in hexadecimal of the pixel bytes as they are on disc; ``shape`` in numpy's order."""

    name: str
    shape: tuple[int, ...]
    digest: str

    @property
    def line(self) -> str:
        """``digest  shape  name``, two spaces apart, the shape as 1x46x256x256."""
        return f"{self.digest}  {'x'.join(map(str, self.shape))}  {self.name}"


def hash_product(path: str | os.PathLike[str]) -> ProductHash:
    """Hash the pixels of a FITS image's primary HDU, reading 16 MiB at a time.

    Header, history and beams don't enter: two runs that differ only in where their data lay agree.

    Raises
    ------
    DataError
        If the file is missing, isn't plain FITS, or is shorter than its header says.
    """
    image = find_image(path)
    digest, left = xxhash.xxh3_128(), image.nbytes
    with open(path, "rb") as file:
        file.seek(image.offset)
        while left:
            piece = file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise DataError(f"{os.fspath(path)}: became shorter while it was read")
            digest.update(piece)
            left -= len(piece)
    return ProductHash(Path(path).name, image.shape, digest.hexdigest())
