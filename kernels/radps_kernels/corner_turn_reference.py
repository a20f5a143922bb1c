"""The slow readable twins of :mod:`radps_kernels.corner_turn`: what its kernels are tested against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def turn_rows(
    vis: NDArray[np.complex64], flag: NDArray[np.bool_], weight: NDArray[np.float32], spectral: bool,
    blank_row: NDArray[np.bool_], blank_chan: NDArray[np.bool_], swapped: NDArray[np.bool_], partner: NDArray[np.int64],
    order: NDArray[np.int64], descending: bool,
) -> tuple[NDArray[np.complex64], NDArray[np.float32], list[int], NDArray[np.int64]]:
    """What the kernel writes, as (vis, weight, counts, good); the weight also where it isn't spectral, with one channel's
    for all."""
    channels = slice(None, None, -1) if descending else slice(None)

    def oriented(block: NDArray[Any]) -> NDArray[Any]:
        return np.where(swapped[:, None, None], block[:, channels][..., partner], block[:, channels])

    turned, flagged = oriented(vis), oriented(flag)
    turned = np.where(swapped[:, None, None], turned.conj(), turned)
    weights = oriented(weight) if spectral else np.broadcast_to(weight, vis.shape)
    blank, counts = np.zeros(vis.shape, dtype=bool), []
    for reason in (
        blank_row[:, None, None] | blank_chan[None, :, None],
        flagged,
        ~(np.isfinite(weights) & (weights >= 0)),
        weights == 0,
        ~np.isfinite(turned),
    ):
        counts.append(int(np.count_nonzero(reason & ~blank)))
        blank = blank | reason
    turned = np.where(blank, np.complex64(complex(np.nan, np.nan)), turned)[order]
    weights = np.where(blank, np.float32(0.0), weights)[order]
    channel_first = (1, 2, 0)
    return turned.transpose(channel_first), weights.transpose(channel_first), counts, (~blank).sum(axis=0)


def place_rows(lines: NDArray[Any], place: NDArray[np.int64], out: NDArray[Any]) -> NDArray[Any]:
    """``out`` with the lines' samples in their places."""
    result = out.copy()
    result[:, place] = lines
    return result
