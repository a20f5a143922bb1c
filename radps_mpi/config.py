"""Every parameter of a run: names, defaults, units, ranges; read, checked and written back.

Names and meanings are tclean's where tclean has them. They are flat: the same name is a TOML key, a flag of
``radps image`` and a keyword of ``make_cube``; the sections below only group them, and each function of the program is
handed the one that it needs. Quantities are kept as the user wrote them; properties with the unit in the name give SI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from radps_mpi import config_values as values
from radps_mpi import units
from radps_mpi.config_toml import CONFIG_VERSION, format_value, load_toml, parse_toml
from radps_mpi.config_values import ParameterError, SpectralPosition, Strings
from radps_mpi.errors import UsageError

CHANGEABLE_ON_RESUME = frozenset(
    {"niter", "threshold", "nmajor", "mask", "products", "keep_state", "overwrite", "timeline", "memory_per_rank", "threads",
     "max_time", "stall_timeout"}
)
"""What a resumed run may change: the rest of the state was computed under the other parameters."""

PER_JOB_DEFAULTS: dict[str, Any] = {
    "keep_state": False, "overwrite": False, "timeline": False, "memory_per_rank": "", "threads": 1, "max_time": "",
    "stall_timeout": "", "niter": 0, "threshold": "0Jy", "nmajor": -1,
}
"""Of those, the ones that the finished images don't depend on, with a value to compare runs without them."""

PRODUCTS = ("image", "residual", "model", "psf", "pb", "sumwt", "mask")
Product = Literal["image", "residual", "model", "psf", "pb", "sumwt", "mask"]

Texts = Annotated[Strings, BeforeValidator(values.as_strings)]
Selection = Annotated[str | Strings, BeforeValidator(values.as_selection)]
Position = Annotated[int | str, BeforeValidator(values.as_position), AfterValidator(values.check_position)]
Pixels = Annotated[int, Field(ge=16, le=131072)]


def _p(default: Any, description: str, **bounds: Any) -> Any:
    """A parameter: what it is when nobody says, what `--help` says of it, its range."""
    return Field(default, description=description, **bounds)


REQUIRED: Any = PydanticUndefined


