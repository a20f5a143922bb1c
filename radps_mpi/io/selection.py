"""Data selection with tclean's options: which rows and channels of a MeasurementSet.

The parsers are our own, because the functions that casacore offers for it inside its query language end the process
with a segmentation fault for ``mscal.scan``, for ``mscal.time`` and for an unknown spectral window (python-casacore
3.8.1), where a user who mistyped a name is owed one clear line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io import selection_syntax as syntax
from radps_mpi.io.measurement_set import SetTables
from radps_mpi.io.selection_syntax import Mask
from radps_mpi.units import did_you_mean

DATA_COLUMNS = {"data": "DATA", "corrected": "CORRECTED_DATA", "model": "MODEL_DATA"}
"""tclean's names of the data columns; "auto" is CORRECTED_DATA where there is one, else DATA."""

Rows = Mapping[str, NDArray[Any]]
"""Columns of the main table by name, (nrow,) each; UVW is (nrow, 3)."""

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take of one MeasurementSet; empty text takes all. Names and syntax are tclean's."""

    field: str = ""
    spw: str = ""
    intent: str = ""
    scan: str = ""
    antenna: str = ""
    timerange: str = ""
    uvrange: str = ""
    observation: str = ""
    datacolumn: str = "auto"


@runtime_checkable
class SelectionOptions(Protocol):
    """The part of the run's configuration that selects data."""

    @property
    def datacolumn(self) -> str:
        """auto, corrected, data or model, for all MeasurementSets."""

    def of_input(self, index: int) -> dict[str, str]:
        """The other options of :class:`Selection` for one MeasurementSet."""


def selection_per_source(options: SelectionOptions, nsource: int) -> list[Selection]:
    """One :class:`Selection` for each MeasurementSet."""
    return [Selection(**options.of_input(index), datacolumn=options.datacolumn) for index in range(nsource)]


@dataclass(frozen=True, slots=True)
class RowChoice:
    """A selection resolved against the tables of one MeasurementSet.

    Masks are over ids: ``fields``, ``data_descriptions``, ``observations``, ``intents`` (of STATE_ID), ``baselines``
    (nantenna, nantenna; symmetric); None means no restriction. ``channels[window]`` (nchan) is in native channel order.
    """

    fields: Mask
    data_descriptions: Mask
    channels: Mapping[int, Mask]
    observations: Mask | None
    intents: Mask | None
    scans: syntax.NumberRanges | None
    baselines: Mask | None
    times_s: syntax.TimeRanges | None
    uv_limits: syntax.UvLimits | None
    wavelength_m: NDArray[np.float64]
    """(ndata_description,) of the windows' reference frequencies."""

    def keep(self, rows: Rows) -> Mask:
        """Which rows are selected, (nrow,) bool."""
        keep = _chosen(self.fields, rows["FIELD_ID"]) & _chosen(self.data_descriptions, rows["DATA_DESC_ID"])
        if self.observations is not None:
            keep &= _chosen(self.observations, rows["OBSERVATION_ID"])
        if self.intents is not None:
            keep &= _chosen(self.intents, rows["STATE_ID"])
        if self.scans is not None:
            scan = rows["SCAN_NUMBER"]
            keep &= np.any([(scan >= low) & (scan <= high) for low, high in self.scans], axis=0)
        if self.baselines is not None:
            keep &= self.baselines[rows["ANTENNA1"], rows["ANTENNA2"]]
        if self.times_s is not None:
            keep &= np.any([(rows["TIME"] >= start) & (rows["TIME"] <= stop) for start, stop in self.times_s], axis=0)
        if self.uv_limits is not None:
            keep &= self._uv_inside(rows)
        return keep

    def _uv_inside(self, rows: Rows) -> Mask:
        uv_m = np.hypot(rows["UVW"][:, 0], rows["UVW"][:, 1])
        description = np.clip(rows["DATA_DESC_ID"], 0, len(self.wavelength_m) - 1)
        uv_wavelengths = uv_m / self.wavelength_m[description]
        inside = np.zeros(len(uv_m), dtype=bool)
        for least, most, in_wavelengths in self.uv_limits or ():
            uv = uv_wavelengths if in_wavelengths else uv_m
            inside |= (uv >= least) & (uv <= most)
        return inside


def _chosen(mask: Mask, ids: NDArray[Any]) -> Mask:
    """``mask[ids]``, false for ids outside the table."""
    if not len(mask):
        return np.zeros(len(ids), dtype=bool)
    inside: Mask = (ids >= 0) & (ids < len(mask))
    return inside & mask[np.clip(ids, 0, len(mask) - 1)]


def resolve(selection: Selection, tables: SetTables, first_time_s: float) -> RowChoice:
    """Resolve a selection's text against a MeasurementSet.

    ``first_time_s`` (MJD in seconds) gives the date of times without one.

    Raises
    ------
    UsageError
        If a text can't be read or names something that isn't there; one line that names the MeasurementSet and the
        option.
    """

    def parsed(option: str, parse: Callable[[str], _Parsed]) -> _Parsed:
        text = str(getattr(selection, option))
        try:
            return parse(text.strip())
        except UsageError as error:
            raise UsageError(f"{tables.path}: {option} {text!r}: {error}") from None

    def restriction(option: str, parse: Callable[[str], _Parsed]) -> _Parsed | None:
        return parsed(option, parse) if getattr(selection, option).strip() not in ("", "*") else None

    windows = tables.windows
    channels = parsed("spw", lambda text: syntax.channels(text, [(w.name, w.freq_hz) for w in windows]))
    return RowChoice(
        fields=parsed("field", lambda text: syntax.ids_or_names(text, [f.name for f in tables.fields])),
        data_descriptions=np.array([window in channels for window in tables.window_of], dtype=bool),
        channels=channels,
        observations=restriction("observation", lambda text: syntax.ids_or_names(text, [""] * tables.nobservation)),
        intents=restriction("intent", lambda text: syntax.intents(text, tables.intents)),
        scans=restriction("scan", syntax.number_ranges),
        baselines=restriction("antenna", lambda text: syntax.baselines(text, tables.antenna_names)),
        times_s=restriction("timerange", lambda text: syntax.time_ranges(text, first_time_s)),
        uv_limits=restriction("uvrange", syntax.uv_limits),
        wavelength_m=np.array([SPEED_OF_LIGHT_M_S / windows[w].ref_freq_hz for w in tables.window_of]),
    )


def choose_data_column(datacolumn: str, tables: SetTables) -> str:
    """The main table's column that holds the data.

    Raises
    ------
    UsageError
        If ``datacolumn`` isn't auto, data, corrected or model.
    DataError
        If the MeasurementSet has no such column; FLOAT_DATA (single-dish) is refused by name.
    """
    name = datacolumn.strip().lower()
    if name not in ("auto", *DATA_COLUMNS):
        raise UsageError(f"datacolumn {datacolumn!r} is unknown{did_you_mean(name, ['auto', *DATA_COLUMNS])}")
    column = DATA_COLUMNS.get(name) or ("CORRECTED_DATA" if "CORRECTED_DATA" in tables.columns else "DATA")
    if column in tables.columns:
        return column
    if "FLOAT_DATA" in tables.columns:
        raise DataError(
            f"{tables.path}: column {column} is missing; its FLOAT_DATA holds single-dish data, not visibilities"
        )
    there = [c for c in ("DATA", "CORRECTED_DATA", "MODEL_DATA") if c in tables.columns]
    raise DataError(f"{tables.path}: column {column} is missing (it has {', '.join(there) or 'no visibilities'})")
