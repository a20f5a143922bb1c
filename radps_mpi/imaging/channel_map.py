"""Which native channels make up an image channel, per integration.

An observation's channels drift through the output frame as the Earth moves, so all tables here have an axis of integrations.
Frequencies of native channels stay in the frame that the data declare; image channels are brought there by division with the
integration's Doppler factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.axis import SpectralAxis
from radps_mpi.imaging.spectral_axis import NativeChannels

_ALIGNED = 1e-6
"""An image channel this close to a native one (in channels) takes it alone: interpolation would only spread its flags."""

_SAME_WIDTH = 1e-3
"""Image channels wider than native ones by less than this fraction are interpolated, not binned."""


@dataclass(frozen=True, slots=True)
class InterpolationPass:
    """One visibility per row and lane from one or two native channels.

    All arrays (ntime, nlane). ``lower`` is the index of the lower native channel, -1 where there is none; the visibility is
    ``(1 - fraction) * V[lower] + fraction * V[lower + 1]``, its weight that of channel ``nearest`` times
    ``share``. ``cell_hz`` is the frequency at which its weighting cell is looked up: the nearest native channel's, in LSRK
    whatever the output frame (as tclean, which keeps cubes in LSRK internally). Gridded at ``freq_hz`` (nlane,) times
    ``row_scale`` (ntime,).
    """

    lower: NDArray[np.int32]
    fraction: NDArray[np.float32]
    nearest: NDArray[np.int32]
    share: NDArray[np.float32]
    cell_hz: NDArray[np.float64]
    freq_hz: NDArray[np.float64]
    row_scale: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DensityPass:
    """Native channels that count in an image channel's weight density: index (ntime, nlane), -1 for none, ``share`` of its
    weight, and the frequency of its cell."""

    channel: NDArray[np.int32]
    share: NDArray[np.float32]
    cell_hz: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChannelMap:
    """All passes of one observation onto one block of image channels, and the native range ``[first, stop)`` they need."""

    passes: tuple[InterpolationPass, ...]
    density: tuple[DensityPass, ...]
    first: int
    stop: int

    @property
    def is_empty(self) -> bool:
        """True where the observation has nothing for the block."""
        return self.stop <= self.first


def width_ratio(axis: SpectralAxis, native: NativeChannels) -> float:
    """Width of the image channels in native channels, in the output frame, at the first integration."""
    return float(np.median(axis.width_hz) / (np.median(native.width_hz) * native.factor[0]))


def map_channels(
    axis: SpectralAxis, start: int, stop: int, native: NativeChannels, *, ratio: float, interpolation: str, binning: str
) -> ChannelMap:
    """Map the image channels ``start <= c < stop`` onto an observation. Nothing longer is made than what it reaches.

    Parameters
    ----------
    ratio : of the widths, by :func:`width_ratio`: once for all blocks, since it looks at whole axes.
    interpolation : "linear" or "nearest", for image channels about as wide as native ones or narrower.
    binning : "overlap": every native channel counts by the fraction of it that the image channel covers, gridded at its own
        frequency. "tclean": floor(width ratio) sub-channels, each interpolated at its own centre.
    """
    centre, width = axis.freq_hz[start:stop], axis.width_hz[start:stop]
    if binning == "overlap" and ratio > 1.0 + _SAME_WIDTH:
        passes = _overlap_passes(centre, width, native)
        density = tuple(DensityPass(p.nearest, p.share, p.cell_hz) for p in passes)
    else:
        nsub = max(1, int(np.floor(ratio)))
        offsets = ((np.arange(nsub) + 0.5) / nsub - 0.5)[:, None] * width
        passes = tuple(_interpolation_pass(centre + offset, native, interpolation) for offset in offsets)
        density = _nearest_density(axis, start, stop, native)
    return _with_range(passes, density)


def _with_range(passes: tuple[InterpolationPass, ...], density: tuple[DensityPass, ...]) -> ChannelMap:
    used = [p.lower[p.lower >= 0] for p in passes]
    used += [(p.lower + (p.fraction > 0))[p.lower >= 0] for p in passes]
    used += [p.nearest[p.lower >= 0] for p in passes] + [d.channel[d.channel >= 0] for d in density]
    indices = np.concatenate(used) if used else np.empty(0, np.int32)
    if indices.size == 0:
        return ChannelMap((), (), 0, 0)
    return ChannelMap(passes, density, int(indices.min()), int(indices.max()) + 1)


def _interpolation_pass(target_hz: NDArray[np.float64], native: NativeChannels, interpolation: str) -> InterpolationPass:
    freq = native.freq_hz
    at = target_hz[None, :] / native.factor[:, None]
    position = _fractional_channel(freq, native.width_hz, at)
    nearest = np.clip(np.rint(position), 0, len(freq) - 1).astype(np.int32)
    if interpolation == "nearest" or len(freq) == 1:  # one channel has no neighbour to interpolate with
        present = np.abs(position - nearest) <= 0.5 + _ALIGNED
        lower, fraction = np.where(present, nearest, -1), np.zeros(at.shape)
    else:
        snapped = np.abs(position - nearest) <= _ALIGNED
        lower = np.where(snapped, nearest, np.floor(position).astype(np.int32))
        fraction = np.where(snapped, 0.0, position - lower)
        present = snapped | ((position > 0) & (position < len(freq) - 1))
        lower = np.where(present, lower, -1)
        fraction = np.where(present, fraction, 0.0)
    return InterpolationPass(
        lower.astype(np.int32),
        fraction.astype(np.float32),
        nearest,
        np.ones(at.shape, np.float32),
        freq[nearest] * native.lsrk_factor[:, None],
        target_hz.copy(),
        np.ones(len(native.factor)),
    )


def _fractional_channel(
    freq: NDArray[np.float64], width: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Channel number of each frequency, extended beyond the ends by the end channels' width."""
    j0, j1 = max(0, int(np.searchsorted(freq, at.min())) - 1), int(np.searchsorted(freq, at.max(), side="right")) + 1
    inside = np.interp(at, freq[j0:j1], np.arange(j0, min(j1, len(freq))))
    below, above = (at - freq[0]) / width[0], len(freq) - 1 + (at - freq[-1]) / width[-1]
    return np.where(at < freq[0], below, np.where(at > freq[-1], above, inside))


