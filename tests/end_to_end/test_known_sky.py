"""A sky that is known goes in as visibilities, summed directly; the same sky has to come out of the images."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support.imaged import Imaged, direct_dirty_image, image, peak_of
from support.simulate import (
    CO_10_HZ,
    HI_HZ,
    VLA,
    Point,
    Setup,
    lm_of,
    rewrite,
    shuffle_rows,
    simulate,
    swap_antennas,
)

from radps_mpi.constants import ARCSEC_RAD

SETUP = Setup(CO_10_HZ + 61e3 * np.arange(4))
CELL = 0.4 * ARCSEC_RAD
SKY = (Point(11 * CELL, 6 * CELL, 1.0), Point(-9 * CELL, 13 * CELL, 0.6), Point(-4 * CELL, -15 * CELL, 0.35))
"""No sign, swap or conjugate leaves this sky as it is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known_sky")


@pytest.fixture(scope="module")
def sky_set(folder: Path) -> Path:
    return simulate(folder / "sky.ms", SETUP, SKY)


@pytest.fixture(scope="module")
def sky_image(folder: Path, sky_set: Path) -> Imaged:
    return image(folder / "sky", sky_set)


@pytest.fixture(scope="module")
def centred_set(folder: Path) -> Path:
    return simulate(folder / "centred.ms", SETUP, [Point(0.0, 0.0, 1.0)])


def pixel_of(l: float, m: float, cell: float = CELL, n: int = 64) -> tuple[float, float]:  # noqa: E741
    return n // 2 - l / cell, n // 2 + m / cell


def arcsec(angle_rad: float) -> str:
    return f"{angle_rad / ARCSEC_RAD!r}arcsec"


def test_dirty_image_is_the_direct_sum_of_the_visibilities(sky_set: Path, sky_image: Imaged) -> None:
    with table(str(sky_set), ack=False) as main:
        uvw_m, data, weight = main.getcol("UVW"), main.getcol("DATA"), main.getcol("WEIGHT")
    axis = (np.arange(64) - 32) * CELL
    for chan in (0, 3):
        exact = direct_dirty_image(uvw_m, SETUP.freq_hz[chan], data[:, chan].mean(1), weight.mean(1), -axis, axis)
        assert np.abs(sky_image.planes()[chan] - exact).max() < 1e-4
        turned = exact[::-1, ::-1]
        assert np.abs(exact - turned).max() > 0.3, "a symmetric sky would hide errors of sign"


def test_clean_finds_every_source_where_it_is_with_its_flux(folder: Path, sky_set: Path) -> None:
    cleaned = image(folder / "clean", sky_set, niter=2000, threshold="1mJy", control="plane")
    model, residual = cleaned.planes("model"), cleaned.planes("residual")
    for point in SKY:
        x, y = (round(at) for at in pixel_of(point.l, point.m))
        assert model[:, y - 2 : y + 3, x - 2 : x + 3].sum(axis=(1, 2)) == pytest.approx(point.spectrum, rel=0.01)
        assert cleaned.planes()[:, y, x] == pytest.approx(point.spectrum, rel=0.01)
    assert model.sum(axis=(1, 2)) == pytest.approx(1.95, rel=5e-3)
    assert np.abs(residual).max() <= 1.01e-3


def test_flux_of_a_source_between_pixels_is_recovered_by_clean(folder: Path) -> None:
    setup = replace(SETUP, freq_hz=SETUP.freq_hz[:1])
    ms = simulate(folder / "between.ms", setup, [Point(7.4 * CELL, -5.3 * CELL, 0.8)])
    cleaned = image(folder / "between", ms, niter=500, threshold="2mJy")
    x, y, flux = peak_of(cleaned.planes()[0])
    assert flux == pytest.approx(0.8, rel=0.02)
    assert (x, y) == pytest.approx((32 - 7.4, 32 - 5.3), abs=0.02)
    assert cleaned.planes("model").sum() == pytest.approx(0.8, rel=0.02)