class Section(BaseModel):
    """Base of the sections: frozen, no unknown names, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


class SelectionConfig(Section):
    """Which data.

    Each parameter but vis and datacolumn is one text for all MeasurementSets, or a tuple with one for each.
    """

    vis: Annotated[Texts, AfterValidator(values.check_vis)] = _p(
        (), "MeasurementSets, or a .vis.h5 store; on the command line they are the plain arguments")
    field: Selection = _p("", "fields by id or name, as '0~2,NGC5921*'; '' is all")
    spw: Selection = _p("", "spectral windows by id, name or frequency, with channels as '0:5~50'; '' is all")
    intent: Selection = _p("", "scan intents, as '*TARGET*'")
    scan: Selection = _p("", "scan numbers, as '1~4,7'")
    antenna: Selection = _p("", "antennas and baselines, as 'ea01&ea02' or '!DV01'")
    timerange: Selection = _p(
        "", "in the set's time scale (UTC; TAI in old VLA sets), as '1995/04/13/09:00:00~1995/04/13/10:00:00'")
    uvrange: Selection = _p("", "baseline lengths, as '>100m' or '0~5klambda'")
    observation: Selection = _p("", "observation ids, as '0,2'")
    datacolumn: Literal["auto", "corrected", "data", "model"] = _p(
        "auto", "column to image; auto is CORRECTED_DATA where present, else DATA")

    def of_input(self, index: int) -> dict[str, str]:
        """The selections of MeasurementSet ``index`` of ``vis``, by name, without ``vis`` and ``datacolumn``."""
        chosen = {name: getattr(self, name) for name in _PER_INPUT}
        return {name: value if isinstance(value, str) else value[index] for name, value in chosen.items()}

    @model_validator(mode="after")
    def _lists_match_the_inputs(self) -> SelectionConfig:
        for name in _PER_INPUT:
            value = getattr(self, name)
            if not isinstance(value, str) and self.vis and len(value) != len(self.vis):
                raise ParameterError(f"{name} has {len(value)} values for {len(self.vis)} MeasurementSets: "
                                     "give one for all, or one for each")
        return self


_PER_INPUT = ("field", "spw", "intent", "scan", "antenna", "timerange", "uvrange", "observation")


class SpectralConfig(Section):
    """The spectral axis of the image."""

    specmode: Literal["cube", "mfs"] = _p("cube", "cube, or mfs: one continuum image of all channels")
    nchan: int = _p(-1, "number of output channels; -1 is as many as the data have", ge=-1)
    start: Annotated[Position, AfterValidator(values.check_start)] = _p(
        "", "first channel: a number, frequency or velocity, as 5, 1.4128GHz, 1400km/s; '' is the data's first")
    width: Annotated[Position, AfterValidator(values.check_width)] = _p(
        "", "channel width: a count, frequency or velocity; negative turns the axis; '' is the data's")
    outframe: Annotated[Literal["LSRK", "TOPO", "BARY", ""], BeforeValidator(values.check_frame)] = _p(
        "LSRK", "frame of the axis; '' is as the data declare")
    restfreq: Annotated[str, AfterValidator(values.check_restfreq)] = _p(
        "", "rest frequency of velocities, as 1.420405752GHz; '' is the data's")
    veltype: Literal["radio", "optical"] = _p("radio", "velocity definition of start and width")
    interpolation: Literal["linear", "nearest"] = _p("linear", "from native channels to image channels")
    binning: Literal["overlap", "tclean"] = _p(
        "overlap", "image channels wider than native ones: overlap counts each native channel by its overlap, "
                   "tclean follows its floor rule")
    coverage: Literal["intersection", "union"] = _p("intersection", "of several inputs, what a default axis covers")
    edge_fraction: float = _p(
        0.3, "channels with sumwt below this fraction of the median are marked as edges and left out of numbers "
             "that channels share; 0.3 keeps what one of three equal executions covers", ge=0.0, lt=1.0)

    @property
    def start_at(self) -> SpectralPosition | None:
        """``start`` parsed: channel number, frequency (Hz) or velocity (m/s); None where the data decide."""
        return values.position(self.start)

    @property
    def width_by(self) -> SpectralPosition | None:
        """``width`` parsed: count of native channels, Hz or m/s, signed; None where the data decide."""
        return values.position(self.width)

    @property
    def restfreq_hz(self) -> float | None:
        """Rest frequency; None where the data decide."""
        return units.frequency_hz(self.restfreq) if self.restfreq else None

    @model_validator(mode="after")
    def _agrees(self) -> SpectralConfig:
        if self.nchan == 0:
            raise ParameterError("nchan = 0 makes no image: allowed are -1 (as many as the data have) and 1 or more")
        axis = {"nchan": self.nchan != -1, "start": self.start != "", "width": self.width != ""}
        if self.specmode == "mfs" and any(axis.values()):
            given = next(name for name, is_given in axis.items() if is_given)
            raise ParameterError(f"{given} has no meaning with specmode = 'mfs': choose channels with spw")
        kinds = {at.kind for at in (self.start_at, self.width_by) if isinstance(at, units.Quantity)}
        if len(kinds) > 1:
            raise ParameterError(f"start = {self.start!r} and width = {self.width!r} differ in kind: "
                                 "give both as frequency or both as velocity")
        return self


class ImageConfig(Section):
    """Pixels, accuracy and primary beam."""

    imsize: Annotated[tuple[Pixels, Pixels], BeforeValidator(values.as_pair)] = _p(
        REQUIRED, "image size in pixels, as 256 or 256 512 (x y)")
    cell: Annotated[tuple[str, str], BeforeValidator(values.as_cells), AfterValidator(values.check_cells)] = _p(
        REQUIRED, "pixel size, as 15arcsec or 10arcsec 12arcsec (x y); a bare number is in arcsec")
    phasecenter: Annotated[str, BeforeValidator(values.as_text), AfterValidator(values.check_centre)] = _p(
        "", "image centre: a field id, 'J2000 10h00m00 -30d00m00' or 'ICRS 150.0deg -30deg'; "
            "'' is the first selected field")
    stokes: Literal["I", "pseudoI"] = _p("I", "I drops a sample flagged in either hand, pseudoI keeps the other hand")
    epsilon: float = _p(1e-4, "accuracy of gridding, relative to an exact Fourier sum", ge=1e-12, le=1e-2)
    precision: Literal["single", "double"] = _p("single", "floating point of the uv grid")
    row_groups: int = _p(
        0, "groups of rows that are summed apart, so that ranks can share a block; 0 follows from the data; "
           "part of what the last bits depend on", ge=0, le=64)
    wterm: Literal["check", "ignore"] = _p(
        "check", "check refuses a w-term phase error above pi inside pb 0.2 and warns above 0.1 rad")
    pblimit: float = _p(0.2, "NaN where the primary beam is below; negative masks nothing", gt=-1.0, lt=1.0)
    pb_model: Literal["casa", "airy", "none"] = _p(
        "casa", "primary beam: CASA's blocked Airy disc, the textbook's, or none")
    pbcor: bool = _p(False, "also write the image divided by the primary beam")

    @property
    def nx(self) -> int:
        """Pixels along x (right ascension)."""
        return self.imsize[0]

    @property
    def ny(self) -> int:
        """Pixels along y (declination)."""
        return self.imsize[1]

    @property
    def cell_rad(self) -> tuple[float, float]:
        """Pixel size along x and y, radians."""
        return units.angle_rad(self.cell[0]), units.angle_rad(self.cell[1])

    @property
    def centre(self) -> int | units.Direction | None:
        """``phasecenter`` parsed: a field id, a direction, or None for the first selected field."""
        if not self.phasecenter:
            return None
        return int(self.phasecenter) if self.phasecenter.isdigit() else units.parse_direction(self.phasecenter)

    @model_validator(mode="after")
    def _agrees(self) -> ImageConfig:
        if self.precision == "single" and self.epsilon < 1e-6:
            raise ParameterError(f"epsilon = {self.epsilon:g} needs precision = 'double': single reaches 1e-6")
        if self.pbcor and self.pb_model == "none":
            raise ParameterError("pbcor needs a primary beam: pb_model is 'none'")
        return self


class WeightingConfig(Section):
    """Imaging weights."""

    weighting: Literal["natural", "uniform", "briggs", "briggsbwtaper"] = _p("natural", "scheme, applied per channel")
    robust: float = _p(0.5, "of briggs and briggsbwtaper: -2 is close to uniform, 2 to natural", ge=-2.0, le=2.0)


class DeconvolutionConfig(Section):
    """CLEAN: cycles, thresholds, masks, restoring beam."""

    deconvolver: Literal["hogbom", "clark"] = _p(
        "hogbom", "algorithm of the minor cycle: hogbom subtracts the whole PSF, clark its middle from the brightest pixels "
                  "and then transforms")
    niter: int = _p(0, "iterations: of all channels together, looked at between cycles as in tclean (control global), or "
                        "of each channel (control plane); 0 makes the dirty image", ge=0, le=10**15)
    gain: float = _p(0.1, "fraction of the peak that one iteration subtracts", gt=0.0, le=1.0)
    threshold: Annotated[str, BeforeValidator(values.as_flux), AfterValidator(values.check_flux)] = _p(
        "0Jy", "peak residual to stop at, as 8mJy; a bare number is in Jy")
    cycleniter: int = _p(-1, "iterations of one minor cycle; -1 is no limit but niter", ge=-1, le=10**15)
    cyclefactor: float = _p(1.0, "scales the threshold of a minor cycle", gt=0.0)
    minpsffraction: float = _p(0.05, "lowest fraction of the peak that a minor cycle cleans to", ge=0.0, le=1.0)
    maxpsffraction: float = _p(0.8, "highest fraction of the peak that a minor cycle cleans to", ge=0.0, le=1.0)
    nmajor: int = _p(-1, "major cycles at most; -1 is no limit", ge=-1, le=10**9)
    control: Literal["global", "plane"] = _p(
        "global", "global couples all channels as tclean does, plane goes by each one's own peak and sidelobe level")
    usemask: Literal["user", "pb"] = _p("user", "user: mask, or all pixels where it is empty; pb: pb above pbmask")
    mask: Annotated[Texts, AfterValidator(values.drop_empty)] = _p(
        (), "regions, as 'circle[[128pix,128pix],80pix]', or a FITS image; none is all pixels")
    pbmask: float = _p(0.0, "of usemask pb: level of the primary beam", ge=0.0, lt=1.0)
    restoringbeam: Annotated[Texts, AfterValidator(values.check_beam)] = _p(
        (), "common, a size, or major axis, minor axis and position angle, as 51arcsec 47arcsec 5deg; "
            "none is each channel's own")

    @property
    def threshold_jy(self) -> float:
        """Peak residual to stop at, Jy/beam."""
        return units.flux_density_jy(self.threshold)

    @property
    def restoring_beam_rad(self) -> tuple[float, float, float] | Literal["common"] | None:
        """(major, minor, position angle) in radians, "common", or None for each channel's own beam."""
        if self.restoringbeam in ((), ("common",)):
            return "common" if self.restoringbeam else None
        angles = [units.angle_rad(text) for text in self.restoringbeam]
        return (angles[0], angles[0], 0.0) if len(angles) == 1 else (angles[0], angles[1], angles[2])

    @model_validator(mode="after")
    def _agrees(self) -> DeconvolutionConfig:
        if self.minpsffraction > self.maxpsffraction:
            raise ParameterError(f"minpsffraction = {self.minpsffraction:g} is above "
                                 f"maxpsffraction = {self.maxpsffraction:g}")
        if self.usemask == "pb" and self.mask:
            raise ParameterError("mask has no meaning with usemask = 'pb': leave one of them out")
        if self.usemask == "user" and self.pbmask > 0.0:
            raise ParameterError("pbmask needs usemask = 'pb'")
        return self


