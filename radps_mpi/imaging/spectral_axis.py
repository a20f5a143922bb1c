"""The cube's channels: from what the user asked for and what the observations cover, to frequencies in the output frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.axis import AxisKind, SpectralAxis
from radps_mpi.errors import UsageError

_ALIGNED = 1e-6
"""Distance from a native channel centre, in channels, that counts as being on it."""


@dataclass(frozen=True, slots=True)
class NativeChannels:
    """The channels of one observation and how its frame moves against the output frame.

    ``freq_hz``, ascending, and ``width_hz`` (nchan,), in the frame that the data declare; ``factor`` (ntime,) multiplies them
    into the output frame, per integration, and ``lsrk_factor`` (ntime,) into LSRK. ``descending`` says that the MeasurementSet
    numbers its channels from the top.
    ``source`` counts the inputs: spectral windows of one MeasurementSet share it.
    """

    freq_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    factor: NDArray[np.float64]
    lsrk_factor: NDArray[np.float64]
    source: int = 0
    descending: bool = False

    def covered_hz(self) -> tuple[float, float]:
        """Lowest and highest channel centre that every integration has, in the output frame."""
        return float(self.freq_hz[0] * self.factor.max()), float(self.freq_hz[-1] * self.factor.min())

    def touched_hz(self) -> tuple[float, float]:
        """Lowest and highest channel centre that some integration has, in the output frame."""
        return float(self.freq_hz[0] * self.factor.min()), float(self.freq_hz[-1] * self.factor.max())


@dataclass(frozen=True, slots=True)
class AxisRequest:
    """What the user said. Each of start and width is a channel number, a frequency in Hz, a velocity in m/s, or absent."""

    nchan: int = -1
    start_channel: int | None = None
    start_hz: float | None = None
    start_m_s: float | None = None
    width_channels: int | None = None
    width_hz: float | None = None
    width_m_s: float | None = None
    velocity: AxisKind = "radio"
    frame: str = "LSRK"
    restfreq_hz: float = 0.0
    coverage: str = "intersection"


def build_axis(request: AxisRequest, natives: Sequence[NativeChannels]) -> SpectralAxis:
    """Make the cube's spectral axis.

    The native grid is that of the first observation at its first integration, converted to the output frame; channel numbers
    count along it as the MeasurementSet numbers them, but the axis made from numbers ascends in frequency. Without a start
    the axis covers what all inputs cover (``coverage="intersection"``) or any input covers (``"union"``). A requested axis
    is never moved or cut to the data.

    Raises
    ------
    UsageError
        If start and width are of different kinds, a velocity axis lacks a rest frequency, or nothing is covered.
    """
    if request.start_m_s is not None or request.width_m_s is not None:
        return _velocity_axis(request, natives)
    if request.start_hz is not None or request.width_hz is not None:
        return _frequency_axis(request, natives)
    return _channel_axis(request, natives)


def _grid(native: NativeChannels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return native.freq_hz * native.factor[0], native.width_hz * native.factor[0]


def coverage_hz(natives: Sequence[NativeChannels], coverage: str) -> tuple[float, float]:
    """Channel centres covered by all inputs, or by any, Hz in the output frame."""
    ranges: dict[int, list[float]] = {}
    for native in natives:
        low, high = native.covered_hz() if coverage == "intersection" else native.touched_hz()
        have = ranges.setdefault(native.source, [low, high])
        have[0], have[1] = min(have[0], low), max(have[1], high)
    lows, highs = [r[0] for r in ranges.values()], [r[1] for r in ranges.values()]
    if coverage == "intersection":
        return max(lows), min(highs)
    return min(lows), max(highs)


def _channel_axis(request: AxisRequest, natives: Sequence[NativeChannels]) -> SpectralAxis:
    freq, width = _grid(natives[0])
    every = request.width_channels if request.width_channels is not None else 1
    if every == 0:
        raise UsageError("width: 0 channels; a cube channel needs at least one native channel")
    step = abs(every)
    if request.start_channel is None:
        first, last = _covered_channels(request, natives, freq, width)
        count = (last - first + 1) // step if request.nchan < 0 else request.nchan
        lowest = first
    else:
        count = (len(freq) - request.start_channel) // step if request.nchan < 0 else request.nchan
        start = request.start_channel
        lowest = len(freq) - start - count * step if natives[0].descending else start
    if count < 1:
        named = "start and nchan" if step == 1 else f"start, nchan and a width of {step} channels"
        raise UsageError(f"{named} leave no channel: the first input has {len(freq)} channels")
    centres = _native_at(freq, width, lowest + step * np.arange(count, dtype=np.float64) + 0.5 * (step - 1))
    widths = step * np.interp(centres, freq, width)
    if every < 0:
        centres, widths = centres[::-1].copy(), widths[::-1].copy()
    return SpectralAxis(centres, widths, request.frame, request.restfreq_hz, "frequency")


def _covered_channels(
    request: AxisRequest, natives: Sequence[NativeChannels], freq: NDArray[np.float64], width: NDArray[np.float64]
) -> tuple[int, int]:
    low, high = coverage_hz(natives, request.coverage)
    if high < low and len({n.source for n in natives}) == 1:
        low, high = float(freq[0]), float(freq[-1])  # the Earth moved by more than one input covers: its first integration's
    if high < low:
        raise UsageError("the inputs have no frequency in common: choose a start, or coverage = 'union'")
    first = int(np.ceil(_channel_at(freq, width, low) - _ALIGNED))
    last = int(np.floor(_channel_at(freq, width, high) + _ALIGNED))
    if last < first:
        raise UsageError("no native channel lies within what all inputs cover: choose a start, or coverage = 'union'")
    return first, last


def _channel_at(freq: NDArray[np.float64], width: NDArray[np.float64], at_hz: float) -> float:
    """Fractional channel number of a frequency on a native grid, extended beyond its ends by the end channels' width."""
    if at_hz < freq[0]:
        return float((at_hz - freq[0]) / width[0])
    if at_hz > freq[-1]:
        return float(len(freq) - 1 + (at_hz - freq[-1]) / width[-1])
    return float(np.interp(at_hz, freq, np.arange(len(freq))))


