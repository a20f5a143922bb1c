"""Thermal noise of known strength: its rms in the image is the one that the weights foresee."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from support.imaged import Imaged, image
from support.simulate import CO_10_HZ, Setup, rewrite, simulate

NATIVE_HZ = 122e3
SETUP = Setup(CO_10_HZ + NATIVE_HZ * np.arange(48), noise_jy=0.1, ntime=12)
OPTIONS = {"imsize": 96, "cell": "0.45arcsec", "products": ["image", "sumwt"], "keep_state": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known_noise")


@pytest.fixture(scope="module")
def noise_set(folder: Path) -> Path:
    return simulate(folder / "noise.ms", SETUP, [])


def rms_per_channel(made: Imaged) -> np.ndarray:
    return np.sqrt(np.mean(np.square(made.planes(), dtype=np.float64), axis=(1, 2)))


def mean_ratio(made: Imaged) -> float:
    """Measured over foreseen rms, the mean of variances over the channels: good to about 1 %."""
    return float(np.sqrt(np.mean((rms_per_channel(made) / made.predicted_rms_jy()) ** 2)))


@pytest.mark.parametrize("weighting", ["natural", "briggs", "briggsbwtaper", "uniform"])
def test_rms_of_noise_is_what_the_weights_foresee(folder: Path, noise_set: Path, weighting: str) -> None:
    made = image(folder / "weighted", noise_set, weighting=weighting, robust=0.0, **OPTIONS)
    assert mean_ratio(made) == pytest.approx(1.0, abs=0.05)


def test_natural_weights_give_the_radiometers_noise(folder: Path, noise_set: Path) -> None:
    made = image(folder / "natural", noise_set, **OPTIONS)
    with table(str(noise_set), ack=False) as main:
        both_hands = float(main.getcol("WEIGHT").sum(dtype=np.float64))
    assert made.predicted_rms_jy() == pytest.approx(both_hands**-0.5, rel=1e-4)
    assert made.sumwt() == pytest.approx(both_hands, rel=1e-4)


def test_other_weights_cost_sensitivity(folder: Path, noise_set: Path) -> None:
    natural, uniform = (image(folder / w, noise_set, weighting=w, **OPTIONS).predicted_rms_jy() for w in ("natural", "uniform"))
    assert np.all(uniform > 1.05 * natural)


def test_one_hand_has_the_noise_of_half_the_data(folder: Path) -> None:
    ms = simulate(folder / "one.ms", replace(SETUP, correlations=("YY",)), [])
    made = image(folder / "one", ms, **OPTIONS)
    with table(str(ms), ack=False) as main:
        one_hand = float(main.getcol("WEIGHT").sum(dtype=np.float64))
    assert made.sumwt() == pytest.approx(one_hand, rel=1e-4)
    assert made.predicted_rms_jy() == pytest.approx(one_hand**-0.5, rel=1e-4)
    assert mean_ratio(made) == pytest.approx(1.0, abs=0.05)


def test_pseudo_i_keeps_samples_with_one_hand_at_their_own_noise(folder: Path) -> None:
    def flag_a_hand(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns["FLAG"][::2, :, 1] = True
        return {"FLAG": columns["FLAG"]}

    ms = rewrite(simulate(folder / "flagged.ms", SETUP, []), flag_a_hand)
    strict, pseudo = (image(folder / stokes, ms, stokes=stokes, **OPTIONS) for stokes in ("I", "pseudoI"))
    for made in (strict, pseudo):
        assert mean_ratio(made) == pytest.approx(1.0, abs=0.05)
    assert pseudo.sumwt() == pytest.approx(1.5 * strict.sumwt(), rel=0.01)
    assert pseudo.predicted_rms_jy() == pytest.approx(strict.predicted_rms_jy() / np.sqrt(1.5), rel=0.01)


@pytest.mark.parametrize("ratio", [2.0, 2.46, 3.7])
def test_noise_of_wide_channels_falls_with_the_square_root_of_the_bandwidth(
    folder: Path, noise_set: Path, ratio: float
) -> None:
    """Where a native channel is shared by two image channels both carry its noise, so each has less than its bandwidth's."""
    nchan = int(47 / ratio)
    made = image(folder / "wide", noise_set, start=f"{CO_10_HZ + ratio * NATIVE_HZ / 2!r}Hz",
                 width=f"{ratio * NATIVE_HZ!r}Hz", nchan=nchan, **OPTIONS)  # fmt: skip
    native = image(folder / "native", noise_set, **OPTIONS).predicted_rms_jy().mean()
    measured = float(np.sqrt(np.mean(rms_per_channel(made) ** 2)))
    assert 0.85 < measured / (native / np.sqrt(ratio)) < 1.04
    assert mean_ratio(made) == pytest.approx(1.0, abs=0.05)


def test_noise_of_the_average_of_all_wide_channels_is_that_of_the_band(folder: Path, noise_set: Path) -> None:
    native = image(folder / "native", noise_set, **OPTIONS)
    width_hz = 2.46 * NATIVE_HZ
    made = image(folder / "band", noise_set, start=f"{CO_10_HZ + 0.5 * (width_hz - NATIVE_HZ)!r}Hz",
                 width=f"{width_hz!r}Hz", nchan=20, **OPTIONS)  # fmt: skip
    weights = made.sumwt().astype(np.float64)
    means = [np.tensordot(w / w.sum(), cube, 1) for w, cube in
             ((weights, made.planes()), (native.sumwt().astype(np.float64), native.planes()))]
    assert np.std(means[0]) == pytest.approx(np.std(means[1]), rel=0.02)