def test_residual_of_a_perfect_model_is_zero(folder: Path, centred_set: Path) -> None:
    cleaned = image(folder / "perfect", centred_set, niter=4, gain=1.0, control="plane", weighting="briggs")
    assert cleaned.planes("model")[:, 32, 32] == pytest.approx(1.0, abs=1e-6)
    assert np.abs(cleaned.planes("residual")).max() < 1e-4


@pytest.mark.parametrize("weighting", ["natural", "uniform", "briggs", "briggsbwtaper"])
def test_one_jansky_at_the_phase_centre_is_one_jansky_per_beam(folder: Path, centred_set: Path, weighting: str) -> None:
    dirty = image(folder / f"unit_{weighting}", centred_set, weighting=weighting)
    assert dirty.header()["BUNIT"] == "Jy/beam"
    assert dirty.planes()[:, 32, 32] == pytest.approx(1.0, abs=1e-6)
    assert dirty.planes("psf")[:, 32, 32] == pytest.approx(1.0, abs=1e-6)
    assert dirty.planes() == pytest.approx(dirty.planes("psf"), abs=2e-4)


def test_weightings_differ_and_uniform_has_the_smallest_beam(folder: Path, centred_set: Path) -> None:
    area = {}
    for weighting in ("natural", "briggs", "uniform"):
        made = image(folder / "area", centred_set, weighting=weighting, robust=0.7)
        area[weighting] = float(np.prod(made.beams()[0, :2]))
    assert area["uniform"] < 0.99 * area["briggs"] < 0.98 * area["natural"]


@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.floats(-24.0, 24.0), st.floats(-24.0, 24.0), st.floats(-2.0, 2.0), st.sampled_from(["J2000", "ICRS"]))
def test_a_source_anywhere_is_found_where_it_was_put(
    folder: Path, x: float, y: float, robust: float, frame: str
) -> None:
    cell = 0.25 * ARCSEC_RAD
    setup = replace(SETUP, freq_hz=SETUP.freq_hz[:1], field_frame=frame, with_w=True)
    path = folder / "anywhere.ms"
    shutil.rmtree(path, ignore_errors=True)
    simulate(path, setup, [Point(x * cell, y * cell, 1.0)])
    found = image(folder / "anywhere", path, cell=arcsec(cell), weighting="briggs", robust=robust)
    beam_pixels = found.beams()[0, 1] / cell
    at = peak_of(found.planes()[0])
    assert math.hypot(at[0] - (32 - x), at[1] - (32 + y)) < 0.01 * beam_pixels
    assert at[2] == pytest.approx(1.0, abs=0.01)


def test_source_one_beam_from_the_centre_is_found_within_a_hundredth_of_a_beam(folder: Path) -> None:
    beam = image(folder / "beam", simulate(folder / "beam.ms", SETUP, [Point(0, 0, 1.0)]), cell="0.2arcsec").beams()[0, 0]
    for angle in (0.3, 2.0, 4.4):
        path = folder / f"one_beam_{angle}.ms"
        l, m = beam * math.sin(angle), beam * math.cos(angle)  # noqa: E741
        found = image(folder / "one_beam", simulate(path, SETUP, [Point(l, m, 1.0)]), cell="0.2arcsec", outframe="LSRK")
        for plane in found.planes():
            x, y, flux = peak_of(plane)
            assert math.hypot(x - 32 + l / (0.5 * CELL), y - 32 - m / (0.5 * CELL)) * 0.5 * CELL < 0.01 * beam
            assert flux == pytest.approx(1.0, abs=0.01)


SHIFTED = Setup(
    HI_HZ + 24e3 * np.arange(2), VLA, correlations=("RR", "LL"), radius_m=1500.0, with_w=True, field_rad=(4.0, 0.6),
    restfreq_hz=HI_HZ,
)  # fmt: skip
FAR_CENTRE_RAD = (4.0 - math.radians(0.2) / math.cos(0.6), 0.6 + math.radians(0.15))


