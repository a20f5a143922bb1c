"""Where the pixels are: headers against our own geometry and axis, astropy's WCS, and CASA's files."""

from __future__ import annotations

import gzip
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from support.products import GEOMETRY, METADATA, RESTFREQ_HZ, beams, frequency_axis, optical_axis

from radps_mpi.constants import ARCSEC_RAD
from radps_mpi.data.axis import SpectralAxis
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError
from radps_mpi.io.fits_cards import header_block
from radps_mpi.io.fits_header import CubeHeader, ProductMetadata


def header_of(geometry: ImageGeometry = GEOMETRY, axis: SpectralAxis | None = None, **options: object) -> fits.Header:
    cube = CubeHeader(geometry, axis or frequency_axis(), "Jy/beam", metadata=METADATA, **options)  # type: ignore[arg-type]
    return fits.Header.fromstring(header_block(cube.cards()).decode("ascii"))


def wcs_of(header: fits.Header) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header)


def sky_of_pixel(g: ImageGeometry, x: float, y: float) -> tuple[float, float]:
    """(RA, Dec) in rad of a pixel, from the direction cosines of our image convention."""
    l, m = -(x - g.nx // 2) * g.cell_x_rad, (y - g.ny // 2) * g.cell_y_rad  # noqa: E741
    n = np.sqrt(1.0 - l * l - m * m)
    dec = np.arcsin(m * np.cos(g.dec_rad) + n * np.sin(g.dec_rad))
    ra = g.ra_rad + np.arctan2(l, n * np.cos(g.dec_rad) - m * np.sin(g.dec_rad))
    return float(ra), float(dec)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4000), st.integers(1, 4000), st.floats(0.0, 6.28), st.floats(-1.4, 1.4), st.floats(0.01, 15.0),
    st.sampled_from(["J2000", "ICRS"]),
)
def test_phase_centre_and_corners_lie_where_our_direction_cosines_put_them(
    nx: int, ny: int, ra_rad: float, dec_rad: float, cell_arcsec: float, frame: str
) -> None:
    g = ImageGeometry(nx, ny, cell_arcsec * ARCSEC_RAD, 0.9 * cell_arcsec * ARCSEC_RAD, ra_rad, dec_rad, frame)
    sky = wcs_of(header_of(g)).celestial
    for x, y in [(nx // 2, ny // 2), (0, 0), (nx - 1, ny - 1), (0, ny - 1)]:
        ra_deg, dec_deg = sky.wcs_pix2world(x, y, 0)
        ra, dec = sky_of_pixel(g, x, y)
        offset = np.array([(np.radians(ra_deg) - ra + np.pi) % (2 * np.pi) - np.pi, np.radians(dec_deg) - dec])
        assert np.abs(offset).max() < 1e-6 * g.cell_y_rad + 1e-14 * max(nx, ny)


@pytest.mark.parametrize("width_hz", [24414.0625, -24414.0625, 1 / 3])
@pytest.mark.parametrize("frame", ["LSRK", "BARY", "TOPO"])
def test_every_channel_has_our_frequency_to_a_part_in_a_million_million(frame: str, width_hz: float) -> None:
    axis = frequency_axis(1000, frame, width_hz)
    freq_hz = wcs_of(header_of(axis=axis)).spectral.wcs_pix2world(np.arange(1000), 0)[0]
    np.testing.assert_allclose(freq_hz, axis.freq_hz, rtol=1e-12, atol=1e-6)


def test_an_optical_axis_is_regular_in_velocity_and_gives_back_the_frequencies() -> None:
    axis = optical_axis()
    header = header_of(axis=axis)
    assert (header["CTYPE3"], header["CUNIT3"], header["VELREF"]) == ("VOPT", "m/s", 1)
    assert header["ALTRVAL"] == axis.freq_hz[0]
    velocity = wcs_of(header).spectral.wcs_pix2world(np.arange(axis.nchan), 0)[0] * units.m / units.s
    freq_hz = velocity.to_value(units.Hz, units.doppler_optical(RESTFREQ_HZ * units.Hz))
    np.testing.assert_allclose(freq_hz, axis.freq_hz, rtol=1e-12)


def test_one_channel_keeps_its_width() -> None:
    assert header_of(axis=frequency_axis(1))["CDELT3"] == 24414.0625
    one = replace(optical_axis(1), width_hz=np.array([23437.0]))
    assert header_of(axis=one)["CDELT3"] == pytest.approx(5e3, rel=1e-3)


def test_radio_velocity_is_written_as_frequency_with_the_velocity_beside_it() -> None:
    axis = replace(frequency_axis(), kind="radio")
    header = header_of(axis=axis)
    assert (header["CTYPE3"], header["VELREF"]) == ("FREQ", 257)
    assert header["ALTRVAL"] == pytest.approx(axis.radio_velocity_m_s()[0], rel=1e-12)


def test_an_irregular_axis_is_refused() -> None:
    axis = frequency_axis()
    axis.freq_hz[3] += 100.0
    with pytest.raises(DataError, match="not regular in FREQ"):
        header_of(axis=axis)


def test_unknown_frames_are_refused() -> None:
    with pytest.raises(DataError, match="GALACTO"):
        header_of(axis=frequency_axis(frame="GALACTO"))
    with pytest.raises(DataError, match="B1950"):
        header_of(replace(GEOMETRY, direction_frame="B1950"))


def test_icrs_has_no_equinox_and_j2000_is_fk5() -> None:
    icrs, fk5 = header_of(replace(GEOMETRY, direction_frame="ICRS")), header_of()
    assert (icrs["RADESYS"], "EQUINOX" in icrs) == ("ICRS", False)
    assert (fk5["RADESYS"], fk5["EQUINOX"]) == ("FK5", 2000.0)


def test_one_beam_for_all_channels_is_in_the_header() -> None:
    header = header_of(beams=Beam(52 * ARCSEC_RAD, 47 * ARCSEC_RAD, np.radians(4.5)))
    assert [header[k] for k in ("BMAJ", "BMIN", "BPA")] == pytest.approx([52 / 3600, 47 / 3600, 4.5], rel=1e-12)
    assert "CASAMBM" not in header
    assert header_of(beams=NULL_BEAM)["BMAJ"] > 0.0


def test_the_number_of_beams_must_be_that_of_the_channels() -> None:
    with pytest.raises(DataError, match="6 beams for 7 channels"):
        header_of(beams=beams(6))


def test_unknown_metadata_leaves_no_cards() -> None:
    cards = CubeHeader(GEOMETRY, frequency_axis(), "Jy/beam", metadata=ProductMetadata()).cards()
    names = {text[:8].strip() for text in cards}
    assert not names & {"OBJECT", "TELESCOP", "OBSERVER", "DATE-OBS", "DATE", "OBSGEO-X", "OBSRA"}
    assert {"TIMESYS", "ORIGIN"} <= names


GOLDENS = {
    "ngc5921_briggs05_clean.image": "LSRK",
    "ngc5921_briggs05_bary_dirty.image": "BARY",
    "ngc5921_automask_clean.mask": "LSRK",
    "mosaic_briggs05_clean.image": "LSRK",
}


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_the_header_of_the_same_cube_is_that_of_casa(shared: Path, name: str) -> None:
    with gzip.open(shared / "golden" / f"{name}.fits.gz") as file:
        casa = fits.Header.fromfile(file)
    geometry = ImageGeometry(
        casa["NAXIS1"], casa["NAXIS2"], *np.radians([-casa["CDELT1"], casa["CDELT2"], casa["CRVAL1"], casa["CRVAL2"]])
    )
    freq_hz = casa["CRVAL3"] + casa["CDELT3"] * np.arange(casa["NAXIS3"])
    axis = SpectralAxis(freq_hz, np.full(len(freq_hz), abs(casa["CDELT3"])), GOLDENS[name], casa["RESTFRQ"])
    metadata = ProductMetadata(
        casa["OBJECT"], casa["TELESCOP"], casa["OBSERVER"], casa["DATE-OBS"], casa["TIMESYS"],
        observatory_m=(casa["OBSGEO-X"], casa["OBSGEO-Y"], casa["OBSGEO-Z"]),
        pointing_rad=(np.radians(casa["OBSRA"]), np.radians(casa["OBSDEC"])),
    )
    cards = CubeHeader(geometry, axis, casa["BUNIT"], metadata=metadata).cards()
    ours = fits.Header.fromstring(header_block(cards).decode("ascii"))
    unrelated = {
        "BSCALE", "BZERO", "DISTANCE", "DATE", "ORIGIN", "HISTORY", "COMMENT", "CASAMBM", "MPIPROCS", "CHNCHNKS",
        "MEMREQ", "MEMAVAIL", "USEWEIGH",
    }
    for keyword in set(casa) - unrelated:
        if isinstance(casa[keyword], float):
            assert ours[keyword] == pytest.approx(casa[keyword], rel=1e-11, abs=1e-6), keyword
        else:
            assert ours[keyword] == casa[keyword], keyword
    assert set(ours) - set(casa) <= {"ORIGIN"}
