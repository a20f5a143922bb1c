"""The option ``restoringbeam``: which beam a cube is restored with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from radps_mpi.data.beam import Beam
from radps_mpi.errors import UsageError
from radps_mpi.units import UnitError, angle_rad

RestoringBeam = Literal["", "common"] | Beam

FORMS = "'' (each plane's own), 'common', '30arcsec' or ['51arcsec', '47arcsec', '5deg']"
"""What the option may look like, for messages."""


def parse_restoring_beam(value: str | Sequence[str]) -> RestoringBeam:
    """The option as given by the user: ``""``, ``"common"``, or a beam of one, two or three angles.

    One angle is a round beam; two are its major and minor axis with position angle 0; the third is the position
    angle, north through east. Raises UsageError naming the option if it is none of these.
    """
    texts = [value] if isinstance(value, str) else list(value)
    if not texts or texts == [""]:
        return ""
    if texts == ["common"]:
        return "common"
    if len(texts) > 3 or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"restoringbeam: {value!r} is not understood; it can be {FORMS}")
    try:
        angles_rad = [angle_rad(text) for text in texts]
    except UnitError as error:
        raise UsageError(f"restoringbeam: {error}; it can be {FORMS}") from error
    major_rad, minor_rad = (angles_rad * 2)[:2]
    pa_rad = angles_rad[2] if len(texts) == 3 else 0.0
    if not math.inf > major_rad >= minor_rad > 0.0:
        raise UsageError(f"restoringbeam: {value!r} is not a beam: axes must be positive, the major one first")
    return Beam(major_rad, minor_rad, pa_rad)
