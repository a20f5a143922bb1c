"""Pixels on their way into a FITS file: byte order, one bit pattern for NaN, and the checksum's sum, in one pass."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from radps_kernels.options import JIT

_INFINITY = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_NAN = np.uint32(0x7FC00000)


@numba.jit(**JIT)
def swap_words(words: NDArray[np.uint32], out: NDArray[np.uint32]) -> int:
    """Float32 pixels, given by their bits, as a big-endian file holds them; returns the sum of what is written.

    Parameters
    ----------
    words : (n,) uint32, bits of little-endian float32 values.
    out : (n,) uint32, the named output: each word with its bytes reversed, every NaN as 0x7FC00000.

    Returns
    -------
    Sum of the words as a reader of the file sees them, before any carry (FITS standard 4.0, appendix J): exact for up to 2^32
    pixels.
    """
    total = np.uint64(0)
    for i in range(words.size):
        word = words[i]
        if (word & _MAGNITUDE) > _INFINITY:
            word = _NAN
        total += np.uint64(word)
        out[i] = (
            (word << np.uint32(24)) | ((word & np.uint32(0xFF00)) << np.uint32(8))
            | ((word >> np.uint32(8)) & np.uint32(0xFF00)) | (word >> np.uint32(24))
        )  # fmt: skip
    return int(total)
