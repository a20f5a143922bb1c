"""Gaussians that enclose others: exact cases, CASA's common beam, and the option that asks for it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radps_mpi.constants import ARCSEC_RAD, DEG_RAD
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.errors import UsageError
from radps_mpi.imaging.beam_algebra import beam_of, deconvolve, form_of, is_positive, minimum_enclosing_form
from radps_mpi.imaging.common_beam import common_beam
from radps_mpi.imaging.restoring_beam import parse_restoring_beam

beams = st.builds(
    lambda minor, ratio, pa: Beam(minor * ratio, minor, pa),
    st.floats(1.0, 3.0), st.floats(1.0, 4.0), st.floats(-1.5, 1.5),
)  # fmt: skip


@given(beams)
def test_form_gives_back_its_beam(beam: Beam) -> None:
    again = beam_of(form_of(beam))
    assert again is not None
    np.testing.assert_allclose(form_of(again), form_of(beam), rtol=1e-12, atol=1e-12)
    assert again.major_rad == pytest.approx(beam.major_rad)


@given(beams, beams)
def test_deconvolving_undoes_convolving(kernel: Beam, narrow: Beam) -> None:
    wide = beam_of(form_of(kernel) + form_of(narrow))
    assert wide is not None
    again = deconvolve(wide, narrow)
    assert again is not None
    np.testing.assert_allclose(form_of(again), form_of(kernel), rtol=1e-9, atol=1e-9)


def test_wider_beam_cannot_be_deconvolved_from_a_narrower_one() -> None:
    assert deconvolve(Beam(4.0, 2.0, 0.0), Beam(4.0, 2.1, 0.0)) is None
    assert deconvolve(Beam(4.0, 2.0, 0.0), Beam(3.0, 1.9, 1.0)) is None


@given(beams, beams)
def test_smallest_enclosing_ellipse_encloses_both_and_touches_them_or_is_one_of_them(first: Beam, second: Beam) -> None:
    forms = np.array([form_of(first), form_of(second)])
    enclosing = minimum_enclosing_form(*forms)
    assert is_positive(enclosing * (1.0 + 1e-9) - forms).all()
    if is_positive(forms[1] - forms[0]):
        np.testing.assert_allclose(enclosing, forms[1], atol=1e-9)
    elif is_positive(forms[0] - forms[1]):
        np.testing.assert_allclose(enclosing, forms[0], atol=1e-9)
    else:
        determinants = [form[0] * form[2] - form[1] ** 2 for form in enclosing - forms]
        np.testing.assert_allclose(determinants, 0.0, atol=1e-9 * enclosing[0] * enclosing[2])


def test_largest_beam_is_common_if_it_encloses_all() -> None:
    large = Beam(5.0, 4.0, 0.3)
    assert common_beam([Beam(3.0, 2.0, 1.0), NULL_BEAM, large, Beam(4.0, 3.9, 0.3)]) == large


def test_crossed_ellipses_need_the_circle_around_them() -> None:
    common = common_beam([Beam(5.0, 2.0, 0.0), Beam(5.0, 2.0, math.pi / 2.0)])
    assert (common.major_rad, common.minor_rad) == pytest.approx((5.005, 5.005), rel=1e-6)


def test_cube_of_blank_planes_has_a_null_common_beam() -> None:
    assert common_beam([NULL_BEAM, NULL_BEAM]) is NULL_BEAM
    assert common_beam([]) is NULL_BEAM


def test_equal_beams_are_their_own_common_beam() -> None:
    assert common_beam([Beam(5.0, 4.0, 0.3)] * 3) == Beam(5.0, 4.0, 0.3)


@given(st.lists(beams, min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_every_beam_can_be_convolved_to_the_common_one(several: list[Beam]) -> None:
    common = common_beam(several)
    assert all(beam == common or is_positive(form_of(common) - form_of(beam)) for beam in several)
    assert common.area_sr >= max(beam.area_sr for beam in several)


@pytest.mark.golden
def test_common_beam_of_casa_beams_is_casa_common_beam(shared: Path) -> None:
    golden = shared / "golden"
    planes = json.loads((golden / "ngc5921_briggs05_clean.json").read_text())["beams_arcsec_deg"]
    ((major, minor, pa_rad),) = json.loads((golden / "ngc5921_briggs05_clean_common.json").read_text())[
        "beams_arcsec_deg"
    ]
    common = common_beam([Beam(a * ARCSEC_RAD, b * ARCSEC_RAD, p * DEG_RAD) for a, b, p in planes])
    assert common.major_rad == pytest.approx(major * ARCSEC_RAD, rel=1e-10)
    assert common.minor_rad == pytest.approx(minor * ARCSEC_RAD, rel=1e-10)
    assert common.pa_rad == pytest.approx(pa_rad, rel=1e-10)  # this one entry of the goldens is in radians


def test_restoring_beam_is_read_as_tclean_reads_it() -> None:
    assert parse_restoring_beam("") == ""
    assert parse_restoring_beam([]) == ""
    assert parse_restoring_beam("common") == "common"
    assert parse_restoring_beam(["common"]) == "common"
    assert parse_restoring_beam("30arcsec") == Beam(30.0 * ARCSEC_RAD, 30.0 * ARCSEC_RAD, 0.0)
    assert parse_restoring_beam(["2arcsec", "1arcsec"]) == Beam(2.0 * ARCSEC_RAD, ARCSEC_RAD, 0.0)
    beam = parse_restoring_beam(["51arcsec", "47arcsec", "5deg"])
    assert isinstance(beam, Beam)
    assert (beam.major_rad, beam.minor_rad) == pytest.approx((51.0 * ARCSEC_RAD, 47.0 * ARCSEC_RAD))
    assert beam.pa_rad == pytest.approx(5.0 * DEG_RAD)


@pytest.mark.parametrize(
    "value",
    [
        "comon", "30", "30parsec", "-3arcsec", "0arcsec", ["47arcsec", "51arcsec", "5deg"], ["3arcsec", ""],
        ["common", "3arcsec"], ["1arcsec"] * 4, [3.0, 2.0], "nan arcsec", "30Hz",
    ],
)  # fmt: skip
def test_bad_restoring_beams_are_refused_by_the_name_of_the_option(value: str | list[str]) -> None:
    with pytest.raises(UsageError, match=r"^restoringbeam: "):
        parse_restoring_beam(value)