class ParallelConfig(Section):
    """Resources of each MPI rank; they change no bit of the result."""

    memory_per_rank: Annotated[str, AfterValidator(values.check_size)] = _p(
        "", "memory that one rank may use, as 2GB; '' is the node's, shared by its ranks")
    threads: int = _p(1, "threads of one rank", ge=1, le=1024)
    max_time: Annotated[str, AfterValidator(values.check_duration)] = _p(
        "", "wall time of this job, as 90min or 4h: before it is up everything finished is committed and the exit status "
        "is 75; '' is until the end of the Slurm job")
    stall_timeout: Annotated[str, AfterValidator(values.check_duration)] = _p(
        "", "end the job when a rank has not got on for so long, as 30min; '' waits for ever")

    @property
    def max_time_s(self) -> float | None:
        """Seconds; None where the batch system decides."""
        return units.duration_s(self.max_time) if self.max_time else None

    @property
    def stall_timeout_s(self) -> float:
        """Seconds; 0 for no limit."""
        return units.duration_s(self.stall_timeout) if self.stall_timeout else 0.0

    @property
    def memory_per_rank_bytes(self) -> int | None:
        """Bytes; None where the node decides."""
        return units.size_bytes(self.memory_per_rank) if self.memory_per_rank else None


class OutputConfig(Section):
    """What is written."""

    imagename: Annotated[str, AfterValidator(values.check_imagename)] = _p(
        REQUIRED, "prefix of all products, as runs/ngc5921")
    products: Annotated[tuple[Product, ...], BeforeValidator(values.as_strings), AfterValidator(values.unique)] = _p(
        PRODUCTS, "which images to write")
    keep_state: bool = _p(False, "keep the state after success")
    overwrite: bool = _p(False, "replace earlier products and state of the same name")
    timeline: bool = _p(False, "write <imagename>.timeline.json: what each rank did when, for ui.perfetto.dev")

    @model_validator(mode="after")
    def _agrees(self) -> OutputConfig:
        if not self.products:
            raise ParameterError("products is empty: nothing would be written")
        return self


