"""Random numbers that belong to a channel and a row chunk: the same whoever draws them, in whichever order.

Philox is a counter-based generator (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): seed and
purpose are its key, channel and chunk the high words of its counter, which leaves 2^128 numbers to each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ARRAY, NOISE, FLAGS, NANS = range(4)
"""Purposes: streams that have nothing to do with each other."""


def generator(seed: int, purpose: int, channel: int, chunk: int) -> np.random.Generator:
    """The stream of one purpose for one channel of one row chunk."""
    key = np.array([seed, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, chunk, channel], np.uint64)))


def thermal_noise(seed: int, channel: int, chunk: int, shape: tuple[int, int], rms_jy: float) -> NDArray[np.complex64]:
    """(npol, nrow) complex64: real and imaginary part are independent and normal, each of ``rms_jy``."""
    npol, nrow = shape
    normal = generator(seed, NOISE, channel, chunk).standard_normal((npol, nrow, 2), dtype=np.float32)
    normal *= np.float32(rms_jy)
    return normal.view(np.complex64)[..., 0]


def chosen(seed: int, purpose: int, channel: int, chunk: int, shape: tuple[int, int], fraction: float) -> NDArray[np.bool_]:
    """(npol, nrow) bool: samples picked independently with probability ``fraction``; none is looked at where it is 0."""
    if fraction <= 0.0:
        return np.zeros(shape, dtype=bool)
    return np.asarray(generator(seed, purpose, channel, chunk).random(shape) < fraction)
