"""Gaussian beams as covariance matrices: what convolving, deconvolving and enclosing are made of.

A beam of widths (major, minor) and position angle p (north through east) has, in the tangent plane with axes
(l east, m north), the symmetric form ``S = [[S_ll, S_lm], [S_lm, S_mm]]`` with eigenvalues major^2 and minor^2, the
first along (sin p, cos p). Convolving two gaussians adds their forms, so one can be deconvolved from another where
the difference is positive (Wild 1970, Aust. J. Phys. 23, 113), and one ellipse encloses another under the same
condition. Forms here are arrays (..., 3) float64 of (S_ll, S_lm, S_mm) in squared full widths at half maximum, rad^2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.beam import Beam

Form = NDArray[np.float64]


def form_of(beam: Beam) -> Form:
    """The form (3,) of a beam, rad^2."""
    sine, cosine = math.sin(beam.pa_rad), math.cos(beam.pa_rad)
    major2, minor2 = beam.major_rad**2, beam.minor_rad**2
    return np.array(
        [
            major2 * sine * sine + minor2 * cosine * cosine,
            (major2 - minor2) * sine * cosine,
            major2 * cosine * cosine + minor2 * sine * sine,
        ]
    )


def beam_of(form: Form) -> Beam | None:
    """The beam of a form (3,), position angle in (-pi/2, pi/2]; None unless both widths are positive and finite."""
    s_ll, s_lm, s_mm = (float(x) for x in form)
    mean, half_difference = 0.5 * (s_mm + s_ll), 0.5 * (s_mm - s_ll)
    spread = math.hypot(half_difference, s_lm)
    if not (math.isfinite(mean + spread) and mean - spread > 0.0):
        return None
    pa_rad = 0.5 * math.atan2(s_lm, half_difference) if spread > 0.0 else 0.0
    return Beam(math.sqrt(mean + spread), math.sqrt(mean - spread), pa_rad)


def is_positive(form: Form) -> NDArray[np.bool_]:
    """Whether each form of (..., 3) is positive semidefinite: booleans (...)."""
    s_ll, s_lm, s_mm = np.moveaxis(form, -1, 0)
    return (s_ll >= 0.0) & (s_mm >= 0.0) & (s_ll + s_mm >= np.hypot(s_ll - s_mm, 2.0 * s_lm))


def deconvolve(wide: Beam, narrow: Beam) -> Beam | None:
    """The gaussian that convolves ``narrow`` into ``wide``; None where there is none (equal, or not enclosed)."""
    return beam_of(form_of(wide) - form_of(narrow))


def minimum_enclosing_form(first: Form, second: Form) -> Form:
    """The form (3,) of the smallest concentric ellipse that encloses those of two positive definite forms (3,).

    In coordinates where the first is the unit circle the second has eigenvalues e: the enclosing ellipse has
    max(1, e) along the same axes.
    """
    root = np.linalg.cholesky(_matrix(first))
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ _matrix(second) @ inverse.T)
    axes = root @ vectors
    enclosing = (axes * np.maximum(values, 1.0)) @ axes.T
    return np.array([enclosing[0, 0], enclosing[0, 1], enclosing[1, 1]])


def _matrix(form: Form) -> NDArray[np.float64]:
    return np.array([[form[0], form[1]], [form[1], form[2]]])