def _overlap_passes(
    centre: NDArray[np.float64], width: NDArray[np.float64], native: NativeChannels
) -> tuple[InterpolationPass, ...]:
    freq = native.freq_hz
    low = (centre - 0.5 * width)[None, :] / native.factor[:, None]
    high = (centre + 0.5 * width)[None, :] / native.factor[:, None]
    j0, j1 = _reaching_into(native, float(low.min()), float(high.max()))
    near, half = freq[j0:j1], 0.5 * native.width_hz[j0:j1]
    # From the first native channel whose upper edge lies above `low` to the last whose lower edge lies below `high`. Edges may
    # not ascend where widths differ: what is found mustn't depend on where the window, and so the block, begins and ends.
    first = j0 + np.searchsorted(np.maximum.accumulate(near + half), low, side="right")
    stop = j0 + np.searchsorted(np.minimum.accumulate((near - half)[::-1])[::-1], high, side="left")
    base = first.min(axis=0)
    depth = int((stop.max(axis=0) - base).max(initial=0))
    passes = []
    for sub in range(depth):
        channel = base + sub
        exists = channel < len(freq)
        index = np.where(exists, channel, 0)
        half = 0.5 * native.width_hz[index]
        covered = np.minimum(high, freq[index] + half) - np.maximum(low, freq[index] - half)
        share = np.clip(covered / native.width_hz[index], 0.0, 1.0)
        share = np.where(exists & (share > _ALIGNED), share, 0.0)
        chosen = np.where(share > 0, index[None, :], -1).astype(np.int32)
        passes.append(
            InterpolationPass(
                chosen,
                np.zeros(share.shape, np.float32),
                np.where(chosen >= 0, chosen, 0).astype(np.int32),
                share.astype(np.float32),
                freq[index] * native.lsrk_factor[:, None],
                freq[index],
                native.factor.copy(),
            )
        )
    return tuple(passes)


