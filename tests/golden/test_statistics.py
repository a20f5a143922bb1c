"""The data set and the numbers that travel with the checkout: what CASA 6.7 tclean makes of NGC 5921, per channel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import data
from support.golden import Golden, Made, compare_sums_of_weights, make
from support.golden_statistics import STATISTICS, make_statistics

FROM_GOLDENS: dict[str, Any] = json.loads(STATISTICS.read_text())
CLARK: dict[str, Any] = json.loads(STATISTICS.with_name("clark.json").read_text())
"""Made by tests/support/casa_statistics.py."""

EXPECTED = FROM_GOLDENS | CLARK
DIRTY, CLEAN = (1e-3, 1e-3), (1e-2, 5e-3)
ROWS = (
    ("natural_dirty", "image", *DIRTY),
    ("briggs05_dirty", "image", *DIRTY),
    ("briggs05_dirty", "psf", *DIRTY),
    ("briggs05_clean", "image", *CLEAN),
    ("briggs05_clean", "residual", *CLEAN),
    ("briggs05_clark", "image", *CLEAN),
    ("briggs05_clark", "residual", *CLEAN),
)
"""Case, product, allowed differences of the maxima (in units of the cube's) and of the rms (relative); two CLEANs place some
components a pixel apart, which shows in single pixels."""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """``shipped(case)``: the program's images of the set in the checkout."""
    folder, runs = tmp_path_factory.mktemp("shipped"), {}
    archive = data.REPOSITORY / "data" / "ngc5921_src_contsub.ms.tar.xz"

    def run(case: str) -> Made:
        if case not in runs:
            asked = Golden(case, EXPECTED[case])
            runs[case] = make(asked.parameters, [data.unpack(archive, data.cache_directory())], folder / case)
        return runs[case]

    return run


@pytest.mark.parametrize(("case", "product", "maxima", "rms"), ROWS, ids=lambda value: str(value))
def test_maxima_and_rms_of_every_channel_agree_with_tclean(
    case: str, product: str, maxima: float, rms: float, shipped: Callable[[str], Made]
) -> None:
    expected, image = EXPECTED[case][product], shipped(case).image(product)
    peaks = np.array(expected["max_per_channel"])
    assert image.max(axis=(1, 2)) == pytest.approx(peaks, rel=0, abs=maxima * peaks.max())
    made_rms = np.sqrt(np.mean(np.square(image, dtype=np.float64), axis=(1, 2)))
    assert made_rms == pytest.approx(np.array(expected["rms_per_channel"]), rel=rms)


@pytest.mark.parametrize("case", EXPECTED)
def test_beams_and_sums_of_weights_agree_with_tclean(case: str, shipped: Callable[[str], Made]) -> None:
    beams, expected = shipped(case).beams_arcsec_deg, Golden(case, EXPECTED[case]).beams_arcsec_deg
    assert beams[:, :2] == pytest.approx(expected[:, :2], rel=0.01)
    assert beams[:, 2] == pytest.approx(expected[:, 2], abs=0.5)
    sumwt = np.array(EXPECTED[case]["sumwt"]["max_per_channel"])
    compare_sums_of_weights(shipped(case).image("sumwt").ravel(), sumwt)


@pytest.mark.parametrize("case", EXPECTED)
def test_cycles_iterations_and_stop_agree_with_tclean(case: str, shipped: Callable[[str], Made]) -> None:
    result, expected = shipped(case).result, EXPECTED[case]
    assert result.iterations == pytest.approx(expected["iterdone"], rel=0.005)
    assert (result.major_cycles, result.stop_code) == (expected["nmajordone"], expected["stopcode"])


@pytest.mark.golden
def test_the_shipped_numbers_are_those_of_the_goldens(shared: Path) -> None:
    assert make_statistics() == FROM_GOLDENS


def test_the_model_of_clark_holds_the_flux_that_tclean_finds(shipped: Callable[[str], Made]) -> None:
    expected = np.array(EXPECTED["briggs05_clark"]["model"]["sum_per_channel"])
    flux = shipped("briggs05_clark").image("model").sum(axis=(1, 2), dtype=np.float64)
    assert flux.sum() == pytest.approx(expected.sum(), rel=0.002)
    bright = expected > 0.05
    assert bright.sum() > 20
    assert flux[bright] == pytest.approx(expected[bright], rel=0.02)
