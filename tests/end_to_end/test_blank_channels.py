"""Channels without good data are NaN planes that poison nothing, in cubes that casacore and spectral-cube open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from support import jobs

pytestmark = pytest.mark.launches_mpi

FIRST, NCHAN = 8, 20
CUBE = {
    "imsize": 64, "cell": "30arcsec", "nchan": NCHAN, "start": FIRST, "width": 1, "weighting": "briggs", "control": "plane",
    "niter": 2000, "cycleniter": 40, "nmajor": 1, "threshold": "8mJy", "pblimit": -0.2,
}  # fmt: skip
COMMON = CUBE | {"niter": 0, "restoringbeam": "common", "products": ["image"]}

FLAGGED, NAN, WEIGHTLESS, SPOILT = 12, 15, 17, 22
"""Native channels, of which image channel k shows FIRST + k alone: all flagged; all data NaN; all weights zero; a quarter of
the rows infinite."""
BLANK = [chan - FIRST for chan in (FLAGGED, NAN, WEIGHTLESS)]
KEPT = [chan for chan in range(NCHAN) if chan not in BLANK]


def spoil(path: Path, *, spoilt_is_flagged: bool) -> None:
    """Break channels of a MeasurementSet."""
    from casacore.tables import table

    with table(str(path), readonly=False, ack=False) as main:
        flag, data, weight = main.getcol("FLAG"), main.getcol("DATA"), main.getcol("WEIGHT_SPECTRUM")
        flag[:, FLAGGED] = True
        data[:, NAN] = np.nan
        weight[:, WEIGHTLESS] = 0.0
        if spoilt_is_flagged:
            flag[::4, SPOILT] = True
        else:
            data[::8, SPOILT] = np.inf
            data[4::8, SPOILT, 0] = np.nan
        main.putcol("FLAG", flag)
        main.putcol("DATA", data)
        main.putcol("WEIGHT_SPECTRUM", weight)


@pytest.fixture(scope="module")
def cubes(galaxy: Path, galaxy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cubes of the set as it is (sound), with broken channels (broken), with the spoilt rows flagged (flagged)."""
    folder = tmp_path_factory.mktemp("blank")
    work = [{"inputs": [str(galaxy_store)], "imagename": str(folder / "sound"), **CUBE}]
    for name in ("broken", "flagged"):
        shutil.copytree(galaxy, folder / f"{name}.ms")
        spoil(folder / f"{name}.ms", spoilt_is_flagged=name == "flagged")
        work.append({"inputs": [str(folder / f"{name}.ms")], "imagename": str(folder / name), **CUBE})
    work.append({"inputs": [str(folder / "broken.ms")], "imagename": str(folder / "common"), **COMMON})
    (folder / "work.json").write_text(json.dumps(work))
    done = jobs.run_script("cubes_job.py", [folder / "work.json"], ranks=2, timeout=240)
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def pixels(path: Path) -> np.ndarray:
    data: np.ndarray = fits.getdata(path)
    return data[0]


@pytest.mark.parametrize("product", ["image", "residual", "model", "psf"])
def test_a_channel_without_good_data_is_nan_and_its_neighbours_keep_their_bits(cubes: Path, product: str) -> None:
    broken, sound = pixels(cubes / f"broken.{product}.fits"), pixels(cubes / f"sound.{product}.fits")
    assert np.isnan(broken[BLANK]).all()
    untouched = [chan for chan in KEPT if chan != SPOILT - FIRST]
    assert broken[untouched].tobytes() == sound[untouched].tobytes()
    assert np.isfinite(broken[untouched]).all()


@pytest.mark.parametrize("product", ["image", "residual", "model", "psf", "sumwt"])
def test_values_that_are_not_finite_count_as_flagged(cubes: Path, product: str) -> None:
    chan = SPOILT - FIRST
    broken, flagged = pixels(cubes / f"broken.{product}.fits"), pixels(cubes / f"flagged.{product}.fits")
    assert broken[chan].tobytes() == flagged[chan].tobytes()
    assert broken[chan].tobytes() != pixels(cubes / f"sound.{product}.fits")[chan].tobytes()
    assert np.isfinite(broken[chan]).all()


def test_the_sum_of_weights_of_a_blank_channel_is_zero(cubes: Path) -> None:
    sumwt = pixels(cubes / "broken.sumwt.fits")[:, 0, 0]
    assert (sumwt[BLANK] == 0.0).all() and (sumwt[KEPT] > 0.0).all()


@pytest.mark.parametrize("product", ["image", "psf"])
def test_the_beam_of_a_blank_channel_is_tiny_but_positive(cubes: Path, product: str) -> None:
    table, sound = (fits.getdata(cubes / f"{name}.{product}.fits", "BEAMS") for name in ("broken", "sound"))
    for axis in ("BMAJ", "BMIN"):
        assert (table[axis][BLANK] > 0.0).all() and (table[axis][BLANK] < 1e-3).all()
        untouched = [chan for chan in KEPT if chan != SPOILT - FIRST]
        assert (table[axis][untouched] == sound[axis][untouched]).all() and (table[axis][untouched] > 40.0).all()


def test_the_common_beam_ignores_blank_channels(cubes: Path) -> None:
    common = fits.getdata(cubes / "common.image.fits", "BEAMS")
    own = fits.getdata(cubes / "broken.image.fits", "BEAMS")
    assert len(set(common["BMAJ"][KEPT])) == len(set(common["BMIN"][KEPT])) == 1
    assert own["BMAJ"][KEPT].max() <= common["BMAJ"][KEPT][0] < 1.05 * own["BMAJ"][KEPT].max()
    assert np.isfinite(pixels(cubes / "common.image.fits")[KEPT]).all()


def test_blank_channels_are_listed_on_stderr(cubes: Path) -> None:
    lines = [line for line in (cubes / "stderr").read_text().splitlines() if ": blank (" in line]
    assert lines == ["radps: channels 4, 7, 9: blank (no data, NaN)"] * 3


def test_casacore_opens_the_cube_with_blank_channels(cubes: Path) -> None:
    from casacore.images import image

    opened = image(str(cubes / "broken.image.fits"))
    assert opened.shape() == [1, NCHAN, 64, 64]
    planes = np.ma.filled(opened.getdata()[0], np.nan)
    expected = pixels(cubes / "broken.image.fits")
    assert np.array_equal(planes[KEPT], expected[KEPT])
    assert opened.coordinates().get_coordinate("spectral").get_frame() == "LSRK"


def test_spectral_cube_opens_the_cube_with_blank_channels(cubes: Path) -> None:
    import astropy.units as u
    from spectral_cube import SpectralCube

    cube = SpectralCube.read(cubes / "broken.image.fits")
    assert cube.shape == (NCHAN, 64, 64)
    beams = cube.beams if hasattr(cube, "beams") else cube.unmasked_beams
    assert len(beams) == NCHAN
    header = fits.getheader(cubes / "broken.image.fits")
    first_hz = header["CRVAL3"] + (1 - header["CRPIX3"]) * header["CDELT3"]
    assert abs(cube.spectral_axis[0].to_value(u.Hz) - first_hz) < 1.0
    spectrum = np.array([float(cube.unmasked_data[chan].max().value) for chan in KEPT])
    assert np.array_equal(spectrum, pixels(cubes / "broken.image.fits")[KEPT].max(axis=(1, 2)))
