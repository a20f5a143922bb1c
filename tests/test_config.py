"""Parameters of a run: what is accepted, what is refused and how, and how a configuration is written back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from radps_mpi import config
from radps_mpi.config import RunConfig
from radps_mpi.errors import UsageError
from radps_mpi.units import Direction, Quantity

LEAST = {"imagename": "runs/a", "imsize": 256, "cell": "15arcsec"}


def make(**parameters: Any) -> RunConfig:
    return RunConfig.from_flat({**LEAST, **parameters})


def refusal(**parameters: Any) -> str:
    with pytest.raises(UsageError) as caught:
        make(**parameters)
    return str(caught.value)


def test_defaults_are_those_of_the_handbook() -> None:
    flat = make().flat()
    expected = {
        "specmode": "cube", "outframe": "LSRK", "interpolation": "linear", "datacolumn": "auto", "weighting": "natural",
        "robust": 0.5, "niter": 0, "gain": 0.1, "threshold": "0Jy", "cycleniter": -1, "cyclefactor": 1.0,
        "minpsffraction": 0.05, "maxpsffraction": 0.8, "nmajor": -1, "pblimit": 0.2, "pbcor": False, "phasecenter": "",
        "epsilon": 1e-4, "control": "global", "binning": "overlap", "coverage": "intersection", "usemask": "user",
        "pb_model": "casa", "stokes": "I", "keep_state": False, "overwrite": False, "wterm": "check", "nchan": -1,
    }
    assert {name: flat[name] for name in expected} == expected
    assert flat["products"] == ("image", "residual", "model", "psf", "pb", "sumwt", "mask")


def test_every_name_of_tclean_that_the_handbook_lists_is_a_parameter() -> None:
    names = """field spw intent scan antenna timerange uvrange observation datacolumn specmode nchan start width
        outframe restfreq interpolation imsize cell phasecenter stokes weighting robust niter gain threshold cycleniter
        cyclefactor minpsffraction maxpsffraction nmajor mask usemask pbmask pblimit pbcor restoringbeam"""
    assert set(names.split()) <= set(config.parameters())


def test_every_parameter_belongs_to_one_section_and_says_what_it_is() -> None:
    names = [name for kind in config.sections().values() for name in kind.model_fields]
    assert len(names) == len(set(names))
    assert all(info.description for info in config.parameters().values())


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        make().image.epsilon = 1e-5  # type: ignore[misc]


def test_quantities_keep_their_text_and_give_si() -> None:
    made = make(cell=["15arcsec", "0.5arcmin"], threshold="8mJy", start="1400km/s", width="-20 km/s",
                restfreq="1420.405752MHz", memory_per_rank="2GB")
    assert made.image.cell == ("15arcsec", "0.5arcmin")
    assert made.image.cell_rad == pytest.approx((math.radians(15 / 3600), math.radians(30 / 3600)))
    assert made.deconvolution.threshold_jy == 0.008
    assert made.spectral.start_at == Quantity(1_400_000.0, "velocity", "1400km/s")
    assert made.spectral.width_by == Quantity(-20_000.0, "velocity", "-20 km/s")
    assert made.spectral.restfreq_hz == 1_420_405_752.0
    assert made.parallel.memory_per_rank_bytes == 2_000_000_000


def test_what_the_data_decide_is_none() -> None:
    made = make()
    assert made.spectral.start_at is None
    assert made.spectral.width_by is None
    assert made.spectral.restfreq_hz is None
    assert made.image.centre is None
    assert made.parallel.memory_per_rank_bytes is None
    assert made.deconvolution.restoring_beam_rad is None


def test_channel_numbers_are_told_from_quantities_also_in_text() -> None:
    assert make(start=5).spectral.start_at == 5
    assert make(start="5").spectral.start_at == 5
    assert make(width="-2").spectral.width_by == -2
    assert make(start="1.4GHz").spectral.start_at == Quantity(1.4e9, "frequency", "1.4GHz")


def test_bare_numbers_have_the_units_of_tclean() -> None:
    made = make(cell=15, threshold=0.008)
    assert made.image.cell == ("15arcsec", "15arcsec")
    assert made.deconvolution.threshold_jy == 0.008


def test_one_size_is_for_both_axes_and_two_are_x_and_y() -> None:
    assert make(imsize="256").image.imsize == (256, 256)
    made = make(imsize=["256", "128"]).image
    assert (made.nx, made.ny) == (256, 128)


def test_the_phase_centre_is_a_field_id_or_a_direction() -> None:
    assert make(phasecenter=2).image.centre == 2
    assert make(phasecenter="0").image.centre == 0
    assert make(phasecenter="ICRS 0deg 0deg").image.centre == Direction(0.0, 0.0, "ICRS")


def test_restoring_beams_are_common_or_one_size_or_three_angles() -> None:
    assert make(restoringbeam="common").deconvolution.restoring_beam_rad == "common"
    one, three = (make(restoringbeam=text).deconvolution.restoring_beam_rad
                  for text in ("36arcsec", ["72arcsec", "36arcsec", "-90deg"]))
    assert one == pytest.approx((math.radians(0.01), math.radians(0.01), 0.0))
    assert three == pytest.approx((math.radians(0.02), math.radians(0.01), -math.pi / 2))


def test_selections_are_one_for_all_inputs_or_one_for_each() -> None:
    made = make(vis=["a.ms", "b.ms"], field="NGC5921", spw=["0", "1:5~50"]).selection
    assert made.field == "NGC5921"
    assert made.spw == ("0", "1:5~50")
    assert [(made.of_input(i)["field"], made.of_input(i)["spw"]) for i in range(2)] == [
        ("NGC5921", "0"), ("NGC5921", "1:5~50")]
    assert make(vis="a.ms", spw=[0]).selection.spw == "0"
    assert "spw has 2 values for 3 MeasurementSets" in refusal(vis=["a", "b", "c"], spw=["0", "1"])


@pytest.mark.parametrize(("parameters", "message"), [
    ({"nitre": 5}, "unknown parameter 'nitre' (did you mean 'niter'?)"),
    ({"weighting": "brigs"}, "weighting: 'brigs' is not one of natural, uniform, briggs, briggsbwtaper (did you mean"),
    ({"deconvolver": "clarke"}, "deconvolver: 'clarke' is not one of hogbom, clark (did you mean 'clark'?)"),
    ({"outframe": "lsrk"}, "did you mean 'LSRK'"),
    ({"products": ["image", "psff"]}, "did you mean 'psf'"),
    ({"cell": "15arsec"}, "cell: '15arsec' has an unknown unit 'arsec' of angle (did you mean 'arcsec'?)"),
    ({"threshold": "8mjy"}, "did you mean 'mJy'"),
    ({"start": "1400kms"}, "did you mean 'km/s'"),
    ({"memory_per_rank": "2G"}, "did you mean 'GB'"),
    ({"restoringbeam": "comon"}, "did you mean 'common'"),
    ({"phasecenter": "J200 1deg 2deg"}, "phasecenter: unknown direction frame 'J200' (did you mean 'J2000'?)"),
])
def test_a_slip_is_refused_with_the_nearest_name(parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(**parameters)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"gain": 1.5}, "gain: 1.5 is outside the allowed range: above 0, at most 1"),
    ({"gain": 0}, "above 0, at most 1"),
    ({"pblimit": -1.0}, "pblimit: -1.0 is outside the allowed range: above -1, below 1"),
    ({"robust": 3}, "robust: 3 is outside the allowed range: at least -2, at most 2"),
    ({"imsize": 8}, "imsize: 8 is outside the allowed range: at least 16, at most 131072"),
    ({"imsize": [256, 7]}, "imsize: 7 is outside"),
    ({"niter": -1}, "niter: -1 is outside the allowed range: at least 0"),
    ({"nchan": -2}, "nchan: -2 is outside the allowed range: at least -1"),
    ({"epsilon": 0.5}, "epsilon: 0.5 is outside the allowed range: at least 1e-12, at most 0.01"),
    ({"edge_fraction": 1.0}, "at least 0, below 1"),
    ({"threads": 0}, "threads: 0 is outside the allowed range: at least 1"),
    ({"cell": "0arcsec"}, "cell: '0arcsec' is outside the allowed range: above 0"),
    ({"cell": "-1arcsec"}, "above 0"),
    ({"threshold": "-1mJy"}, "threshold: '-1mJy' is below 0"),
    ({"start": -1}, "start: -1 is below 0"),
    ({"width": "0km/s"}, "width: a width of 0"),
    ({"restfreq": "-1GHz"}, "restfreq: '-1GHz' is not above 0"),
    ({"memory_per_rank": "0GB"}, "memory_per_rank: '0GB' is not above 0"),
])
def test_a_value_out_of_range_is_refused_with_the_range(parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(**parameters)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"niter": "many"}, "niter: 'many' is not a whole number"),
    ({"niter": 2.5}, "niter: 2.5 is not a whole number"),
    ({"niter": True}, "niter: true is not a value of this parameter"),
    ({"gain": "nan"}, "gain: 'nan' is not a finite number"),
    ({"gain": float("inf")}, "gain: inf is not"),
    ({"pbcor": "maybe"}, "pbcor: 'maybe' is not true or false"),
    ({"field": {"id": 3}}, "field: {'id': 3} is not a text"),
    ({"field": []}, "field: an empty list selects nothing"),
    ({"vis": ["a.ms", ""]}, "vis: an empty name"),
    ({"products": []}, "products is empty"),
    ({"imsize": [1, 2, 3]}, "imsize: 3 values given"),
    ({"restoringbeam": ["1arcsec", "2arcsec"]}, "restoringbeam: write 'common'"),
    ({"restoringbeam": ["1arcsec", "2arcsec", "0deg"]}, "the minor axis '2arcsec' is larger"),
    ({"restoringbeam": "0arcsec"}, "a beam's axes are above 0"),
    ({"imagename": "runs/"}, "imagename: 'runs/' has no file name"),
    ({"imagename": ""}, "imagename: '' has no file name"),
])
def test_a_value_of_the_wrong_kind_is_refused(parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(**parameters)


@pytest.mark.parametrize("frame", ["REST", "GALACTO"])
def test_frames_that_are_not_there_yet_are_refused_by_name(frame: str) -> None:
    assert f"outframe: '{frame}' is not supported yet" in refusal(outframe=frame)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"nchan": 0}, "nchan = 0 makes no image"),
    ({"specmode": "mfs", "nchan": 5}, "nchan has no meaning with specmode = 'mfs'"),
    ({"specmode": "mfs", "start": 0}, "start has no meaning with specmode = 'mfs'"),
    ({"specmode": "mfs", "weighting": "briggsbwtaper"}, "weighting = 'briggsbwtaper' is for specmode = 'cube'"),
    ({"start": "1.4GHz", "width": "5km/s"}, "differ in kind"),
    ({"epsilon": 1e-8}, "epsilon = 1e-08 needs precision = 'double'"),
    ({"pbcor": True, "pb_model": "none"}, "pbcor needs a primary beam"),
    ({"usemask": "pb", "pb_model": "none"}, "usemask = 'pb' needs a primary beam"),
    ({"usemask": "pb", "mask": "circle[[9pix,9pix],5pix]"}, "mask has no meaning with usemask = 'pb'"),
    ({"pbmask": 0.2}, "pbmask needs usemask = 'pb'"),
    ({"minpsffraction": 0.9}, "minpsffraction = 0.9 is above maxpsffraction = 0.8"),
])
def test_parameters_that_contradict_each_other_are_refused(parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(**parameters)


def test_the_combinations_next_to_the_refused_ones_are_accepted() -> None:
    assert make(epsilon=1e-8, precision="double").image.epsilon == 1e-8
    assert make(usemask="pb", pbmask=0.2).deconvolution.pbmask == 0.2
    assert make(usemask="pb", mask="").deconvolution.mask == ()
    assert make(start="1.4GHz", width=2).spectral.width_by == 2
    assert make(specmode="mfs", weighting="briggs").weighting.weighting == "briggs"


@pytest.mark.parametrize("name", ["imagename", "imsize", "cell"])
def test_a_missing_required_parameter_is_named_and_explained(name: str) -> None:
    with pytest.raises(UsageError, match=f"^--{name} is missing: .*as "):
        RunConfig.from_flat({k: v for k, v in LEAST.items() if k != name}, {name: f"--{name}"})


def test_messages_call_a_parameter_as_the_user_did() -> None:
    with pytest.raises(UsageError, match=r"^run.toml: gain: 7 is outside"):
        RunConfig.from_flat({**LEAST, "gain": 7}, {"gain": "run.toml: gain"})
    with pytest.raises(UsageError, match=r"^--pbmask needs usemask"):
        RunConfig.from_flat({**LEAST, "pbmask": 0.5}, {"pbmask": "--pbmask"})


def test_messages_are_one_line() -> None:
    assert "\n" not in refusal(field={"a": 1})
    assert "\n" not in refusal(gain="abc")


# TOML ----------------------------------------------------------------------------------------------------------------

def test_a_configuration_with_nothing_left_at_its_default_survives_toml() -> None:
    made = make(vis=["a b.ms", "ü.ms"], field=["a", "b"], spw="0:5~50", datacolumn="data", nchan=46, start="1.4127GHz",
                width="-24.4kHz", outframe="", restfreq="1420MHz", veltype="optical", interpolation="nearest",
                binning="tclean", coverage="union", edge_fraction=0.1, imsize=[256, 512], cell=["1arcsec", '2"'],
                phasecenter="J2000 10h00m00 -30d00m00", stokes="pseudoI", epsilon=3e-7, precision="double",
                wterm="ignore", pblimit=-0.2, pb_model="airy", pbcor=True, weighting="briggs", robust=-1, niter=6000,
                gain=0.05, threshold="8mJy", cycleniter=100, cyclefactor=1.5, minpsffraction=0.1, maxpsffraction=0.7,
                nmajor=3, control="plane", mask=["circle[[128pix,128pix],80pix]", "m.fits"], restoringbeam="common",
                deconvolver="clark", memory_per_rank="2GB", threads=2, row_groups=3, products=["image", "psf"], keep_state=True,
                overwrite=True, timeline=True, max_time="90min", stall_timeout="1h")
    unchanged = {"usemask", "pbmask"}  # excluded by mask
    at_default = {name for name in made.flat() if made.flat()[name] == make().flat()[name]} - {"imagename"}
    assert at_default - {"intent", "scan", "antenna", "timerange", "uvrange", "observation", "specmode"} == unchanged
    assert RunConfig.from_toml(made.to_toml()) == made


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(-1.9, 1.9), st.floats(1e-6, 1e-2))
def test_any_text_and_number_survives_toml(field: str, robust: float, epsilon: float) -> None:
    made = make(field=field, robust=robust, epsilon=epsilon)
    assert RunConfig.from_toml(made.to_toml()) == made


def test_the_written_text_names_every_parameter() -> None:
    lines = make().to_toml().splitlines()
    assert {line.split(" = ")[0] for line in lines if " = " in line} == {"config_version", *config.parameters()}


def test_dashes_in_toml_names_count_as_underscores() -> None:
    text = 'imagename = "a"\nimsize = 64\ncell = "1arcsec"\nkeep-state = true\n'
    assert RunConfig.from_toml(text).output.keep_state is True


@pytest.mark.parametrize(("text", "message"), [
    ("nitre = 5", "run.toml: unknown parameter 'nitre' (did you mean 'niter'?)"),
    ("niter = = 5", "run.toml: not valid TOML: "),
    pytest.param("niter = " + "9" * 5000, "run.toml: not valid TOML: ", id="digits"),
    pytest.param("niter = " + "[" * 100_000, "run.toml: not valid TOML: ", id="brackets"),
    ("[image]\nimsize = 5", "run.toml: names are flat, without tables: take out [image]"),
    ("config_version = 2", "run.toml: config_version 2 is not known; this radps reads version 1"),
    ("gain = 7\nimsize = 64\ncell = '1arcsec'\nimagename = 'a'", "run.toml: gain: 7 is outside"),
])
def test_a_file_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig.from_toml(text, "run.toml")
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"configuration .*none.toml: No such file"):
        config.read_parameters(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'imagename = "\xff"')
    with pytest.raises(UsageError, match="UTF-8"):
        config.read_parameters(tmp_path / "latin.toml")


# Changing a run ------------------------------------------------------------------------------------------------------

def test_differences_are_named_in_the_order_of_the_sections() -> None:
    assert config.differences(make(), make(niter=5, field="1", gain=0.2)) == ["field", "niter", "gain"]
    assert config.differences(make(), make()) == []


def test_a_resumed_run_may_go_on_longer_but_not_change_its_image() -> None:
    resumed = make(niter=10).resumed_with({"niter": "500", "threshold": "1mJy", "nmajor": 4, "mask": ["m.fits"]})
    assert resumed == make(niter=500, threshold="1mJy", nmajor=4, mask="m.fits")
    with pytest.raises(UsageError, match=r"^--cell can't change on resume; these can: .*niter"):
        make().resumed_with({"cell": "1arcsec"}, {"cell": "--cell"})
    with pytest.raises(UsageError, match="did you mean 'niter'"):
        make().resumed_with({"nitre": 5})


def test_giving_a_resumed_run_its_own_value_again_is_no_change() -> None:
    assert make().resumed_with({"cell": "15arcsec"}) == make()
