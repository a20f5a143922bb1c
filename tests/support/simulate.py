"""MeasurementSets of a known sky: point components summed directly, in double precision, onto the baselines of a small array.

V = sum over components of S(f, t) exp(+2 pi i f / c (u l + v m + w (n - 1))), with uvw as stored, in metres, and l, m towards
east and north of the field's centre. Noise is drawn for real and imaginary part of each correlation, of rms 1 / sqrt(WEIGHT).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import complete_ms_desc, default_ms, required_ms_desc, table
from numpy.typing import NDArray

from radps_mpi.constants import SPEED_OF_LIGHT_M_S

CO_10_HZ = 115.2712018e9
HI_HZ = 1.420405752e9

CORRELATION_CODES = {"RR": 5, "RL": 6, "LR": 7, "LL": 8, "XX": 9, "XY": 10, "YX": 11, "YY": 12, "I": 1}
FREQUENCY_CODES = {"LSRK": 1, "BARY": 3, "TOPO": 5}
JUNK_JY = 50.0
"""In the cross hands, which Stokes I must not see."""


@dataclass(frozen=True, slots=True)
class Site:
    """An observatory: ITRF position, dish diameter, hands of its receivers."""

    name: str
    position_m: tuple[float, float, float]
    dish_m: float


ALMA = Site("ALMA", (2225142.180, -5440307.370, -2481029.852), 12.0)
VLA = Site("VLA", (-1601185.365, -5041977.547, 3554875.870), 25.0)


@dataclass(frozen=True, slots=True)
class Point:
    """A point source at direction cosines l (east), m (north) from the field's centre.

    ``spectrum`` takes frequencies (ntime, nchan), Hz, in ``frame`` and returns Jy; or it is a number of Jy.
    """

    l: float  # noqa: E741
    m: float
    spectrum: float | Callable[[NDArray[np.float64]], NDArray[np.float64]]
    frame: str = ""
    """TOPO, LSRK, BARY, or empty for the frame in which the set declares its channels."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One execution. ``freq_hz`` in the order of the table; ``start`` is UTC; hour angles run from -``hours`` / 2 to + / 2."""

    freq_hz: NDArray[np.float64]
    site: Site = ALMA
    frame: str = "TOPO"
    correlations: tuple[str, ...] = ("XX", "YY")
    field_rad: tuple[float, float] = (1.2, -0.4)
    field_frame: str = "J2000"
    start: str = "2012-03-01T00:00:00"
    ntime: int = 12
    interval_s: float = 60.0
    hours: float = 4.0
    nantenna: int = 10
    radius_m: float = 150.0
    squeeze: tuple[float, float] = (1.0, 0.0)
    """Factor on baselines along a position angle (radians, north through east): below 1 the beam is longer along it."""
    noise_jy: float = 0.0
    """Rms of the real part of one correlation, of the best rows; others have 1.5 and 2 times as much."""
    with_w: bool = False
    polarised: float = 0.0
    """(XX - YY) / (XX + YY), the same for all components."""
    restfreq_hz: float = CO_10_HZ
    seed: int = 1


def lm_of(field_rad: tuple[float, float], ra_rad: float, dec_rad: float) -> tuple[float, float]:
    """Direction cosines of a direction about a field's centre (orthographic projection)."""
    delta = ra_rad - field_rad[0]
    l = np.cos(dec_rad) * np.sin(delta)  # noqa: E741
    m = np.sin(dec_rad) * np.cos(field_rad[1]) - np.cos(dec_rad) * np.sin(field_rad[1]) * np.cos(delta)
    return float(l), float(m)


