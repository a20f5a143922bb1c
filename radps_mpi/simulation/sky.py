"""Components of a simulated sky, and what each radiates in a channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import FWHM_PER_SIGMA, SPEED_OF_LIGHT_M_S

_LINE_ENDS_SIGMA = 6.0
"""Where a gaussian line is cut off: 1.5e-8 of its peak."""

_GOLDEN_ANGLE_RAD = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True, slots=True)
class Line:
    """A spectral line, gaussian in radio velocity about ``velocity_m_s`` in the sky's frame."""

    peak_jy: float
    velocity_m_s: float
    fwhm_m_s: float
    restfreq_hz: float


@dataclass(frozen=True, slots=True)
class Component:
    """A point, or a gaussian with axes above 0, at direction cosines ``l`` (east) and ``m`` (north) from the phase centre.

    Its flux density is ``flux_jy`` (f / reference_hz)^spectral_index, or ``flux_per_channel_jy``, plus the lines.
    """

    l: float  # noqa: E741
    m: float
    flux_jy: float = 0.0
    spectral_index: float = 0.0
    reference_hz: float = 1e9
    flux_per_channel_jy: tuple[float, ...] = ()
    lines: tuple[Line, ...] = ()
    major_rad: float = 0.0
    minor_rad: float = 0.0
    """Full widths at half maximum."""
    pa_rad: float = 0.0
    """Of the major axis, north through east."""


