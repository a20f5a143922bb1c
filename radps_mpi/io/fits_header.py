"""The primary header of an image product: sky, spectral and Stokes axes, frames, units and provenance.

Conventions are those of CASA's ``exportfits``, checked against its files, so that casacore, CARTA, astropy and
spectral-cube read a product alike: FITS papers I to III (Greisen & Calabretta 2002; Calabretta & Greisen 2002;
Greisen et al. 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.beam import TINY_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.io.fits_cards import FitsValue, card, history_cards

SPECSYS = {"TOPO": "TOPOCENT", "LSRK": "LSRK", "BARY": "BARYCENT"}
"""FITS names of the spectral frames."""

_VELREF = {"LSRK": 1, "BARY": 2, "TOPO": 3}
_VELREF_RADIO = 256
_REGULAR = 1e-3
"""Largest departure from a regular axis, in channels."""


@dataclass(frozen=True, slots=True)
class ProductMetadata:
    """What the headers of all products of a run say about its data; times are ISO 8601 text.

    ``date`` is the DATE card. It is never taken from the clock here: leave it empty, or derive it from the data, and
    two runs write the same bytes. ``observatory_m`` is the array's ITRS position in metres, ``pointing_rad`` the
    (RA, Dec) that the antennas pointed at; cards of unknown values are left out.
    """

    object_name: str = ""
    telescope: str = ""
    observer: str = ""
    date_obs: str = ""
    timesys: str = "UTC"
    date: str = ""
    origin: str = "radps_mpi"
    observatory_m: tuple[float, float, float] | None = None
    pointing_rad: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CubeHeader:
    """All that a product's primary header is made from.

    ``beams`` is None (no restoring beam), one :class:`Beam` (BMAJ, BMIN, BPA cards) or one per channel (CASAMBM = T and
    a BEAMS table). ``history`` holds lines of any text: they are wrapped and escaped.
    """

    geometry: ImageGeometry
    axis: SpectralAxis
    bunit: str
    btype: str = "Intensity"
    metadata: ProductMetadata = ProductMetadata()
    beams: Beam | Sequence[Beam] | None = None
    history: tuple[str, ...] = ()

    @property
    def beam_list(self) -> Sequence[Beam]:
        """One beam per channel for the BEAMS table; empty if there is none."""
        return () if self.beams is None or isinstance(self.beams, Beam) else self.beams

    def cards(self) -> list[str]:
        """Cards of 80 characters without DATASUM, CHECKSUM and END.

        Raises
        ------
        DataError
            If the axis is not regular in the quantity that ``axis.kind`` names, there isn't one beam per channel, or a
            value isn't finite.
        """
        return [
            *self._structure(), *self._content(), *_sky(self.geometry), *self._world(), *_spectral_frame(self.axis),
            *_observation(self.metadata), *history_cards(self.history),
        ]

    def _structure(self) -> list[str]:
        g = self.geometry
        return _cards([
            ("SIMPLE", True, "FITS standard"), ("BITPIX", -32, "IEEE float32, big-endian"), ("NAXIS", 4, ""),
            ("NAXIS1", g.nx, ""), ("NAXIS2", g.ny, ""), ("NAXIS3", self.axis.nchan, ""), ("NAXIS4", 1, ""),
            ("EXTEND", True, ""),
        ])

    def _content(self) -> list[str]:
        values: list[tuple[str, FitsValue, str]] = [("BTYPE", self.btype, ""), ("BUNIT", self.bunit, "pixel unit")]
        if isinstance(self.beams, Beam):
            beam = TINY_BEAM if self.beams.is_null else self.beams
            values += [("BMAJ", math.degrees(beam.major_rad), "deg"), ("BMIN", math.degrees(beam.minor_rad), "deg"),
                       ("BPA", math.degrees(beam.pa_rad), "deg, north through east")]
        elif self.beams is not None:
            if len(self.beams) != self.axis.nchan:
                raise DataError(f"{len(self.beams)} beams for {self.axis.nchan} channels")
            values.append(("CASAMBM", True, "one beam per channel: BEAMS table"))
        return _cards(values)

    def _world(self) -> list[str]:
        g = self.geometry
        ctype, value, step, unit = spectral_axis_keywords(self.axis)
        axes = [
            ("RA---SIN", math.degrees(g.ra_rad) % 360.0, -math.degrees(g.cell_x_rad), g.nx // 2 + 1, "deg"),
            ("DEC--SIN", math.degrees(g.dec_rad), math.degrees(g.cell_y_rad), g.ny // 2 + 1, "deg"),
            (ctype, value, step, 1, unit),
            ("STOKES", 1.0, 1.0, 1, ""),
        ]
        values: list[tuple[str, FitsValue, str]] = []
        for i, (name, crval, cdelt, crpix, cunit) in enumerate(axes, 1):
            values += [(f"CTYPE{i}", name, ""), (f"CRVAL{i}", crval, ""), (f"CDELT{i}", cdelt, ""),
                       (f"CRPIX{i}", float(crpix), ""), (f"CUNIT{i}", cunit, "")]
        return _cards([*values, ("PV2_1", 0.0, ""), ("PV2_2", 0.0, "")])


def _cards(values: Sequence[tuple[str, FitsValue, str]]) -> list[str]:
    return [text for keyword, value, comment in values for text in card(keyword, value, comment)]


def _sky(geometry: ImageGeometry) -> list[str]:
    """The frame of the sky axes. ICRS takes no EQUINOX; it and FK5 J2000 differ by 23 mas."""
    frames: dict[str, list[tuple[str, FitsValue, str]]] = {
        "ICRS": [("RADESYS", "ICRS", "")],
        "J2000": [("EQUINOX", 2000.0, ""), ("RADESYS", "FK5", "")],
    }
    if geometry.direction_frame not in frames:
        raise DataError(f"direction frame {geometry.direction_frame!r} has no FITS name; use {' or '.join(frames)}")
    values = frames[geometry.direction_frame]
    values += [("LONPOLE", 180.0, ""), ("LATPOLE", math.degrees(geometry.dec_rad), "")]
    matrix = [(f"PC{i}_{j}", float(i == j), "") for j in range(1, 5) for i in range(1, 5)]
    return _cards([*values, *matrix])


def spectral_axis_keywords(axis: SpectralAxis) -> tuple[str, float, float, str]:
    """(CTYPE, CRVAL, CDELT, CUNIT) of the spectral axis with CRPIX 1.

    Frequency and radio-velocity axes are regular in frequency, and written as FREQ in Hz as CASA does; an axis regular
    in optical velocity is written as VOPT in m/s.

    Raises
    ------
    DataError
        If the channels depart from a regular axis by more than a thousandth of a channel.
    """
    optical = axis.kind == "optical"
    values = axis.optical_velocity_m_s() if optical else axis.freq_hz
    name, unit = ("VOPT", "m/s") if optical else ("FREQ", "Hz")
    first, n = float(values[0]), axis.nchan
    step = float(values[-1] - values[0]) / (n - 1) if n > 1 else _width(axis)
    departure = float(np.max(np.abs(values - (first + step * np.arange(n)))))
    if step == 0.0 or departure > _REGULAR * abs(step):
        raise DataError(f"spectral axis: channels are not regular in {name} (off by up to {departure:.3g} {unit}), "
                        "so a FITS header can't describe them")
    return name, first, step, unit


def _width(axis: SpectralAxis) -> float:
    """Signed width of an only channel in the unit of its axis: velocity falls as frequency grows."""
    width_hz = float(axis.width_hz[0])
    if axis.kind != "optical":
        return width_hz
    one = SpectralAxis(axis.freq_hz + np.array([-0.5, 0.5]) * width_hz, axis.width_hz.repeat(2), axis.frame,
                       axis.restfreq_hz, axis.kind)
    return float(np.ptp(one.optical_velocity_m_s()))


def _spectral_frame(axis: SpectralAxis) -> list[str]:
    if axis.frame not in SPECSYS:
        raise DataError(f"spectral frame {axis.frame!r} has no FITS name here; use one of {', '.join(SPECSYS)}")
    optical = axis.kind == "optical"
    values: list[tuple[str, FitsValue, str]] = [("SPECSYS", SPECSYS[axis.frame], "spectral reference frame")]
    if axis.restfreq_hz > 0.0:
        other = float(axis.freq_hz[0] if optical else axis.radio_velocity_m_s()[0])
        values += [("RESTFRQ", axis.restfreq_hz, "rest frequency, Hz"),
                   ("ALTRVAL", other, "frequency, Hz" if optical else "radio velocity, m/s"), ("ALTRPIX", 1.0, "")]
    velref = _VELREF[axis.frame] + (0 if optical else _VELREF_RADIO)
    return _cards([*values, ("VELREF", velref, "1 LSR, 2 HEL, 3 OBS, +256 Radio")])


def _observation(metadata: ProductMetadata) -> list[str]:
    m = metadata
    texts = [("OBJECT", m.object_name), ("TELESCOP", m.telescope), ("INSTRUME", m.telescope), ("OBSERVER", m.observer),
             ("DATE-OBS", m.date_obs), ("TIMESYS", m.timesys)]
    values: list[tuple[str, FitsValue, str]] = [(keyword, text, "") for keyword, text in texts if text]
    if m.pointing_rad is not None:
        ra_deg, dec_deg = (math.degrees(angle) for angle in m.pointing_rad)
        values += [("OBSRA", ra_deg % 360.0, ""), ("OBSDEC", dec_deg, "")]
    if m.observatory_m is not None:
        values += [(f"OBSGEO-{axis}", float(x), "m, ITRS") for axis, x in zip("XYZ", m.observatory_m, strict=True)]
    if m.date:
        values.append(("DATE", m.date, ""))
    return _cards([*values, ("ORIGIN", m.origin, "")])
