"""The gridding function."""

from __future__ import annotations

import numpy as np
import pytest
from radps_kernels import window


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_polynomials_are_the_kaiser_bessel_window_to_well_below_its_aliasing_error(epsilon: float) -> None:
    for chosen in window.candidates(epsilon):
        s = np.linspace(-1.0, 1.0, 101)
        for tap, coefficients in enumerate(chosen.polynomials()):
            z = (s + 1.0) / 2.0 + tap - chosen.support / 2.0
            expected = window.kaiser_bessel(z, chosen.support, chosen.shape)
            error = np.abs(np.polynomial.polynomial.polyval(s, coefficients) - expected).max()
            assert error < 0.15 * chosen.error


def test_every_candidate_promises_the_accuracy_and_more_support_needs_no_more_oversampling() -> None:
    found = window.candidates(1e-4)
    assert all(chosen.error < 1e-4 for chosen in found)
    ratios = [chosen.oversampling for chosen in found]
    assert ratios == sorted(ratios, reverse=True)
    assert min(ratios) >= 1.2 and max(ratios) <= 2.0


def test_even_and_odd_parts_give_a_tap_and_its_mirror_image() -> None:
    polynomials = window.Window(7, 1.5, window.beatty_shape(7, 1.5), 0.0).polynomials()
    parts = window.even_odd_coefficients(polynomials)
    s = 0.3
    for tap in range(4):
        even, odd = np.polyval(parts[tap, 0], s * s), np.polyval(parts[tap, 1], s * s)
        powers = s ** np.arange(polynomials.shape[1])
        assert even + s * odd == pytest.approx(polynomials[tap] @ powers, abs=1e-14)
        assert even - s * odd == pytest.approx(polynomials[6 - tap] @ powers, abs=1e-14)


def test_fourier_transform_at_zero_is_the_sum_of_the_taps_averaged_over_positions() -> None:
    polynomials = window.Window(6, 1.5, window.beatty_shape(6, 1.5), 0.0).polynomials()
    s = np.linspace(-1.0, 1.0, 2001)
    taps = np.polynomial.polynomial.polyval(s, polynomials.T).sum(axis=0)
    average = np.trapezoid(taps, s) / 2.0
    assert window.fourier_transform(polynomials, np.zeros(1))[0] == pytest.approx(average, rel=1e-6)
