"""Parameters of ``radps simulate``: names, defaults, units, ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from radps_mpi import config_values as values
from radps_mpi import units
from radps_mpi.config import Section, build_section
from radps_mpi.config_values import ParameterError


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ParameterError(f"{text!r} is not a date: write '2024-03-21'") from None


def _direction(text: str) -> str:
    units.parse_direction(text)
    return text


def _above_zero(parse: Callable[[str], float]) -> AfterValidator:
    """Lets quantities above 0 through."""

    def check(text: str) -> str:
        if parse(text) <= 0.0:
            raise ParameterError(f"{text!r} is not above 0")
        return text

    return AfterValidator(check)


def _hour_angles(pair: tuple[str, str]) -> tuple[str, str]:
    first, last = (units.duration_s(text) / 3600.0 for text in pair)
    if not -12.0 <= first < last <= 12.0:
        raise ParameterError(f"{pair[0]!r} and {pair[1]!r} don't ascend between -12h and 12h")
    return pair


Length = Annotated[str, _above_zero(units.length_m)]
Duration = Annotated[str, _above_zero(units.duration_s)]
Frequency = Annotated[str, _above_zero(units.frequency_hz)]
HourAngles = Annotated[tuple[str, str], BeforeValidator(values.as_pair), AfterValidator(_hour_angles)]


def _p(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, **bounds)


class ArrayConfig(Section):
    """Array and site."""

    telescope: Literal["ALMA", "VLA"] = _p("ALMA", "site, dish diameter and hands of the receivers (X, Y or R, L)")
    antennas: str = _p("", "antenna configuration file as CASA's (x y z diameter name); '' generates an array")
    layout: Literal["spiral", "ring"] = _p("spiral", "generated array: a logarithmic spiral, or a ring")
    nantenna: int = _p(43, "antennas of a generated array", ge=2, le=10_000)
    max_baseline: Length = _p("500m", "longest baseline of a generated array, as 500m or 16km")

    @property
    def max_baseline_m(self) -> float:
        """Longest baseline of a generated array."""
        return units.length_m(self.max_baseline)


class ObservingConfig(Section):
    """Field and times."""

    direction: Annotated[str, AfterValidator(_direction)] = _p(
        "J2000 10h00m00 -30d00m00", "phase centre, in J2000 or ICRS")
    date: Annotated[str, AfterValidator(_date)] = _p("2024-03-21", "UTC day on which the field transits")
    hour_angles: HourAngles = _p(("-1h", "1h"), "first and last hour angle")
    integration: Duration = _p("10s", "integration time")
    nintegration: int = _p(-1, "integrations, spread evenly over the hour angles; -1 is back to back", ge=-1)
    npol: int = _p(2, "correlations: 1 parallel hand, 2, or 4 with the cross hands", ge=1, le=4)

    @property
    def hour_angles_h(self) -> tuple[float, float]:
        """First and last hour angle, sidereal hours."""
        first, last = (units.duration_s(text) / 3600.0 for text in self.hour_angles)
        return first, last

    @property
    def integration_s(self) -> float:
        """Integration time."""
        return units.duration_s(self.integration)

    @model_validator(mode="after")
    def _agrees(self) -> ObservingConfig:
        if self.npol == 3:
            raise ParameterError("npol = 3 is not a set of correlations: write 1, 2 or 4")
        if self.nintegration == 0:
            raise ParameterError("nintegration = 0 records nothing: allowed are -1 (back to back) and 1 or more")
        return self


class BandConfig(Section):
    """Channels."""

    nchan: int = _p(64, "number of channels", ge=1, le=10_000_000)
    start: Frequency = _p("230.538GHz", "centre of the first channel")
    width: Frequency = _p("244.140625kHz", "channel width, above 0")
    frame: Literal["TOPO", "LSRK"] = _p("TOPO", "frame in which the channels are fixed")
    restfreq: Annotated[str, AfterValidator(values.check_restfreq)] = _p(
        "", "rest frequency of the lines in the sky, and of the set; '' is none")

    @property
    def start_hz(self) -> float:
        """Centre of the first channel."""
        return units.frequency_hz(self.start)

    @property
    def width_hz(self) -> float:
        """Channel width."""
        return units.frequency_hz(self.width)

    @property
    def restfreq_hz(self) -> float:
        """Rest frequency, 0 where none is given."""
        return units.frequency_hz(self.restfreq) if self.restfreq else 0.0


class NoiseConfig(Section):
    """Noise and blanks; all depend on channel and row alone, never on the number of ranks."""

    noise: Annotated[str, BeforeValidator(values.as_flux), AfterValidator(values.check_flux)] = _p(
        "0Jy", "rms of the real and of the imaginary part of one visibility, the same for all; weights are 1/rms^2")
    seed: int = _p(1, "of the noise, the blanks and the generated array", ge=0, lt=2**63)
    flagged: float = _p(0.0, "fraction of the visibilities that are flagged", ge=0.0, le=1.0)
    nans: float = _p(0.0, "fraction of the visibilities that are NaN", ge=0.0, le=1.0)

    @property
    def noise_jy(self) -> float:
        """Rms of a visibility's real part."""
        return units.flux_density_jy(self.noise)


SECTIONS: tuple[type[Section], ...] = (ArrayConfig, ObservingConfig, BandConfig, NoiseConfig)


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """Everything that a simulated observation is made from, except the sky and the antenna file themselves."""

    array: ArrayConfig
    observing: ObservingConfig
    band: BandConfig
    noise: NoiseConfig

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> SimulationConfig:
        """From names and values; errors call a parameter by its label. UsageError for values that can't be used."""
        return cls(*(build_section(kind, flat, labels or {}) for kind in SECTIONS))