def gaussian_line(centre_hz: float, fwhm_hz: float, peak_jy: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The spectrum of a gaussian line."""
    return lambda freq_hz: peak_jy * np.exp(-4.0 * np.log(2.0) * ((freq_hz - centre_hz) / fwhm_hz) ** 2)


def simulate(path: Path, setup: Setup, sky: Sequence[Point]) -> Path:
    """Write the MeasurementSet that ``setup`` records of ``sky``."""
    first, second = np.triu_indices(setup.nantenna, 1)
    uvw_m = _uvw_m(setup, first, second)
    data, weight = _visibilities(setup, uvw_m, len(first), sky)
    extra = {"DATA": complete_ms_desc("MAIN")["DATA"]}
    with default_ms(str(path), {**required_ms_desc("MAIN"), **extra}) as main:
        _fill_main(main, setup, first, second, uvw_m, data, weight)
    _fill_tables(path, setup)
    return path


def times_s(setup: Setup) -> NDArray[np.float64]:
    """MJD of the integrations in seconds, UTC."""
    first = (np.datetime64(setup.start) - np.datetime64("1858-11-17")) / np.timedelta64(1, "s")
    return float(first) + setup.interval_s * np.arange(setup.ntime)


def doppler_factors(setup: Setup, frame: str) -> NDArray[np.float64]:
    """(ntime,) factors from topocentric frequencies to LSRK or BARY, by astropy: independent of casacore.

    LSRK: 20 km/s towards 18h +30 deg of B1900 against the barycentre.
    """
    if frame in ("", setup.frame):
        return np.ones(setup.ntime)
    if setup.frame != "TOPO":
        raise ValueError("only topocentric channels move")
    from astropy import units
    from astropy.coordinates import FK4, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    ra, dec = (angle * units.rad for angle in setup.field_rad)
    target = SkyCoord(ra, dec, frame="icrs" if setup.field_frame == "ICRS" else "fk5").icrs
    when = Time(times_s(setup) / 86400.0, format="mjd", scale="utc")
    where = EarthLocation.from_geocentric(*setup.site.position_m, unit="m")
    observer_m_s = target.radial_velocity_correction("barycentric", obstime=when, location=where).to_value("m/s")
    factor = 1.0 / (1.0 + observer_m_s / SPEED_OF_LIGHT_M_S)
    if frame == "BARY":
        return factor
    apex = SkyCoord("18h00m00s", "+30d00m00s", frame=FK4(equinox="B1900")).icrs
    sun_m_s = 20e3 * float(np.cos(target.separation(apex).rad))
    return factor / (1.0 + sun_m_s / SPEED_OF_LIGHT_M_S)


def _uvw_m(setup: Setup, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """(nrow, 3), all baselines of one integration after the other. Thompson, Moran & Swenson (2017), equation 4.1."""
    antennas = _antennas_enu_m(setup)
    latitude = np.arcsin(setup.site.position_m[2] / np.linalg.norm(setup.site.position_m))
    east, north, up = (antennas[second] - antennas[first]).T
    x, y, z = up * np.cos(latitude) - north * np.sin(latitude), east, up * np.sin(latitude) + north * np.cos(latitude)
    hour_angle = np.radians(15.0 * setup.hours) * (np.linspace(-0.5, 0.5, setup.ntime) if setup.ntime > 1 else np.zeros(1))
    s, c = np.sin(hour_angle)[:, None], np.cos(hour_angle)[:, None]
    sd, cd = np.sin(setup.field_rad[1]), np.cos(setup.field_rad[1])
    u, v, w = s * x + c * y, -sd * c * x + sd * s * y + cd * z, cd * c * x - cd * s * y + sd * z
    factor, angle = setup.squeeze
    along = (factor - 1.0) * (u * np.sin(angle) + v * np.cos(angle))
    u, v = u + along * np.sin(angle), v + along * np.cos(angle)
    return np.stack([u.ravel(), v.ravel(), w.ravel() * setup.with_w], axis=1)


def _antennas_enu_m(setup: Setup) -> NDArray[np.float64]:
    """Antennas strewn over a disc, denser towards its middle, with no symmetry. (nantenna, 3) east, north, up."""
    generator = np.random.default_rng(20)
    radius = setup.radius_m * generator.uniform(0.1, 1.0, setup.nantenna)
    angle = 2.4 * np.arange(setup.nantenna) + generator.uniform(0.0, 0.5, setup.nantenna)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle), np.zeros(setup.nantenna)], axis=1)


def _visibilities(
    setup: Setup, uvw_m: NDArray[np.float64], nbaseline: int, sky: Sequence[Point]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """DATA (nrow, nchan, npol) and WEIGHT (nrow, npol)."""
    nrow, nchan, npol = len(uvw_m), len(setup.freq_hz), len(setup.correlations)
    stokes_i = np.zeros((nrow, nchan), complex)
    for point in sky:
        n_1 = -(point.l**2 + point.m**2) / (1.0 + np.sqrt(1.0 - point.l**2 - point.m**2))
        path_m = uvw_m @ np.array([point.l, point.m, n_1])
        flux = np.repeat(_flux_jy(setup, point), nbaseline, axis=0)
        stokes_i += flux * np.exp(2j * np.pi * path_m[:, None] * setup.freq_hz / SPEED_OF_LIGHT_M_S)
    response = {"XX": 1 + setup.polarised, "YY": 1 - setup.polarised, "RR": 1.0, "LL": 1.0, "I": 1.0}
    data = np.stack(
        [stokes_i * response[name] if name in response else np.full((nrow, nchan), JUNK_JY * (1 + 1j))
         for name in setup.correlations], axis=2,
    )  # fmt: skip
    rms = np.repeat(1.0 + 0.5 * (np.arange(nrow) % 3)[:, None], npol, axis=1) * (setup.noise_jy or 1.0)
    if setup.noise_jy:
        draw = np.random.default_rng(setup.seed).normal(size=(2, nrow, nchan, npol)) * rms[:, None, :]
        data += draw[0] + 1j * draw[1]
    return data, rms**-2.0


def _flux_jy(setup: Setup, point: Point) -> NDArray[np.float64]:
    if not callable(point.spectrum):
        return np.full((setup.ntime, len(setup.freq_hz)), float(point.spectrum))
    return point.spectrum(setup.freq_hz * doppler_factors(setup, point.frame)[:, None])


def _fill_main(
    main: Any, setup: Setup, first: NDArray[Any], second: NDArray[Any], uvw_m: NDArray[np.float64],
    data: NDArray[np.complex128], weight: NDArray[np.float64],
) -> None:  # fmt: skip
    nrow = len(uvw_m)
    main.addrows(nrow)
    main.putcol("ANTENNA1", np.tile(first, setup.ntime).astype(np.int32))
    main.putcol("ANTENNA2", np.tile(second, setup.ntime).astype(np.int32))
    for column in ("TIME", "TIME_CENTROID"):
        main.putcol(column, np.repeat(times_s(setup), len(first)))
    for column in ("INTERVAL", "EXPOSURE"):
        main.putcol(column, np.full(nrow, setup.interval_s))
    main.putcol("SCAN_NUMBER", (1 + np.repeat(np.arange(setup.ntime), len(first)) // 4).astype(np.int32))
    main.putcol("UVW", uvw_m)
    main.putcol("WEIGHT", weight.astype(np.float32))
    main.putcol("SIGMA", (weight**-0.5).astype(np.float32))
    main.putcol("FLAG", np.zeros(data.shape, bool))
    main.putcol("DATA", data.astype(np.complex64))


def _fill_tables(path: Path, setup: Setup) -> None:
    put_rows(path, "ANTENNA", setup.nantenna, NAME=[f"A{i:02d}" for i in range(setup.nantenna)],
             DISH_DIAMETER=np.full(setup.nantenna, setup.site.dish_m),
             POSITION=np.tile(setup.site.position_m, (setup.nantenna, 1)))
    direction = np.array(setup.field_rad)[None, None, :]
    put_rows(path, "FIELD", 1, NAME=["known sky"], PHASE_DIR=direction, DELAY_DIR=direction, REFERENCE_DIR=direction,
             SOURCE_ID=np.array([0], np.int32))
    nchan = len(setup.freq_hz)
    step = setup.freq_hz[1] - setup.freq_hz[0] if nchan > 1 else 1e5
    put_rows(path, "SPECTRAL_WINDOW", 1, NAME=["band"], CHAN_FREQ=setup.freq_hz[None], REF_FREQUENCY=setup.freq_hz[:1],
             CHAN_WIDTH=np.full((1, nchan), step), EFFECTIVE_BW=np.full((1, nchan), abs(step)),
             RESOLUTION=np.full((1, nchan), abs(step)), NUM_CHAN=np.array([nchan], np.int32),
             MEAS_FREQ_REF=np.array([FREQUENCY_CODES[setup.frame]], np.int32))
    codes = np.array([[CORRELATION_CODES[name] for name in setup.correlations]], np.int32)
    put_rows(path, "POLARIZATION", 1, CORR_TYPE=codes, NUM_CORR=np.array([codes.shape[1]], np.int32))
    put_rows(path, "DATA_DESCRIPTION", 1)
    put_rows(path, "OBSERVATION", 1, TELESCOPE_NAME=[setup.site.name])
    put_rows(path, "STATE", 1, OBS_MODE=["OBSERVE_TARGET#ON_SOURCE"])
    _add_source(path, setup)
    for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
        with table(f"{path}/FIELD", readonly=False, ack=False) as field:
            field.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": setup.field_frame})


def put_rows(path: Path, name: str, nrow: int, **columns: Any) -> None:
    """Fill a subtable."""
    with table(f"{path}/{name}", readonly=False, ack=False) as rows:
        rows.addrows(nrow)
        for column, values in columns.items():
            rows.putcol(column, values)


def _add_source(path: Path, setup: Setup) -> None:
    from casacore.tables import default_ms_subtable

    default_ms_subtable("SOURCE", f"{path}/SOURCE", complete_ms_desc("SOURCE")).close()
    put_rows(path, "SOURCE", 1, NAME=["known sky"], SOURCE_ID=np.array([0], np.int32),
             SPECTRAL_WINDOW_ID=np.array([0], np.int32), NUM_LINES=np.array([1], np.int32),
             REST_FREQUENCY=np.array([[setup.restfreq_hz]]))
    with table(str(path), readonly=False, ack=False) as main:
        main.putkeyword("SOURCE", f"Table: {path}/SOURCE")


def rewrite(path: Path, change: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]) -> Path:
    """Pass the columns of the main table through ``change`` and store what it returns."""
    names = ("TIME", "ANTENNA1", "ANTENNA2", "UVW", "WEIGHT", "FLAG", "DATA")
    with table(str(path), readonly=False, ack=False) as main:
        for name, values in change({name: main.getcol(name) for name in names}).items():
            main.putcol(name, values)
    return path


def swap_antennas(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every other row from the other antenna's point of view; for sets of parallel hands."""
    swap = np.arange(len(columns["TIME"])) % 2 == 1
    one, two = columns["ANTENNA1"].copy(), columns["ANTENNA2"].copy()
    one[swap], two[swap] = two[swap], one[swap]
    return {
        "ANTENNA1": one, "ANTENNA2": two, "UVW": np.where(swap[:, None], -columns["UVW"], columns["UVW"]),
        "DATA": np.where(swap[:, None, None], columns["DATA"].conj(), columns["DATA"]),
    }  # fmt: skip


def shuffle_rows(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Rows in no order of time."""
    order = np.random.default_rng(5).permutation(len(columns["TIME"]))
    return {name: values[order] for name, values in columns.items()}