@pytest.mark.parametrize("frame", ["J2000", "ICRS"])
@pytest.mark.parametrize("offset", [(1.0, 0.6), (25.0, 27.0), (-27.0, 24.0)], ids=["one beam", "corner", "other corner"])
def test_position_and_flux_with_a_phase_centre_a_quarter_degree_from_the_fields(
    folder: Path, frame: str, offset: tuple[float, float]
) -> None:
    cell, (ra, dec) = 2.5 * ARCSEC_RAD, FAR_CENTRE_RAD
    source = (ra + offset[0] * cell / math.cos(dec), dec + offset[1] * cell)
    setup = replace(SHIFTED, field_frame=frame)
    path = folder / f"shifted_{frame}_{offset[0]}.ms"
    simulate(path, setup, [Point(*lm_of(setup.field_rad, *source), 1.0)])
    found = image(folder / "shifted", path, cell=arcsec(cell), phasecenter=f"{frame} {ra!r}rad {dec!r}rad")
    beam_pixels = found.beams()[0, 1] / cell
    x, y, flux = peak_of(found.planes()[0])
    expected = pixel_of(*lm_of(FAR_CENTRE_RAD, *source), cell)
    assert math.hypot(x - expected[0], y - expected[1]) < 0.01 * beam_pixels
    assert flux == pytest.approx(1.0, abs=0.01)


def test_phase_centre_in_icrs_of_a_field_in_j2000_turns_the_frames(folder: Path) -> None:
    from astropy.coordinates import SkyCoord

    cell = 0.005 * ARCSEC_RAD  # the frames differ by some 20 mas: four of these pixels
    setup = replace(SETUP, radius_m=20000.0, field_frame="J2000")
    source = (setup.field_rad[0] + 3 * cell / math.cos(setup.field_rad[1]), setup.field_rad[1] + 2 * cell)
    path = simulate(folder / "frames.ms", setup, [Point(*lm_of(setup.field_rad, *source), 1.0)])
    ra, dec = setup.field_rad
    found = image(folder / "frames", path, cell=arcsec(cell), phasecenter=f"ICRS {ra!r}rad {dec!r}rad", imsize=64)
    assert found.header()["RADESYS"] == "ICRS"
    there = SkyCoord(*source, unit="rad", frame="fk5").icrs
    expected = pixel_of(*lm_of(setup.field_rad, there.ra.rad, there.dec.rad), cell)
    shift = math.hypot(expected[0] - 29.0, expected[1] - 34.0)
    x, y, _ = peak_of(found.planes()[0])
    assert math.hypot(x - expected[0], y - expected[1]) < 0.01 * found.beams()[0, 1] / cell
    assert shift > 1.0, "the frames must differ visibly for this to be a test"


def test_right_ascension_grows_to_the_left_and_the_header_knows_where(folder: Path) -> None:
    from astropy.wcs import WCS

    ra, dec = SETUP.field_rad[0] + 10 * CELL / math.cos(SETUP.field_rad[1]), SETUP.field_rad[1] + 4 * CELL
    ms = simulate(folder / "east.ms", SETUP, [Point(*lm_of(SETUP.field_rad, ra, dec), 1.0)])
    found = image(folder / "east", ms)
    x, y, _ = peak_of(found.planes()[0])
    assert x < 32 < y
    wcs_ra, wcs_dec = WCS(found.header()).celestial.all_pix2world([[x, y]], 0)[0]
    assert wcs_ra == pytest.approx(math.degrees(ra), abs=0.01 * 1.5 / 3600)
    assert wcs_dec == pytest.approx(math.degrees(dec), abs=0.01 * 1.5 / 3600)


