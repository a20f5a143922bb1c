"""A simulated observation: what every visibility is, one channel of one row chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from radps_kernels.predict import add_components

from radps_mpi import precision
from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.simulation.antennas import Antennas, Place, generate, parse_configuration
from radps_mpi.simulation.config import NoiseConfig, SimulationConfig
from radps_mpi.simulation.keyed_random import FLAGS, NANS, chosen, thermal_noise
from radps_mpi.simulation.sky import Sky, make_sky
from radps_mpi.simulation.sky_toml import parse_sky
from radps_mpi.simulation.tracks import Tracks, tracks
from radps_mpi.units import parse_direction

_FLUX_CELLS = 1 << 21
"""Fluxes (component x time) that are looked at in one go."""

_HANDS = {"ALMA": "XY", "VLA": "RL"}
DISH_M = {"ALMA": 12.0, "VLA": 25.0}
"""Dish diameter of a telescope's generated arrays."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Everything that visibilities follow from. ``freq_hz``, ``width_hz`` (nchan,) float64, native."""

    config: SimulationConfig
    antennas: Antennas
    tracks: Tracks
    sky: Sky
    freq_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    corr_types: tuple[str, ...]
    observatory_itrf_m: Place
    noise_jy: float
    """Rms of a visibility's real part."""

    @property
    def weight(self) -> float:
        """Of every sample, 1/Jy^2; 1 without noise."""
        return self.noise_jy**-2.0 if self.noise_jy else 1.0


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Rows of one chunk in the order of the observation: ``uvw_m`` (3, nrow) float64, contiguous; ``time_index`` (nrow,) int32
    into ``factor`` (ntime,) float64, which turns native frequencies into the sky's frame."""

    chunk: int
    uvw_m: NDArray[np.float64]
    time_index: NDArray[np.int32]
    factor: NDArray[np.float64]


def build(
    config: SimulationConfig, observatory_itrf_m: Place, array_text: str | None = None, sky_text: str | None = None,
    sky_source: str = "sky",
) -> Simulation:  # fmt: skip
    """Put an observation together from its configuration and the texts of the antenna and sky files.

    Raises
    ------
    UsageError, DataError
        If an option or a line of a file can't be used.
    """
    array, observing, band = config.array, config.observing, config.band
    if array_text is None:
        antennas = generate(
            array.layout, array.nantenna, array.max_baseline_m, DISH_M[array.telescope], config.noise.seed, observatory_itrf_m
        )
    else:
        antennas = parse_configuration(array_text, array.antennas, observatory_itrf_m)
    freq_hz = band.start_hz + band.width_hz * np.arange(band.nchan, dtype=np.float64)
    centre = parse_direction(observing.direction)
    sky = make_sky([], "LSRK", band.nchan) if sky_text is None else parse_sky(
        sky_text, sky_source, centre=centre, nchan=band.nchan, middle_hz=0.5 * float(freq_hz[0] + freq_hz[-1]),
        restfreq_hz=band.restfreq_hz,
    )  # fmt: skip
    return Simulation(
        config, antennas, tracks(antennas, observatory_itrf_m, observing), sky, freq_hz, np.full(band.nchan, band.width_hz),
        correlations(array.telescope, observing.npol), observatory_itrf_m, config.noise.noise_jy,
    )  # fmt: skip


def correlations(telescope: str, npol: int) -> tuple[str, ...]:
    """Names of 1, 2 or 4 correlations as a telescope's receivers give them."""
    a, b = tuple(_HANDS[telescope])
    return {1: (a + a,), 2: (a + a, b + b), 4: (a + a, a + b, b + a, b + b)}[npol]


def stokes_i(simulation: Simulation, channel: int, rows: ChunkRows) -> NDArray[np.complex64]:
    """(nrow,) complex64: what the unpolarised sky gives in one channel, Jy."""
    freq_hz = float(simulation.freq_hz[channel])
    which, flux = simulation.sky.radiating(channel, freq_hz, rows.factor)
    sums = np.zeros((2, rows.uvw_m.shape[1]))
    step = max(1, _FLUX_CELLS // max(1, flux.shape[1]))
    for start in range(0, len(which), step):
        some = which[start : start + step]
        add_components(rows.uvw_m, rows.time_index, freq_hz / SPEED_OF_LIGHT_M_S, simulation.sky.lmn[some],
                       simulation.sky.shape[some], flux[start : start + step], sums)  # fmt: skip
    visibility = np.empty(sums.shape[1], precision.VISIBILITY)
    visibility.real, visibility.imag = sums
    return visibility


def visibilities(simulation: Simulation, channel: int, rows: ChunkRows) -> NDArray[np.complex64]:
    """(npol, nrow) complex64, Jy, in one channel: sky and noise; both hands see Stokes I, cross hands see noise alone."""
    shape = (len(simulation.corr_types), rows.uvw_m.shape[1])
    vis = np.zeros(shape, precision.VISIBILITY)
    if simulation.noise_jy:
        vis += thermal_noise(simulation.config.noise.seed, channel, rows.chunk, shape, simulation.noise_jy)
    if len(simulation.sky.lmn):
        parallel = [name[0] == name[1] for name in simulation.corr_types]
        vis[parallel] += stokes_i(simulation, channel, rows)
    return vis


def blanks(
    noise: NoiseConfig, channel: int, chunk: int, shape: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(npol, nrow) bool, in the order of the observation: which samples of a channel are flagged, and which are NaN."""
    return (chosen(noise.seed, FLAGS, channel, chunk, shape, noise.flagged),
            chosen(noise.seed, NANS, channel, chunk, shape, noise.nans))  # fmt: skip
