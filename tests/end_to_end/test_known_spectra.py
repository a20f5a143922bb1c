"""Lines of known frequency, flux and shape, observed from a turning and orbiting Earth, have to come out where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.imaged import Imaged, centroid, image
from support.simulate import CO_10_HZ, Point, Setup, doppler_factors, gaussian_line, simulate, times_s

from radps_mpi.constants import SPEED_OF_LIGHT_M_S

BROAD_HZ = 488e3
"""Channels of 1.27 km/s: the band of 122 km/s holds a line at whatever time of the year."""
BROAD = Setup(CO_10_HZ + BROAD_HZ * np.arange(-48, 48), ntime=4, nantenna=6, field_rad=(1.2, -0.2))
LATER = "2012-06-29T00:00:00"
LINE_HZ = CO_10_HZ + 0.37 * BROAD_HZ
FWHM_HZ = 4.0 * BROAD_HZ
CELL = "1arcsec"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known_spectra")


def point(frame: str, peak_jy: float = 0.5) -> list[Point]:
    return [Point(0.0, 0.0, gaussian_line(LINE_HZ, FWHM_HZ, peak_jy), frame)]


@pytest.fixture(scope="module")
def two_dates(folder: Path) -> dict[str, list[Path]]:
    """A line at rest in LSRK, and one at rest in BARY, each in two topocentric executions 120 days apart."""
    setups = {"march": BROAD, "june": replace(BROAD, start=LATER)}
    return {
        frame: [simulate(folder / f"{frame}_{date}.ms", setup, point(frame)) for date, setup in setups.items()]
        for frame in ("LSRK", "BARY")
    }


def spectrum(made: Imaged) -> NDArray[np.float32]:
    ny, nx = made.planes().shape[1:]
    return made.planes()[:, ny // 2, nx // 2]


def cube(prefix: Path, sets: Path | list[Path], **parameters: object) -> Imaged:
    return image(prefix, sets, **{"imsize": 16, "cell": CELL, "products": ["image", "sumwt"]} | parameters)


LINE_INTEGRAL_HZ = 0.5 * FWHM_HZ * np.sqrt(np.pi / (4.0 * np.log(2.0)))


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("frame", ["LSRK", "BARY"])
def test_line_in_topocentric_data_of_two_dates_lines_up_in_a_frame_at_rest(
    folder: Path, two_dates: dict[str, list[Path]], frame: str, interpolation: str
) -> None:
    made = cube(folder / "lined_up", two_dates[frame], outframe=frame, interpolation=interpolation)
    assert made.header()["SPECSYS"] == {"LSRK": "LSRK", "BARY": "BARYCENT"}[frame]
    off = (centroid(spectrum(made), made.freq_hz()) - LINE_HZ) / BROAD_HZ
    assert abs(off) < 0.1
    assert np.nansum(spectrum(made)) * made.header()["CDELT3"] == pytest.approx(LINE_INTEGRAL_HZ, rel=0.02)
    assert np.nanmax(spectrum(made)) > 0.5 * (0.95 if interpolation == "linear" else 0.92)


def test_the_two_dates_move_the_line_by_many_channels_in_the_topocentric_frame(
    folder: Path, two_dates: dict[str, list[Path]]
) -> None:
    at = []
    for ms in two_dates["LSRK"]:
        made = cube(folder / "topo", ms)
        at.append(centroid(spectrum(made), made.freq_hz()))
    assert abs(at[1] - at[0]) > 10 * BROAD_HZ


def test_order_of_the_executions_moves_the_grid_but_not_the_line(folder: Path, two_dates: dict[str, list[Path]]) -> None:
    centroids = []
    for sets in (two_dates["LSRK"], two_dates["LSRK"][::-1]):
        made = cube(folder / "order", sets, outframe="LSRK")
        centroids.append(centroid(spectrum(made), made.freq_hz()))
    assert centroids[0] == pytest.approx(centroids[1], abs=0.02 * BROAD_HZ)


def test_narrow_line_is_not_smeared_by_the_turning_earth(folder: Path) -> None:
    width_hz = 30e3
    setup = replace(BROAD, freq_hz=CO_10_HZ + width_hz * np.arange(-128, 128) + 4.0e6, ntime=12, interval_s=2700.0)
    line = gaussian_line(CO_10_HZ, 4 * width_hz, 1.0)
    drift = np.ptp(doppler_factors(setup, "LSRK")) * CO_10_HZ / width_hz
    middle = CO_10_HZ / float(np.mean(doppler_factors(setup, "LSRK")))
    setup = replace(setup, freq_hz=middle + width_hz * np.arange(-24, 24))
    ms = simulate(folder / "narrow.ms", setup, [Point(0.0, 0.0, line, "LSRK")])
    made = cube(folder / "narrow", ms, outframe="LSRK")
    assert drift > 3.0
    assert np.nanmax(spectrum(made)) > 0.95
    assert abs(centroid(spectrum(made), made.freq_hz()) - CO_10_HZ) < 0.1 * width_hz
    topo = cube(folder / "narrow", ms)
    assert np.nanmax(spectrum(topo)) < 0.85


def test_descending_channels_give_the_same_ascending_cube(folder: Path, two_dates: dict[str, list[Path]]) -> None:
    downwards = replace(BROAD, freq_hz=BROAD.freq_hz[::-1].copy())
    ms = simulate(folder / "downwards.ms", downwards, point("LSRK"))
    made = cube(folder / "downwards", ms, outframe="LSRK")
    straight = cube(folder / "upwards", two_dates["LSRK"][0], outframe="LSRK")
    assert made.header()["CDELT3"] > 0
    assert made.freq_hz() == pytest.approx(straight.freq_hz(), rel=1e-12)
    assert spectrum(made) == pytest.approx(spectrum(straight), abs=1e-6)


@pytest.mark.parametrize(("frame", "outframe"), [("LSRK", "LSRK"), ("BARY", "BARY"), ("TOPO", "")])
def test_channels_are_not_moved_where_the_data_are_declared_in_the_frame_of_the_cube(
    folder: Path, frame: str, outframe: str
) -> None:
    setup = replace(BROAD, frame=frame, freq_hz=CO_10_HZ + BROAD_HZ * np.arange(-10, 10))
    ms = simulate(folder / f"declared_{frame}.ms", setup, point(""))
    made = cube(folder / "declared", ms, outframe=outframe)
    assert made.freq_hz() == pytest.approx(setup.freq_hz, rel=1e-12)
    assert spectrum(made) == pytest.approx(gaussian_line(LINE_HZ, FWHM_HZ, 0.5)(setup.freq_hz), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("veltype", ["radio", "optical"])
def test_line_is_at_its_velocity_in_the_product_as_spectral_cube_reads_it(
    folder: Path, two_dates: dict[str, list[Path]], veltype: str
) -> None:
    """spectral_cube only approximates an axis of wavelengths when asked to convert it, so the optical axis is read as it is."""
    from astropy import units
    from spectral_cube import SpectralCube

    axis = {"outframe": "LSRK", "veltype": veltype, "start": "-30km/s", "width": "1.4km/s", "nchan": 44}
    made = cube(folder / veltype, two_dates["LSRK"], **axis)
    opened = SpectralCube.read(f"{made.prefix}.image.fits", use_dask=False)
    if veltype == "radio":
        opened = opened.with_spectral_unit(units.km / units.s, velocity_convention="radio", rest_value=CO_10_HZ * units.Hz)
    values = opened.spectral_axis.to_value("km/s")
    assert values == pytest.approx(-30 + 1.4 * np.arange(44), abs=1e-3)
    ratio = LINE_HZ / CO_10_HZ
    true_km_s = SPEED_OF_LIGHT_M_S / 1e3 * ((1 - ratio) if veltype == "radio" else (1 / ratio - 1))
    assert centroid(spectrum(made), values) == pytest.approx(true_km_s, abs=0.14)
    integral_km_s = np.nansum(spectrum(made)) * 1.4
    assert integral_km_s == pytest.approx(LINE_INTEGRAL_HZ / CO_10_HZ * SPEED_OF_LIGHT_M_S / 1e3, rel=0.02)


def test_axis_may_run_downwards_in_frequency(folder: Path, two_dates: dict[str, list[Path]]) -> None:
    made = cube(folder / "down", two_dates["LSRK"][0], outframe="LSRK", width=-1)
    up = cube(folder / "up", two_dates["LSRK"][0], outframe="LSRK")
    assert made.header()["CDELT3"] < 0
    assert spectrum(made)[::-1] == pytest.approx(spectrum(up), abs=1e-6)


NATIVE_HZ = 122e3
BAND = Setup(CO_10_HZ + NATIVE_HZ * np.arange(-30, 30), ntime=4, nantenna=6)
BAND_FWHM_HZ = 9 * NATIVE_HZ


@pytest.fixture(scope="module")
def band(folder: Path) -> Path:
    line = gaussian_line(CO_10_HZ + 0.3 * NATIVE_HZ, BAND_FWHM_HZ, 0.5)
    return simulate(folder / "band.ms", BAND, [Point(0.0, 0.0, line)])


@pytest.fixture(scope="module")
def ramp(folder: Path) -> Path:
    """A source whose flux grows by 10 mJy per native channel."""
    return simulate(folder / "ramp.ms", BAND, [Point(0.0, 0.0, ramp_jy)])


def ramp_jy(freq_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 + 0.01 * (freq_hz - CO_10_HZ) / NATIVE_HZ


@pytest.mark.parametrize("ratio", [2.0, 2.46, 3.7])
def test_integrated_flux_of_a_line_is_conserved_in_wide_channels(folder: Path, band: Path, ratio: float) -> None:
    width_km_s = ratio * NATIVE_HZ / CO_10_HZ * SPEED_OF_LIGHT_M_S / 1e3
    nchan = int(52 / ratio)
    start_km_s = -width_km_s * (nchan - 1) / 2
    made = cube(folder / "wide", band, start=f"{start_km_s!r}km/s", width=f"{width_km_s!r}km/s", nchan=nchan)
    true_jy_km_s = 0.5 * BAND_FWHM_HZ * np.sqrt(np.pi / (4 * np.log(2))) / CO_10_HZ * SPEED_OF_LIGHT_M_S / 1e3
    assert float(spectrum(made).sum()) * width_km_s == pytest.approx(true_jy_km_s, rel=0.02)
    assert centroid(spectrum(made), made.freq_hz()) == pytest.approx(CO_10_HZ + 0.3 * NATIVE_HZ, abs=0.1 * NATIVE_HZ)


@pytest.mark.parametrize("ratio", [2.0, 2.46, 3.7])
def test_wide_channels_use_every_native_channel_once(folder: Path, band: Path, ratio: float) -> None:
    native = cube(folder / "native", band)
    width_hz = ratio * NATIVE_HZ
    nchan = int(np.ceil(62 / ratio))  # beyond the band on both sides: its last channels count as well
    start_hz = CO_10_HZ - 0.5 * NATIVE_HZ - 0.5 * width_hz * (nchan - 1)
    made = cube(folder / "whole", band, start=f"{start_hz!r}Hz", width=f"{width_hz!r}Hz", nchan=nchan)
    assert made.sumwt().sum(dtype=float) == pytest.approx(native.sumwt().sum(dtype=float), rel=1e-6)
    assert np.median(made.sumwt()) == pytest.approx(ratio * np.median(native.sumwt()), rel=1e-6)


def test_tcleans_binning_drops_data_and_says_so(folder: Path, band: Path) -> None:
    made = cube(folder / "floor", band, start=f"{CO_10_HZ!r}Hz", width=f"{2.46 * NATIVE_HZ!r}Hz", nchan=4, binning="tclean")
    native = cube(folder / "native", band, nchan=4)
    assert np.median(made.sumwt()) == pytest.approx(2 * np.median(native.sumwt()), rel=1e-6)
    assert "19 % of the data are not used" in made.log()


def test_channels_narrower_than_native_ones_are_interpolated_linearly(folder: Path, ramp: Path) -> None:
    start_hz = CO_10_HZ - 0.9 * NATIVE_HZ
    made = cube(folder / "narrower", ramp, start=f"{start_hz!r}Hz", width=f"{0.3 * NATIVE_HZ!r}Hz", nchan=9)
    assert spectrum(made) == pytest.approx(ramp_jy(start_hz + 0.3 * NATIVE_HZ * np.arange(9)), abs=2e-6)


def test_nearest_takes_the_nearest_native_channel(folder: Path, ramp: Path) -> None:
    axis = {"start": f"{CO_10_HZ!r}Hz", "width": f"{0.3 * NATIVE_HZ!r}Hz", "nchan": 9}
    made = cube(folder / "steps", ramp, interpolation="nearest", **axis)
    steps = np.rint(0.3 * np.arange(9))  # 0, .3, .6 -> 0, 0, 1
    assert spectrum(made) == pytest.approx(1.0 + 0.01 * steps, abs=2e-6)


def test_channels_outside_the_data_are_blank_and_the_requested_axis_stays(folder: Path, ramp: Path) -> None:
    start_hz = float(BAND.freq_hz[0]) - 3 * NATIVE_HZ
    made = cube(folder / "outside", ramp, start=f"{start_hz!r}Hz", width=f"{NATIVE_HZ!r}Hz", nchan=70)
    assert made.freq_hz() == pytest.approx(start_hz + NATIVE_HZ * np.arange(70), rel=1e-12)
    blank = np.isnan(made.planes()).all(axis=(1, 2))
    assert np.flatnonzero(blank).tolist() == [0, 1, 2, *range(63, 70)]
    assert np.flatnonzero(made.sumwt() == 0).tolist() == np.flatnonzero(blank).tolist()
    assert "channels 0-2, 63-69: blank" in made.log()


@pytest.fixture(scope="module")
def staggered(folder: Path) -> list[Path]:
    """Two executions in one frame whose bands overlap by 20 of 30 channels."""
    setups = [replace(BAND, freq_hz=CO_10_HZ + NATIVE_HZ * np.arange(first, first + 30)) for first in (0, 10)]
    return [simulate(folder / f"staggered{i}.ms", s, [Point(0, 0, ramp_jy)]) for i, s in enumerate(setups)]


def test_default_axis_covers_what_all_inputs_cover_or_what_any_covers(folder: Path, staggered: list[Path]) -> None:
    common = cube(folder / "common", staggered)
    union = cube(folder / "union", staggered, coverage="union")
    native = CO_10_HZ + NATIVE_HZ * np.arange(40)
    assert common.freq_hz() == pytest.approx(native[10:30], rel=1e-12)
    assert union.freq_hz() == pytest.approx(native, rel=1e-12)
    assert spectrum(union) == pytest.approx(ramp_jy(native), abs=2e-6)
    assert union.sumwt()[[0, 20, 39]] == pytest.approx(common.sumwt()[0] * np.array([0.5, 1.0, 0.5]), rel=1e-5)


def test_channels_with_little_data_are_marked_as_edges(folder: Path, staggered: list[Path]) -> None:
    marked = cube(folder / "edges", staggered, coverage="union", edge_fraction=0.7)
    assert "channels 0-9, 30-39: edges" in marked.log()
    assert ": edges" not in cube(folder / "unmarked", staggered, coverage="union").log()


@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.7])
def test_residual_of_a_modelled_line_is_zero_across_dates_and_widths(
    folder: Path, two_dates: dict[str, list[Path]], ratio: float
) -> None:
    """One source at a pixel's centre with a flat spectrum: a single iteration of gain 1 takes all of it."""
    sets = [
        simulate(folder / f"flat_{ratio}_{i}.ms", replace(BROAD, start=start), [Point(0.0, 0.0, 1.0)])
        for i, start in enumerate((BROAD.start, LATER))
    ]
    made = image(
        folder / "flat", sets, imsize=32, cell="0.5arcsec", outframe="LSRK", nchan=8, niter=8, gain=1.0, control="plane",
        start=f"{CO_10_HZ!r}Hz", width=f"{ratio * BROAD_HZ!r}Hz",
    )  # fmt: skip
    assert made.planes("model")[:, 16, 16] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(made.planes("residual")).max() < 1e-4