@dataclass(frozen=True, slots=True)
class Disc:
    """An inclined, rotating, exponential disc: its line is shifted everywhere by the velocity of the place.

    The rotation curve is v(r) = ``rotation_m_s`` r / sqrt(r^2 + turnover^2): rigid inside, flat outside. ``pa_rad`` is the
    direction (north through east) of the receding half of the major axis.
    """

    l: float  # noqa: E741
    m: float
    radius_rad: float
    """Where the disc ends."""
    scale_rad: float
    """Scale length of the exponential."""
    turnover_rad: float
    inclination_rad: float
    pa_rad: float
    rotation_m_s: float
    velocity_m_s: float
    fwhm_m_s: float
    """Of the line at each place."""
    line_flux_jy_m_s: float
    """Line flux integrated over velocity, of the whole disc."""
    flux_jy: float
    """Continuum of the whole disc."""
    restfreq_hz: float
    npoint: int

    def components(self) -> list[Component]:
        """Points on a sunflower's spiral (Vogel 1979, Mathematical Biosciences 44, 179), all of
        the same area; always the same."""
        number = np.arange(self.npoint)
        r, angle = self.radius_rad * np.sqrt((number + 0.5) / self.npoint), _GOLDEN_ANGLE_RAD * number
        share = np.exp(-r / self.scale_rad)
        share /= share.sum()
        along, across = r * np.cos(angle), r * np.sin(angle) * math.cos(self.inclination_rad)
        east = along * math.sin(self.pa_rad) + across * math.cos(self.pa_rad)
        north = along * math.cos(self.pa_rad) - across * math.sin(self.pa_rad)
        speed = self.rotation_m_s * r / np.hypot(r, self.turnover_rad)
        velocity = self.velocity_m_s + speed * math.sin(self.inclination_rad) * np.cos(angle)
        peak = self.line_flux_jy_m_s / (self.fwhm_m_s * math.sqrt(2.0 * math.pi) / FWHM_PER_SIGMA) if self.restfreq_hz else 0.0
        return [
            Component(
                self.l + float(east[k]), self.m + float(north[k]), self.flux_jy * float(share[k]),
                lines=(Line(peak * float(share[k]), float(velocity[k]), self.fwhm_m_s, self.restfreq_hz),) if peak else (),
            ) for k in range(self.npoint)
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sky:
    """Components as arrays, ready for the kernel.

    ``lmn`` (ncomponent, 3): l, m, n - 1; ``shape`` (ncomponent, 3): see ``radps_kernels.predict``; ``flux_jy``,
    ``spectral_index``, ``reference_hz`` (ncomponent,); ``listed`` and ``listed_jy`` (nlisted,), (nlisted, nchan): components
    with a flux per channel; ``line_of`` (nline,) the component of each line, ``lines`` (nline, 4): peak (Jy), velocity (m/s),
    standard deviation (m/s), rest frequency (Hz). ``frame`` is the frame of the velocities. All but the indices float64.
    """

    frame: str
    lmn: NDArray[np.float64]
    shape: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    spectral_index: NDArray[np.float64]
    reference_hz: NDArray[np.float64]
    listed: NDArray[np.int64]
    listed_jy: NDArray[np.float64]
    line_of: NDArray[np.int64]
    lines: NDArray[np.float64]

    def radiating(
        self, channel: int, freq_hz: float, factor: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Components that aren't dark in a channel, and their flux densities (n, ntime or 1) in Jy.

        ``freq_hz`` is the channel's native frequency; times ``factor`` (ntime,) it is the one in the sky's frame.
        """
        continuum = self.flux_jy * (freq_hz / self.reference_hz) ** self.spectral_index
        if len(self.listed):
            continuum[self.listed] = self.listed_jy[:, channel]
        near = self._lines_near(freq_hz, factor)
        which = np.union1d(np.flatnonzero(continuum), self.line_of[near])
        flux = np.repeat(continuum[which, None], len(factor) if len(near) else 1, axis=1)
        if len(near):
            peak, velocity, sigma, rest = self.lines[near].T[:, :, None]
            offset = (SPEED_OF_LIGHT_M_S * (1.0 - freq_hz * factor / rest) - velocity) / sigma
            shining = np.where(np.abs(offset) < _LINE_ENDS_SIGMA, peak * np.exp(-0.5 * offset**2), 0.0)
            np.add.at(flux, np.searchsorted(which, self.line_of[near]), shining)
        return which, flux

    def _lines_near(self, freq_hz: float, factor: NDArray[np.float64]) -> NDArray[np.int64]:
        if not len(self.lines):
            return np.empty(0, np.int64)
        _, velocity, sigma, rest = self.lines.T
        high, low = (SPEED_OF_LIGHT_M_S * (1.0 - freq_hz * f / rest) for f in (factor.min(), factor.max()))
        reach = _LINE_ENDS_SIGMA * sigma
        return np.flatnonzero((velocity > low - reach) & (velocity < high + reach))


def make_sky(components: Sequence[Component], frame: str, nchan: int) -> Sky:
    """Components in their order, velocities in ``frame`` (a name of ``data.axis.FRAMES``)."""
    listed = [k for k, component in enumerate(components) if component.flux_per_channel_jy]
    lines = [(k, line) for k, component in enumerate(components) for line in component.lines]
    return Sky(
        frame,
        np.array([(c.l, c.m, _n_1(c.l, c.m)) for c in components]).reshape(-1, 3),
        np.array([tuple(_quadratic_form(c)) for c in components]).reshape(-1, 3),
        np.array([c.flux_jy for c in components], np.float64),
        np.array([c.spectral_index for c in components], np.float64),
        np.array([c.reference_hz for c in components], np.float64),
        np.array(listed, np.int64),
        np.array([components[k].flux_per_channel_jy for k in listed], np.float64).reshape(-1, nchan),
        np.array([k for k, _ in lines], np.int64),
        np.array([(e.peak_jy, e.velocity_m_s, e.fwhm_m_s / FWHM_PER_SIGMA, e.restfreq_hz) for _, e in lines]).reshape(-1, 4),
    )  # fmt: skip


def _n_1(l: float, m: float) -> float:  # noqa: E741
    """n - 1 without cancellation."""
    square = l * l + m * m
    return -square / (1.0 + math.sqrt(1.0 - square))


def _quadratic_form(component: Component) -> Iterator[float]:
    """a, b, c of the gaussian's transform exp(-(a u^2 + 2 b u v + c v^2)): 2 pi^2 sigma^2 along each axis."""
    along, across = (
        2.0 * (math.pi * fwhm / FWHM_PER_SIGMA) ** 2 for fwhm in (component.major_rad, component.minor_rad)
    )
    s, c = math.sin(component.pa_rad), math.cos(component.pa_rad)
    yield along * s * s + across * c * c
    yield (along - across) * s * c
    yield along * c * c + across * s * s