@pytest.mark.parametrize("angle_deg", [0.0, 35.0, 80.0, 145.0])
def test_beam_is_elongated_where_baselines_are_short_with_the_position_angle_from_north_through_east(
    folder: Path, angle_deg: float
) -> None:
    setup = replace(SETUP, squeeze=(0.3, math.radians(angle_deg)), freq_hz=SETUP.freq_hz[:1])
    ms = simulate(folder / f"beam_{angle_deg}.ms", setup, [Point(0, 0, 1.0)])
    major, minor, position_angle = image(folder / "elongated", ms).beams()[0]
    ratio, expected = _shape_of_direct_beam(ms, setup.freq_hz[0])
    off = (math.degrees(position_angle - expected) + 90.0) % 180.0 - 90.0
    assert abs(off) < 2.0
    assert major / minor == pytest.approx(ratio, rel=0.05)
    assert ratio > 1.3


def _shape_of_direct_beam(ms: Path, freq_hz: float) -> tuple[float, float]:
    """Axis ratio and position angle, from second moments of the main lobe of the direct sum above half its peak."""
    with table(str(ms), ack=False) as main:
        uvw_m, weight = main.getcol("UVW"), main.getcol("WEIGHT")[:, 0]
    axis = np.arange(-40, 41) * 0.2 * ARCSEC_RAD
    psf = direct_dirty_image(uvw_m, freq_hz, np.ones(len(uvw_m), complex), weight, axis, axis)
    labels, _ = ndimage.label(psf > 0.5)
    north, east = (axis[index] for index in np.nonzero(labels == labels[40, 40]))
    spread, axes = np.linalg.eigh(np.cov(np.stack([east, north])))
    return float(np.sqrt(spread[1] / spread[0])), float(np.arctan2(axes[0, 1], axes[1, 1]))


def test_conjugated_data_put_the_sky_upside_down(folder: Path, sky_image: Imaged) -> None:
    ms = rewrite(simulate(folder / "conjugated.ms", SETUP, SKY), lambda c: {"DATA": c["DATA"].conj()})
    turned = image(folder / "conjugated", ms).planes()
    straight = sky_image.planes()
    assert np.abs(turned[:, 1:, 1:] - straight[:, 1:, 1:][:, ::-1, ::-1]).max() < 2e-4
    assert np.abs(turned - straight).max() > 0.5


@pytest.mark.parametrize("change", [swap_antennas, shuffle_rows], ids=["swapped antennas", "rows in no order"])
def test_rows_may_be_turned_round_or_out_of_order(folder: Path, sky_image: Imaged, change: object) -> None:
    ms = rewrite(simulate(folder / f"{change.__name__}.ms", SETUP, SKY), change)  # type: ignore[attr-defined,arg-type]
    assert image(folder / "turned", ms).planes() == pytest.approx(sky_image.planes(), abs=2e-6)


@pytest.mark.parametrize("correlations", [("XX", "YY"), ("YY", "XX"), ("XX", "XY", "YX", "YY"), ("RR", "LL")])
def test_stokes_i_of_a_polarised_source_is_the_mean_of_the_hands(folder: Path, correlations: tuple[str, ...]) -> None:
    setup = replace(SETUP, correlations=correlations, polarised=0.4, freq_hz=SETUP.freq_hz[:2])
    ms = simulate(folder / f"{''.join(correlations)}.ms", setup, [Point(0, 0, 0.5)])
    made = image(folder / "hands", ms)
    assert made.planes()[:, 32, 32] == pytest.approx(0.5, abs=1e-6)
    assert made.sumwt() == pytest.approx(2.0 * _weight_of_one_hand(ms), rel=1e-5)


def _weight_of_one_hand(ms: Path) -> float:
    with table(str(ms), ack=False) as main:
        return float(main.getcol("WEIGHT")[:, 0].sum(dtype=np.float64))


def test_sets_of_one_two_and_four_correlations_make_one_image_weighted_by_information(folder: Path) -> None:
    two = replace(SETUP, freq_hz=SETUP.freq_hz[:2])
    one, four = replace(two, correlations=("YY",), ntime=8), replace(two, correlations=("XX", "XY", "YX", "YY"), ntime=5)
    point = [Point(5 * CELL, 3 * CELL, 1.0)]
    sets = [simulate(folder / f"mixed{i}.ms", s, point) for i, s in enumerate((two, one, four))]
    made = image(folder / "mixed", sets)
    assert made.planes()[:, 35, 27] == pytest.approx(1.0, abs=2e-4)
    weights = [_weight_of_one_hand(ms) for ms in sets]
    assert made.sumwt() == pytest.approx(2 * weights[0] + weights[1] + 2 * weights[2], rel=1e-5)


