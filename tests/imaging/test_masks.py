"""Mask text: which pixels belong to a region, where the sky's coordinates fall, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import UsageError
from radps_mpi.imaging.masks import UserMask, full_mask, mask_from_array, mask_from_pb, region_mask
from radps_mpi.imaging.sin_projection import pixel_of, to_frame

RA_DEG, DEC_DEG = 230.5, -35.0


def image(nx: int = 64, ny: int = 48, cell_arcsec: float = 15.0) -> ImageGeometry:
    cell = cell_arcsec * ARCSEC_RAD
    return ImageGeometry(
        nx=nx, ny=ny, cell_x_rad=cell, cell_y_rad=cell, ra_rad=RA_DEG * DEG_RAD, dec_rad=DEC_DEG * DEG_RAD
    )


def set_pixels(text: str | list[str], geometry: ImageGeometry, channel: int = 0) -> set[tuple[int, int]]:
    """(x, y) of the mask's pixels."""
    return {(int(x), int(y)) for y, x in np.argwhere(region_mask(text, geometry, channel))}


def test_circle_of_the_golden_case_has_the_pixels_of_tclean() -> None:
    # tclean's mask of ngc5921_briggs05_clean: rms 0.5535447074664002 over 256 x 256, that is 20,081 pixels.
    mask = region_mask("circle[[128pix,128pix],80pix]", image(256, 256))
    assert mask.dtype == np.uint8
    assert int(mask.sum()) == round(0.5535447074664002**2 * 256**2) == 20081
    assert mask[128, 208] == mask[128, 48] == mask[176, 192] == 1
    assert mask[128, 209] == 0


def test_box_includes_both_corners_and_order_does_not_matter() -> None:
    expected = {(x, y) for x in range(3, 8) for y in range(10, 13)}
    assert set_pixels("box[[3pix,10pix],[7pix,12pix]]", image()) == expected
    assert set_pixels("box[[7pix,10pix],[3pix,12pix]]", image()) == expected
    assert set_pixels("box[[2.4pix,9.2pix],[7.9pix,12.1pix]]", image()) == expected


def test_centerbox_and_rotbox_at_zero_agree_and_a_quarter_turn_swaps_the_sides() -> None:
    expected = {(x, y) for x in range(17, 24) for y in range(28, 33)}
    assert set_pixels("centerbox[[20pix,30pix],[6pix,4pix]]", image()) == expected
    assert set_pixels("rotbox[[20pix,30pix],[6pix,4pix],0deg]", image()) == expected
    turned = {(20 + (y - 30), 30 + (x - 20)) for x, y in expected}
    assert set_pixels("rotbox[[20pix,30pix],[6pix,4pix],90deg]", image()) == turned


def test_rotbox_turns_from_north_through_east() -> None:
    # Long side along x; turned by +30 degrees its west (right) end goes up: counter-clockwise with east on the left.
    pixels = set_pixels("rotbox[[32pix,24pix],[30pix,2pix],30deg]", image())
    assert (32 + 12, 24 + 7) in pixels
    assert (32 + 12, 24 - 7) not in pixels


def test_ellipse_is_given_by_semi_axes_with_the_angle_from_north_through_east() -> None:
    upright = set_pixels("ellipse[[32pix,24pix],[10pix,3pix],0deg]", image())
    assert {(32, 34), (32, 14), (35, 24), (29, 24)} <= upright
    assert not {(32, 35), (36, 24)} & upright
    tilted = set_pixels("ellipse[[32pix,24pix],[10pix,3pix],45deg]", image())
    assert (32 - 6, 24 + 6) in tilted
    assert (32 + 6, 24 + 6) not in tilted
    assert len(upright) == pytest.approx(math.pi * 30, rel=0.05)


def test_annulus_is_the_difference_of_two_circles() -> None:
    outer = set_pixels("circle[[30pix,20pix],10pix]", image())
    inner = set_pixels("circle[[30pix,20pix],5pix]", image())
    assert set_pixels("annulus[[30pix,20pix],[5pix,10pix]]", image()) == outer - inner


def test_polygon_includes_its_boundary_and_leaves_a_notch_out() -> None:
    square = set_pixels("poly[[2pix,2pix],[6pix,2pix],[6pix,5pix],[2pix,5pix]]", image())
    assert square == {(x, y) for x in range(2, 7) for y in range(2, 6)}
    triangle = set_pixels("poly[[10pix,10pix],[14pix,10pix],[10pix,14pix]]", image())
    assert triangle == {(x, y) for x in range(10, 15) for y in range(10, 15) if (x - 10) + (y - 10) <= 4}
    notched = set_pixels("poly[[0pix,0pix],[10pix,0pix],[10pix,10pix],[5pix,5pix],[0pix,10pix]]", image())
    assert (5, 5) in notched
    assert (5, 6) not in notched
    assert {(1, 8), (9, 8), (0, 10), (10, 10)} <= notched


