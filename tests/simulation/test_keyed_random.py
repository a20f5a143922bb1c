"""Random numbers that belong to a channel and a chunk."""

from __future__ import annotations

import numpy as np

from radps_mpi.simulation.keyed_random import FLAGS, NANS, chosen, thermal_noise

SHAPE = (2, 40_000)


def test_noise_has_the_rms_asked_for_in_both_parts_and_no_mean() -> None:
    noise = thermal_noise(1, 7, 0, SHAPE, 0.25)
    assert (noise.dtype, noise.shape) == (np.complex64, SHAPE)
    for part in (noise.real, noise.imag):
        assert abs(part.std() / 0.25 - 1.0) < 4.0 / np.sqrt(2 * part.size)
        assert abs(part.mean()) < 4.0 * 0.25 / np.sqrt(part.size)


def test_channels_chunks_seeds_parts_and_hands_are_independent_and_repeatable() -> None:
    of = thermal_noise(1, 7, 0, SHAPE, 1.0)
    np.testing.assert_array_equal(thermal_noise(1, 7, 0, SHAPE, 1.0), of)
    others = [thermal_noise(*key, SHAPE, 1.0).real for key in ((1, 8, 0), (1, 7, 1), (2, 7, 0), (1, 0, 7))]
    for one, other in [*((of.real, other) for other in others), (of.real, of.imag), (of.real[0], of.real[1])]:
        assert abs(np.mean(one * other)) < 5.0 / np.sqrt(one.size)


def test_samples_are_chosen_with_the_fraction_asked_for() -> None:
    flags, nans = chosen(1, FLAGS, 3, 0, SHAPE, 0.1), chosen(1, NANS, 3, 0, SHAPE, 0.1)
    assert abs(flags.mean() - 0.1) < 4.0 * np.sqrt(0.09 / flags.size)
    assert abs((flags & nans).mean() - 0.01) < 0.002, "flags and NaNs are independent"
    assert not chosen(1, FLAGS, 3, 0, SHAPE, 0.0).any()
    assert chosen(1, FLAGS, 3, 0, SHAPE, 1.0).all()
