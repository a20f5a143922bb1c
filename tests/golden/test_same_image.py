"""Requests that must change nothing but what they name: a set with falling frequencies, and the limit of the primary beam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import golden

pytestmark = pytest.mark.golden

SMALL = {"imsize": 64, "cell": "60arcsec", "weighting": "briggs", "pblimit": -0.2, "products": ("image", "psf", "sumwt")}


def test_a_descending_window_gives_the_bits_of_the_ascending_one(
    made: Callable[[str], golden.Made], descending_set: Path, tmp_path: Path
) -> None:
    case = "briggs05_bary_dirty"
    turned = golden.make(golden.golden(case).parameters, [descending_set], tmp_path / "turned")
    for product in ("image", "psf", "sumwt"):
        assert turned.image(product).tobytes() == made(case).image(product).tobytes()
    assert golden.frequencies_hz(turned.header).tolist() == golden.frequencies_hz(made(case).header).tolist()


def test_the_default_axis_of_a_descending_window_ascends(
    input_named: Callable[[str], Path], descending_set: Path, tmp_path: Path
) -> None:
    straight = golden.make(SMALL, [input_named("ngc5921_src_contsub.ms")], tmp_path / "straight")
    turned = golden.make(SMALL, [descending_set], tmp_path / "turned")
    freq_hz = golden.frequencies_hz(turned.header)
    assert len(freq_hz) == 63 and (np.diff(freq_hz) > 0).all()
    assert freq_hz.tolist() == golden.frequencies_hz(straight.header).tolist()
    assert turned.image("image").tobytes() == straight.image("image").tobytes()


def test_a_negative_pblimit_masks_nothing_and_a_positive_one_only_what_is_below(
    input_named: Callable[[str], Path], tmp_path: Path
) -> None:
    asked = SMALL | {"products": ("image", "residual", "pb"), "nchan": 2, "start": 20}
    vis = [input_named("ngc5921_src_contsub.ms")]
    whole = golden.make(asked, vis, tmp_path / "whole")
    masked = golden.make(asked | {"pblimit": 0.2}, vis, tmp_path / "masked")
    below = whole.image("pb") < 0.2
    assert below.any() and not below.all()
    for product in ("image", "residual"):
        everywhere, inside = whole.image(product), masked.image(product)
        assert np.isfinite(everywhere).all()
        assert np.array_equal(np.isnan(inside), below)
        assert np.array_equal(inside[~below], everywhere[~below])