def test_regions_are_united_and_a_minus_cuts_out() -> None:
    whole = set_pixels("circle[[30pix,20pix],10pix]", image())
    hole = set_pixels("circle[[30pix,20pix],5pix]", image())
    assert set_pixels(["circle[[30pix,20pix],10pix]", "-circle[[30pix,20pix],5pix]"], image()) == whole - hole
    both = set_pixels("circle[[30pix,20pix],5pix]\n+ box[[0pix,0pix],[1pix,1pix]]", image())
    assert both == hole | {(0, 0), (1, 0), (0, 1), (1, 1)}
    everything_else = set_pixels("-circle[[30pix,20pix],5pix]", image())
    assert len(everything_else) == 64 * 48 - len(hole)


def test_regions_reaching_over_the_edge_are_clipped() -> None:
    assert set_pixels("box[[-5pix,-5pix],[1pix,0pix]]", image()) == {(0, 0), (1, 0)}
    assert (63, 47) in set_pixels("circle[[63pix,47pix],100pix]", image())


def test_a_region_outside_the_image_is_refused_with_its_text() -> None:
    with pytest.raises(UsageError, match=r"circle\[\[300pix,20pix\],5pix\].*covers no pixel of the 64 x 48 image"):
        region_mask("circle[[300pix,20pix],5pix]", image())