def test_channels_are_selected_by_spw(folder: Path, ramp: Path) -> None:
    made = cube(folder / "some", ramp, spw="0:10~19")
    assert made.freq_hz() == pytest.approx(BAND.freq_hz[10:20], rel=1e-12)
    assert spectrum(made) == pytest.approx(ramp_jy(BAND.freq_hz[10:20]), abs=2e-6)
    gap = cube(folder / "gap", ramp, spw="0:10~12;16~19")
    assert np.flatnonzero(gap.sumwt() == 0).tolist() == [3, 4, 5]


def test_rows_are_selected_by_length_antenna_time_and_scan(folder: Path, ramp: Path) -> None:
    from casacore.tables import table

    with table(str(ramp), ack=False) as main:
        uvw_m, weight = main.getcol("UVW"), main.getcol("WEIGHT")[:, 0]
        scan, time, one, two = (main.getcol(name) for name in ("SCAN_NUMBER", "TIME", "ANTENNA1", "ANTENNA2"))
    length_m = np.hypot(uvw_m[:, 0], uvw_m[:, 1])
    expected = {
        ("uvrange", ">100m"): length_m > 100.0,
        ("uvrange", "0~30klambda"): length_m < 30e3 * SPEED_OF_LIGHT_M_S / BAND.freq_hz[0],
        ("antenna", "A02"): (one == 2) | (two == 2),
        ("antenna", "!A02"): (one != 2) & (two != 2),
        ("timerange", "2012/03/01/00:00:30~2012/03/01/00:02:30"): (time > times_s(BAND)[0]) & (time < times_s(BAND)[3]),
        ("scan", "1"): scan == 1,
    }
    for (name, value), rows in expected.items():
        made = cube(folder / "rows", ramp, spw="0:0~1", **{name: value})
        assert rows.sum() > 0
        assert made.sumwt() == pytest.approx(2.0 * weight[rows].sum(), rel=1e-5), (name, value)
        assert spectrum(made) == pytest.approx(ramp_jy(BAND.freq_hz[:2]), abs=2e-6)


def test_dropping_short_baselines_sharpens_the_beam(folder: Path, ramp: Path) -> None:
    options = {"imsize": 64, "cell": "0.4arcsec", "spw": "0:0~1"}
    everything, long_ones = image(folder / "all", ramp, **options), image(folder / "long", ramp, uvrange=">80m", **options)
    assert np.prod(long_ones.beams()[0, :2]) < 0.8 * np.prod(everything.beams()[0, :2])