def _nearest_density(axis: SpectralAxis, start: int, stop: int, native: NativeChannels) -> tuple[DensityPass, ...]:
    """Native channels whose nearest image channel is c, and the native channel nearest to c, in c's own cells.

    The first is tclean's rule; the second keeps image channels narrower than native ones from having no density at all. The
    choice is made at the first integration and kept: a density that changed sides half way through an observation would weight
    one half of its tracks against the other.
    """
    freq, factor = native.freq_hz, native.factor[0]
    sign = -1.0 if axis.nchan > 1 and axis.freq_hz[-1] < axis.freq_hz[0] else 1.0
    j0, j1 = _native_window(axis, start, stop, native)
    # A native channel beyond these two is nearest to one of them, or to none, which becomes c0 - 1: neither is asked for.
    c0, c1 = max(0, start - 1), stop + 1
    owner = c0 + _nearest_index(sign * axis.freq_hz[c0:c1], axis.width_hz[c0:c1], sign * freq[j0:j1] * factor)
    nearest = np.rint(_fractional_channel(freq, native.width_hz, axis.freq_hz[start:stop] / factor)).astype(np.int64)
    candidates = [
        np.union1d(j0 + np.flatnonzero(owner == c), [j] if 0 <= j < len(freq) else []).astype(np.int32)
        for c, j in zip(range(start, stop), nearest, strict=True)
    ]
    to_lsrk = native.lsrk_factor / native.factor
    cell_hz = axis.freq_hz[start:stop] * to_lsrk[:, None]
    passes = []
    for sub in range(max((len(c) for c in candidates), default=0)):
        chosen = np.array([c[sub] if sub < len(c) else -1 for c in candidates], np.int32)
        channel = np.broadcast_to(chosen, cell_hz.shape).copy()
        passes.append(DensityPass(channel, (channel >= 0).astype(np.float32), cell_hz))
    return tuple(passes)


def _native_window(axis: SpectralAxis, start: int, stop: int, native: NativeChannels) -> tuple[int, int]:
    """Native channels that can lie in the block at some integration: keeps tables small whatever the cube's length."""
    freq, width = axis.freq_hz[start:stop], axis.width_hz[start:stop]
    low = float((freq - width).min() / native.factor.max())
    high = float((freq + width).max() / native.factor.min())
    j0, j1 = np.searchsorted(native.freq_hz, [low, high])
    return int(j0), int(max(j1, j0))


def _reaching_into(native: NativeChannels, low_hz: float, high_hz: float) -> tuple[int, int]:
    """Native channels any part of which can lie between two frequencies, and one more at either end against rounding."""
    half = 0.5 * float(native.width_hz.max())
    j0, j1 = np.searchsorted(native.freq_hz, [low_hz - half, high_hz + half])
    return max(0, int(j0) - 1), int(j1) + 1


def _nearest_index(
    ascending: NDArray[np.float64], width: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Index of the nearest entry of an ascending axis, -1 beyond half a channel of its ends."""
    right = np.clip(np.searchsorted(ascending, at), 1, max(len(ascending) - 1, 1))
    if len(ascending) == 1:
        index = np.zeros(at.shape, np.int64)
    else:
        index = np.where(at - ascending[right - 1] <= ascending[right] - at, right - 1, right).astype(np.int64)
    inside = np.abs(at - ascending[index]) <= 0.5 * width[index] * (1 + _ALIGNED)
    return np.where(inside, index, -1)