class RunConfig(Section):
    """All parameters of a run, validated. Build it with :meth:`from_flat` or :meth:`from_toml`."""

    selection: SelectionConfig
    spectral: SpectralConfig
    image: ImageConfig
    weighting: WeightingConfig
    deconvolution: DeconvolutionConfig
    parallel: ParallelConfig
    output: OutputConfig

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> RunConfig:
        """Check flat values (name -> value) and sort them into sections.

        ``labels`` says how messages call a name ("--niter", "run.toml: niter"); the name itself where it is missing.

        Raises
        ------
        UsageError
            For an unknown name, a value that can't be used, or values that contradict each other.
        """
        check_names(flat)
        labels = labels or {}
        built = {name: build_section(kind, flat, labels) for name, kind in sections().items()}
        try:
            return cls(**built)
        except ValidationError as error:
            raise UsageError(_contradiction(error.errors()[0], parameters(), labels)) from None

    @classmethod
    def from_toml(cls, text: str, source: str = "configuration") -> RunConfig:
        """Parse and check a TOML text; ``source`` names it in messages."""
        flat = parse_toml(text, source)
        check_names(flat, f"{source}: ")
        return cls.from_flat(flat, {name: f"{source}: {name}" for name in flat})

    def flat(self) -> dict[str, Any]:
        """All names and values, in the order of the sections."""
        return {name: getattr(getattr(self, section), name)
                for section, kind in sections().items() for name in kind.model_fields}

    def replaced(self, changes: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> RunConfig:
        """A checked copy with ``changes`` (name -> value)."""
        check_names(changes)
        return RunConfig.from_flat({**self.flat(), **changes}, labels)

    def resumed_with(self, changes: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> RunConfig:
        """A checked copy for a resumed run; refuses to change what the state was computed with."""
        changed = self.replaced(changes, labels)
        fixed = [name for name in differences(self, changed) if name not in CHANGEABLE_ON_RESUME]
        if fixed:
            raise UsageError(f"{(labels or {}).get(fixed[0], fixed[0])} can't change on resume; these can: "
                             f"{', '.join(sorted(CHANGEABLE_ON_RESUME))}")
        return changed

    def to_toml(self) -> str:
        """The complete canonical text; :meth:`from_toml` of it gives an equal configuration."""
        lines = ["# radps_mpi configuration; `radps image --help` explains names and units",
                 f"config_version = {CONFIG_VERSION}"]
        for section, kind in sections().items():
            lines += ["", f"# {section_title(kind)}"]
            lines += [f"{name} = {format_value(getattr(getattr(self, section), name))}" for name in kind.model_fields]
        return "\n".join(lines) + "\n"

    @model_validator(mode="after")
    def _agrees(self) -> RunConfig:
        if self.deconvolution.usemask == "pb" and self.image.pb_model == "none":
            raise ParameterError("usemask = 'pb' needs a primary beam: pb_model is 'none'")
        if self.weighting.weighting == "briggsbwtaper" and self.spectral.specmode == "mfs":
            raise ParameterError("weighting = 'briggsbwtaper' is for specmode = 'cube': use 'briggs' with 'mfs'")
        return self


def differences(a: RunConfig, b: RunConfig) -> list[str]:
    """Names of the parameters in which two configurations differ, in the order of the sections."""
    left, right = a.flat(), b.flat()
    return [name for name in left if left[name] != right[name]]


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Flat names and values of a TOML file; names are checked, values are not yet."""
    flat = load_toml(path)
    check_names(flat, f"{path}: ")
    return flat


# Names ---------------------------------------------------------------------------------------------------------------

@cache
def sections() -> dict[str, Any]:
    """Section name -> model, in order."""
    return {name: info.annotation for name, info in RunConfig.model_fields.items()}


@cache
def parameters() -> dict[str, FieldInfo]:
    """Parameter name -> field, of all sections, in order."""
    return {name: info for kind in sections().values() for name, info in kind.model_fields.items()}


def section_title(kind: type[Section]) -> str:
    """First line of a section's docstring, without its full stop."""
    return (kind.__doc__ or "").split("\n")[0].rstrip(".")


def check_names(names: Iterable[str], source: str = "") -> None:
    """Refuse a name that no section has, with the nearest one that exists."""
    for name in names:
        if name not in parameters():
            raise UsageError(f"{source}unknown parameter {name!r}{units.did_you_mean(name, parameters())}")


def build_section(kind: type[Section], flat: Mapping[str, Any], labels: Mapping[str, str]) -> Any:
    """One section from those of the ``flat`` values that are its own; errors call a parameter by its label."""
    mine = {name: flat[name] for name in kind.model_fields if name in flat}
    for name, value in mine.items():
        if isinstance(value, bool) and kind.model_fields[name].annotation is not bool:
            raise UsageError(f"{labels.get(name, name)}: {str(value).lower()} is not a value of this parameter "
                             f"({kind.model_fields[name].description})")
    try:
        return kind(**mine)
    except ValidationError as error:
        raise UsageError(_message(kind.model_fields, error.errors()[0], labels)) from None


def is_list(info: FieldInfo) -> bool:
    """Does the parameter take several values?"""
    return any(get_origin(choice) is tuple for choice in (info.annotation, *get_args(info.annotation)))


def allowed(info: FieldInfo) -> tuple[str, ...]:
    """The values of a parameter that takes one of a few names; empty for the others."""
    annotation = get_args(info.annotation)[0] if get_origin(info.annotation) is tuple else info.annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def allowed_range(info: FieldInfo) -> str:
    """'above 0, at most 1' of a number's field; '' where there is no bound."""
    words = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
    bounds = [(words[type(mark)], mark) for mark in _marks(info) if type(mark) in words]
    return ", ".join(f"{word} {getattr(mark, key):g}" for (word, key), mark in bounds)


def _marks(info: FieldInfo) -> list[Any]:
    """Constraints of a field, or of the items of its tuple."""
    items = get_args(info.annotation)[:1] if get_origin(info.annotation) is tuple else ()
    inner = [mark for item in items for mark in getattr(item, "__metadata__", ()) if isinstance(mark, FieldInfo)]
    return [*info.metadata, *(mark for nested in inner for mark in nested.metadata)]


# Messages ------------------------------------------------------------------------------------------------------------

_EXPECTED = {"int": "a whole number", "float": "a number", "finite": "a finite number", "bool": "true or false",
             "string": "a text", "tuple": "a list"}


def _message(fields: Mapping[str, FieldInfo], error: ErrorDetails, labels: Mapping[str, str]) -> str:
    """One line of the first error of a section."""
    if not error["loc"]:
        return _contradiction(error, fields, labels)
    name = str(error["loc"][0])
    label, info = labels.get(name, name), fields[name]
    if error["type"] == "missing":
        return f"{label} is missing: {info.description}"
    if error["type"] == "value_error":
        return f"{label}: {error['ctx']['error']}"
    return f"{label}: {_wrong_value(info, error)}"


def _wrong_value(info: FieldInfo, error: ErrorDetails) -> str:
    value, names, limits = error["input"], allowed(info), allowed_range(info)
    if names:
        known = ", ".join(name or "''" for name in names)
        return f"{value!r} is not one of {known}{units.did_you_mean(str(value), names)}"
    if error["type"].startswith(("greater_than", "less_than")):
        return f"{value} is outside the allowed range: {limits}"
    word = next((text for start, text in _EXPECTED.items() if error["type"].startswith(start)), None)
    return f"{value!r} is not {word}{f' ({limits})' if limits else ''}" if word else f"{value!r}: {error['msg']}"


def _contradiction(error: ErrorDetails, fields: Mapping[str, FieldInfo], labels: Mapping[str, str]) -> str:
    """A cross-check's message starts with the parameter that is wrong: call it as the user did."""
    message = str(error["ctx"]["error"])
    first, _, rest = message.partition(" ")
    return f"{labels[first]} {rest}" if first in fields and first in labels else message
