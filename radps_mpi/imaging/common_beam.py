"""The smallest beam, nearly, that every plane of a cube can be convolved to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.errors import DataError
from radps_mpi.imaging.beam_algebra import Form, beam_of, form_of, is_positive, minimum_enclosing_form

GROWTH = 1.001
"""Factor by which the widths of an enclosing beam are grown until all others can be deconvolved from it (CASA)."""


def common_beam(beams: Iterable[Beam]) -> Beam:
    """The restoring beam of ``restoringbeam = "common"``, by the algorithm of CASA.

    The beam of the largest area if all others can be deconvolved from it; otherwise the smallest ellipse that
    encloses it and the last beam that can't, taken in its place, until all can. Null beams (blank channels) don't
    count; if there are no others the result is ``NULL_BEAM``. The order of the beams matters: give the whole
    cube's in channel order, whichever rank fitted them.
    """
    valid = [beam for beam in beams if not beam.is_null]
    if not valid:
        return NULL_BEAM
    forms = np.array([form_of(beam) for beam in valid])
    largest = max(valid, key=lambda beam: beam.area_sr)
    # Each round encloses one more beam and lets go of none, so there can't be more rounds than beams.
    for _ in range(len(valid) + 1):
        problems = _not_enclosed(forms, form_of(largest), valid, largest)
        if not problems.size:
            return largest
        largest = _enclosing_beam(largest, valid[problems[-1]])
    raise DataError("the planes' beams have no common beam: give restoringbeam explicitly")


def _not_enclosed(forms: Form, largest_form: Form, beams: list[Beam], largest: Beam) -> np.ndarray:
    outside = np.flatnonzero(~is_positive(largest_form - forms))
    return np.array([i for i in outside if beams[i] != largest], dtype=np.intp)


def _enclosing_beam(first: Beam, second: Beam) -> Beam:
    forms = np.array([form_of(first), form_of(second)])
    enclosing = minimum_enclosing_form(*forms)
    # The ellipses touch: whether they can be deconvolved would be decided by rounding, so it is grown once in any case.
    enclosing = enclosing * GROWTH**2
    while not is_positive(enclosing - forms).all():
        enclosing = enclosing * GROWTH**2
    beam = beam_of(enclosing)
    if beam is None:
        raise DataError("the planes' beams have no common beam: give restoringbeam explicitly")
    return beam
