"""What a parameter's value may look like when it arrives, how it is kept, and what is refused.

``as_...`` bring a value from TOML, the command line or a keyword into its one form; ``check_...`` return a value that
can be used and raise :class:`ParameterError` or :class:`radps_mpi.units.UnitError` for one that can't.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from radps_mpi import units
from radps_mpi.errors import UsageError

Strings = tuple[str, ...]
SpectralPosition = int | units.Quantity
"""A channel number (or count), or a frequency or velocity."""


class ParameterError(UsageError, ValueError):
    """A parameter's value can't be used; a ValueError too, so that pydantic reports it with the parameter's name."""


def as_strings(value: Any) -> Any:
    """One text, one number or a list of them -> tuple of texts."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise ParameterError(f"{value!r} is not a text or a list of texts")
    return tuple(str(item).strip() for item in items)


def as_selection(value: Any) -> Any:
    """One text for all MeasurementSets, or a tuple with one for each."""
    texts = as_strings(value)
    if not texts:
        raise ParameterError("an empty list selects nothing: write '' for everything")
    return texts[0] if len(texts) == 1 else texts


def as_pair(value: Any) -> Any:
    """One value for both axes, or [x, y]."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) not in (1, 2):
        raise ParameterError(f"{len(items)} values given: write one for both axes, or two for x and y")
    return tuple(items * (3 - len(items)))


def as_cells(value: Any) -> Any:
    """Cells as texts with units; a bare number is in arcsec, as in tclean."""
    return tuple(text + "arcsec" if _is_number(text) else text for text in map(str, as_pair(value)))


def as_flux(value: Any) -> Any:
    """A flux density as text with its unit; a bare number is in Jy, as in tclean."""
    text = as_text(value)
    return text + "Jy" if _is_number(text) else text


def as_text(value: Any) -> Any:
    """A number as the text that it would be on the command line."""
    return as_strings(value)[0] if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_position(value: Any) -> Any:
    """A channel number where the text is one."""
    is_integer = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value)
    return int(value) if is_integer else value


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def check_cells(cells: tuple[str, str]) -> tuple[str, str]:
    """Pixel sizes (x, y) of a sane angle."""
    for text in cells:
        if not 0.0 < units.angle_rad(text) < 0.5:
            raise ParameterError(f"{text!r} is outside the allowed range: above 0 and below 0.5 rad")
    return cells


def check_flux(text: str) -> str:
    """A flux density of 0 or more."""
    if units.flux_density_jy(text) < 0.0:
        raise ParameterError(f"{text!r} is below 0, the lowest value allowed")
    return text


def check_position(value: int | str) -> int | str:
    """A channel number, frequency or velocity; '' where the data decide."""
    if isinstance(value, str) and value:
        units.parse_quantity(value, "frequency", "velocity")
    return value


def position(value: int | str) -> SpectralPosition | None:
    """Parse what :func:`check_position` lets through: None where the data decide."""
    if value == "":
        return None
    return value if isinstance(value, int) else units.parse_quantity(value, "frequency", "velocity")


def check_start(value: int | str) -> int | str:
    """A first channel that exists."""
    if isinstance(value, int) and value < 0:
        raise ParameterError(f"{value} is below 0, the first channel")
    return value


def check_width(value: int | str) -> int | str:
    """A width that makes channels; negative ones turn the axis."""
    width = position(value)
    if width == 0 or (isinstance(width, units.Quantity) and width.value == 0.0):
        raise ParameterError("a width of 0 makes no channels")
    return value


def check_restfreq(text: str) -> str:
    """A frequency above 0, or ''."""
    if text and units.frequency_hz(text) <= 0.0:
        raise ParameterError(f"{text!r} is not above 0 Hz")
    return text


def check_centre(text: str) -> str:
    """A field id, a direction, or ''."""
    if text and not text.isdigit():
        units.parse_direction(text)
    return text


def check_frame(name: Any) -> Any:
    """Frames that tclean has and this program not yet, refused by name."""
    if name in ("REST", "GALACTO"):
        raise ParameterError(f"{name!r} is not supported yet: use LSRK, BARY, TOPO or '' (as the data declare)")
    return name


def check_size(text: str) -> str:
    """A size above 0, or ''."""
    if text and units.size_bytes(text) <= 0:
        raise ParameterError(f"{text!r} is not above 0")
    return text


def check_duration(text: str) -> str:
    """A duration above 0, or ''."""
    if text and units.duration_s(text) <= 0.0:
        raise ParameterError(f"{text!r} is not above 0")
    return text


def check_beam(value: Strings) -> Strings:
    """(), ('common',), a size, or major axis, minor axis and position angle."""
    value = drop_empty(value)
    if value in ((), ("common",)):
        return value
    if len(value) == 1 and value[0].isalpha():
        raise ParameterError(f"{value[0]!r} is neither a size nor 'common'{units.did_you_mean(value[0], ['common'])}")
    if len(value) not in (1, 3):
        raise ParameterError("write 'common', one size, or major axis, minor axis and position angle")
    angles = [units.angle_rad(text) for text in value]
    if min(angles[:2]) <= 0.0:
        raise ParameterError("a beam's axes are above 0")
    if len(angles) == 3 and angles[1] > angles[0]:
        raise ParameterError(f"the minor axis {value[1]!r} is larger than the major axis {value[0]!r}")
    return value


def drop_empty(value: Strings) -> Strings:
    """The texts without the empty ones, which is how a shell writes none."""
    return tuple(text for text in value if text)


def unique(value: Strings) -> Strings:
    """The texts without repetitions, in their order."""
    return tuple(dict.fromkeys(value))


def check_vis(value: Strings) -> Strings:
    """Names of inputs."""
    if not all(value):
        raise ParameterError("an empty name is not a MeasurementSet")
    return value


def check_imagename(text: str) -> str:
    """A prefix for file names."""
    if not Path(text).name or text.endswith(("/", "/.", "/..")) or text in (".", ".."):
        raise ParameterError(f"{text!r} has no file name: write a prefix such as 'runs/ngc5921'")
    return text