def _native_at(
    freq: NDArray[np.float64], width: NDArray[np.float64], channel: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Inverse of :func:`_channel_at`."""
    inside = np.interp(channel, np.arange(len(freq)), freq)
    below = freq[0] + channel * width[0]
    above = freq[-1] + (channel - (len(freq) - 1)) * width[-1]
    return np.where(channel < 0, below, np.where(channel > len(freq) - 1, above, inside))


def _frequency_axis(request: AxisRequest, natives: Sequence[NativeChannels]) -> SpectralAxis:
    freq, width = _grid(natives[0])
    if request.width_hz is not None:
        step_hz = request.width_hz
    else:
        step_hz = float(np.median(width)) * (request.width_channels if request.width_channels is not None else 1)
    if step_hz == 0.0:
        raise UsageError("width: 0 Hz; a channel needs a width")
    low, high = coverage_hz(natives, request.coverage)
    start_hz = request.start_hz
    if start_hz is None:
        if request.start_channel is not None:
            start_hz = float(_native_at(freq, width, np.array([float(request.start_channel)]))[0])
        else:
            start_hz = _first_centre(low, high, step_hz, float(np.median(width)))
    return _regular(request, start_hz, step_hz, low, high, "frequency")


def _first_centre(low: float, high: float, step: float, native: float) -> float:
    """Centre of the first channel when only a width is given: its outer edge is the outer edge of what is covered."""
    edge = 0.5 * native
    return low - edge + 0.5 * step if step > 0 else high + edge + 0.5 * step


def _regular(
    request: AxisRequest, start: float, step: float, low: float, high: float, kind: AxisKind
) -> SpectralAxis:
    nchan = request.nchan
    if nchan < 0:
        end = high if step > 0 else low
        nchan = int(np.floor((end - start) / step + 0.5 + _ALIGNED)) + 1
    if nchan < 1:
        raise UsageError(
            f"start lies beyond the data, which cover {low / 1e6:.6f} to {high / 1e6:.6f} MHz in {request.frame}: give nchan"
        )
    centres = start + step * np.arange(nchan, dtype=np.float64)
    return SpectralAxis(centres, np.full(nchan, abs(step)), request.frame, request.restfreq_hz, kind)


def _velocity_axis(request: AxisRequest, natives: Sequence[NativeChannels]) -> SpectralAxis:
    rest = request.restfreq_hz
    if not rest > 0.0:
        raise UsageError("restfreq: a velocity axis needs a rest frequency, and the data declare none")
    if request.start_hz is not None or request.width_hz is not None:
        raise UsageError("start and width: one is a velocity and the other a frequency; give both in the same quantity")
    if request.start_channel is not None or request.width_channels is not None:
        raise UsageError("start and width: one is a velocity and the other a channel number; give both as velocities")
    low, high = coverage_hz(natives, request.coverage)
    to_velocity = radio_velocity_m_s if request.velocity == "radio" else optical_velocity_m_s
    to_freq = freq_of_radio_velocity if request.velocity == "radio" else freq_of_optical_velocity
    slowest, fastest = sorted((float(to_velocity(low, rest)), float(to_velocity(high, rest))))
    native = abs(float(to_velocity(low, rest) - to_velocity(low + float(np.median(natives[0].width_hz)), rest)))
    step = request.width_m_s if request.width_m_s is not None else native
    if step == 0.0:
        raise UsageError("width: 0 m/s; a channel needs a width")
    start = request.start_m_s if request.start_m_s is not None else _first_centre(slowest, fastest, step, native)
    nchan = request.nchan
    if nchan < 0:
        end = fastest if step > 0 else slowest
        nchan = int(np.floor((end - start) / step + 0.5 + _ALIGNED)) + 1
    if nchan < 1:
        raise UsageError(
            f"start lies beyond the data, which cover {slowest / 1e3:.3f} to {fastest / 1e3:.3f} km/s: give nchan"
        )
    velocity = start + step * np.arange(nchan, dtype=np.float64)
    centres = to_freq(velocity, rest)
    if not np.all((centres > 0) & np.isfinite(centres)):
        raise UsageError("start, width and nchan: the velocity axis reaches frequencies that don't exist")
    widths = np.abs(to_freq(velocity + 0.5 * step, rest) - to_freq(velocity - 0.5 * step, rest))
    return SpectralAxis(centres, widths, request.frame, rest, request.velocity)


def radio_velocity_m_s(freq_hz: float | NDArray[np.float64], rest_hz: float) -> float | NDArray[np.float64]:
    """Radio convention: c (1 - f / f0)."""
    return SPEED_OF_LIGHT_M_S * (1.0 - freq_hz / rest_hz)


def optical_velocity_m_s(freq_hz: float | NDArray[np.float64], rest_hz: float) -> float | NDArray[np.float64]:
    """Optical convention: c (f0 / f - 1)."""
    return SPEED_OF_LIGHT_M_S * (rest_hz / freq_hz - 1.0)


def freq_of_radio_velocity(velocity_m_s: NDArray[np.float64], rest_hz: float) -> NDArray[np.float64]:
    """Inverse of :func:`radio_velocity_m_s`."""
    return rest_hz * (1.0 - velocity_m_s / SPEED_OF_LIGHT_M_S)


def freq_of_optical_velocity(velocity_m_s: NDArray[np.float64], rest_hz: float) -> NDArray[np.float64]:
    """Inverse of :func:`optical_velocity_m_s`."""
    return rest_hz / (1.0 + velocity_m_s / SPEED_OF_LIGHT_M_S)


def continuum_axis(natives: Sequence[NativeChannels], frame: str, restfreq_hz: float) -> SpectralAxis:
    """The single channel of a continuum image: the middle and the full width of everything selected."""
    low = min(float((n.freq_hz[0] - 0.5 * n.width_hz[0]) * n.factor.min()) for n in natives)
    high = max(float((n.freq_hz[-1] + 0.5 * n.width_hz[-1]) * n.factor.max()) for n in natives)
    return SpectralAxis(np.array([0.5 * (low + high)]), np.array([high - low]), frame, restfreq_hz, "frequency")