def test_sin_projection_agrees_with_astropy_far_from_the_centre() -> None:
    from astropy.wcs import WCS

    geometry = image(512, 400, cell_arcsec=120.0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [RA_DEG, DEC_DEG]
    wcs.wcs.crpix = [geometry.nx // 2 + 1, geometry.ny // 2 + 1]
    wcs.wcs.cdelt = [-120.0 / 3600.0, 120.0 / 3600.0]
    for ra, dec in [(230.5, -35.0), (231.25, -34.2), (225.0, -38.0), (236.5, -30.5), (-129.4, -35.1)]:
        expected = wcs.wcs_world2pix([[ra, dec]], 0)[0]
        assert pixel_of(geometry, ra * DEG_RAD, dec * DEG_RAD) == pytest.approx(expected, abs=1e-8)
    assert pixel_of(geometry, (RA_DEG + 180.0) * DEG_RAD, 0.0) is None


@pytest.mark.parametrize(
    "position",
    [
        "230.6deg, -35.05deg",
        f"{230.6 * DEG_RAD!r}rad, {-35.05 * DEG_RAD!r}rad",
        "15h22m24.0s, -35d03m00.0s",
        "15:22:24.0, -35.03.00.0",
        "13836arcmin, -126180arcsec",
    ],
)
def test_all_ways_to_write_a_position_give_the_same_circle(position: str) -> None:
    geometry = image()
    x, y = pixel_of(geometry, 230.6 * DEG_RAD, -35.05 * DEG_RAD) or (0.0, 0.0)
    expected = {(i, j) for i in range(geometry.nx) for j in range(geometry.ny) if math.hypot(i - x, j - y) <= 4.0}
    assert 40 < len(expected) < 60
    assert set_pixels(f"circle[[{position}], 60arcsec]", geometry) == expected
    assert set_pixels(f"circle[[{position}], 1arcmin]", geometry) == expected


def test_sky_lengths_follow_each_axis_of_oblong_pixels() -> None:
    geometry = ImageGeometry(64, 64, 10 * ARCSEC_RAD, 20 * ARCSEC_RAD, RA_DEG * DEG_RAD, DEC_DEG * DEG_RAD)
    pixels = set_pixels(f"circle[[{RA_DEG}deg,{DEC_DEG}deg],100arcsec]", geometry)
    assert {(42, 32), (22, 32), (32, 37), (32, 27)} <= pixels
    assert not {(43, 32), (32, 38)} & pixels


def test_a_position_in_another_frame_is_converted() -> None:
    from astropy.coordinates import SkyCoord

    there = SkyCoord(RA_DEG, DEC_DEG, unit="deg", frame="fk5").galactic
    text = f"circle[[{there.l.deg}deg,{there.b.deg}deg],3pix], coord=GALACTIC"
    assert set_pixels(text, image()) == set_pixels("circle[[32pix,24pix],3pix]", image())
    assert to_frame(1.0, 0.5, "ICRS", "J2000") == pytest.approx((1.0, 0.5), abs=1e-6)
    assert to_frame(1.0, 0.5, "J2000", "J2000") == (1.0, 0.5)


def test_lines_of_a_region_file_are_understood() -> None:
    text = """#CRTFv0 CASA Region Text Format version 0
    global coord=J2000, color=red, corr=[I]
    circle[[230.5deg, -35deg], 45arcsec] linewidth=2, label='the source, east'
    ann box[[0pix,0pix],[5pix,5pix]]
    """
    assert set_pixels(text, image()) == set_pixels("circle[[32pix,24pix],3pix]", image())


def test_a_channel_range_includes_both_ends() -> None:
    mask = UserMask.parse(["circle[[30pix,20pix],3pix], range=[2chan, 4 chan]", "box[[0pix,0pix],[1pix,1pix]]"])
    counts = [int(mask.draw(image(), channel).sum()) for channel in range(6)]
    assert mask.depends_on_channel
    assert counts == [4, 4, 33, 33, 33, 4]
    assert not UserMask.parse("circle[[30pix,20pix],3pix]").depends_on_channel


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("circel[[1pix,1pix],2pix]", "can't read 'circel'.*expected one of circle, annulus"),
        ("circle[[1pix,1pix],2pix", "as many '\\]' as '\\['"),
        ("circle[[1pix,1pix]]", r"expected circle\[\[x, y\], r\]"),
        ("circle[1pix,1pix,2pix]", r"expected circle\[\[x, y\], r\]"),
        ("circle[[128,128],2pix]", "can't read '128'.*a position such as 128pix"),
        ("circle[[1pix,1pix],2furlong]", "can't read '2furlong'.*a length such as 80pix"),
        ("circle[[1pix,1pix],-2pix]", "can't read '-2pix'.*a length"),
        ("circle[[1pix,5deg],2pix]", "both coordinates in pix or both on the sky"),
        ("circle[[15h22m00s,-35:00:00],2pix]", "can't read '-35:00:00'.*colons as hours"),
        ("circle[[15h61m00s,-35deg],2pix]", "can't read '15h61m00s'"),
        ("annulus[[1pix,1pix],[3pix,2pix]]", "an inner radius smaller than the outer"),
        ("ellipse[[9pix,9pix],[3pix,2arcsec],0deg]", "both lengths in pix or both in angular units"),
        ("rotbox[[9pix,9pix],[3pix,2pix],4pix]", "can't read '4pix'.*a position angle"),
        ("poly[[1pix,1pix],[2pix,2pix]]", r"expected poly\[\[x1, y1\]"),
        ("circle[[1pix,1pix],2pix], coord=MARS", "can't read 'coord=MARS'.*J2000"),
        ("circle[[1pix,1pix],2pix], range=[1GHz,2GHz]", "image channels in ascending order"),
        ("circle[[1pix,1pix],2pix], range=[5chan,2chan]", "image channels in ascending order"),
        ("circle[[1pix,1pix],2pix], colour=red", "can't read 'colour'.*coord and range"),
        ("circle[[1pix,1pix],2pix] nonsense", "can't read 'nonsense'.*keyword=value"),
        ("mask.fits", "can't read 'mask.fits'; expected one of circle"),
        ("", "holds no region"),
    ],
)
def test_malformed_text_is_refused_with_the_piece_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        region_mask(text, image())


def test_a_region_behind_the_observer_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 90 degrees"):
        region_mask("circle[[50deg,35deg],1deg]", image())


def test_primary_beam_mask_is_where_the_beam_is_above_the_level() -> None:
    pb = np.array([[0.1, 0.2, 0.5], [np.nan, 1.0, 0.19]], np.float32)
    assert mask_from_pb(pb, 0.2).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert mask_from_pb(pb, 0.0).tolist() == [[1, 1, 1], [0, 1, 1]]
    assert int(full_mask(image()).sum()) == 64 * 48


def test_a_mask_image_counts_above_one_half_and_must_have_the_images_size() -> None:
    values = np.zeros((48, 64))
    values[3, 4], values[5, 6], values[7, 8] = 1.0, 0.5, np.nan
    assert np.argwhere(mask_from_array(values, image())).tolist() == [[3, 4]]
    with pytest.raises(UsageError, match="mask image is 48 x 64 pixels; the image has 64 x 48"):
        mask_from_array(values.T, image())