def test_flags_and_blank_weights_take_bad_data_out(folder: Path, sky_image: Imaged) -> None:
    def spoil(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        data, flag, weight = columns["DATA"].copy(), columns["FLAG"].copy(), columns["WEIGHT"].copy()
        data[::7, :, 0], flag[::7, :, 0] = 1e4, True
        data[3::11], weight[3::11] = -1e4, 0.0
        data[5::13, 1, 1] = np.nan
        return {"DATA": data, "FLAG": flag, "WEIGHT": weight}

    spoilt = image(folder / "spoilt", rewrite(simulate(folder / "spoilt.ms", SETUP, SKY), spoil))
    assert np.all(spoilt.sumwt() < 0.8 * sky_image.sumwt())
    for point in SKY[:1]:
        x, y = (round(at) for at in pixel_of(point.l, point.m))
        assert spoilt.planes()[:, y, x] == pytest.approx(sky_image.planes()[:, y, x], abs=0.05)
    assert np.abs(spoilt.planes()).max() < 1.2


def test_flagged_channel_is_nan_and_leaves_the_bits_of_its_neighbours(folder: Path, sky_image: Imaged) -> None:
    def flag(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns["FLAG"][:, 2] = True
        return {"FLAG": columns["FLAG"]}

    made = image(folder / "blank", rewrite(simulate(folder / "blank.ms", SETUP, SKY), flag))
    assert np.isnan(made.planes()[2]).all()
    assert made.sumwt()[2] == 0.0
    for chan in (0, 1, 3):
        assert np.array_equal(made.planes()[chan], sky_image.planes()[chan])


def test_continuum_image_of_a_flat_spectrum_has_its_flux_where_it_is(folder: Path) -> None:
    setup = replace(SETUP, freq_hz=CO_10_HZ + 100e6 * np.arange(20))  # channels of 2 GHz: one uv point won't do for all
    ms = simulate(folder / "flat.ms", setup, [Point(9.3 * CELL, -12.2 * CELL, 0.7)])
    for weighting in ("natural", "briggs"):
        made = image(folder / "mfs", ms, specmode="mfs", weighting=weighting)
        x, y, flux = peak_of(made.planes()[0])
        assert made.planes().shape == (1, 64, 64)
        assert (x, y) == pytest.approx((32 - 9.3, 32 - 12.2), abs=0.05)
        assert flux == pytest.approx(0.7, rel=5e-3)
    cleaned = image(folder / "mfs", ms, specmode="mfs", niter=300, threshold="2mJy")
    assert cleaned.planes("model").sum() == pytest.approx(0.7, rel=0.02)
    assert cleaned.freq_hz() == pytest.approx([CO_10_HZ + 950e6])


def test_primary_beam_is_centred_where_the_dishes_pointed(folder: Path) -> None:
    centre = (SETUP.field_rad[0], SETUP.field_rad[1] + 8 * ARCSEC_RAD)
    ms = simulate(folder / "pointed.ms", replace(SETUP, freq_hz=SETUP.freq_hz[:1]), [Point(0, 0, 1.0)])
    made = image(folder / "pointed", ms, cell="1arcsec", phasecenter=f"J2000 {centre[0]!r}rad {centre[1]!r}rad", pbcor=True)
    x, y, level = peak_of(made.planes("pb")[0])
    assert (x, y) == pytest.approx((32.0, 24.0), abs=0.1)
    assert level == pytest.approx(1.0, abs=1e-3)
    assert made.planes("image.pbcor")[0, 24, 32] == pytest.approx(1.0, abs=1e-2)
