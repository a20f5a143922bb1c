"""What a MeasurementSet (version 2) says about itself: antennas, fields, spectral windows, correlations, lines.

Read by one rank and broadcast: plain values, small whatever the size of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.errors import DataError
from radps_mpi.io.measurement_set_frames import to_supported_frame
from radps_mpi.io.measurement_set_tables import open_table, read_cell, read_column

CORRELATIONS = {
    1: "I", 2: "Q", 3: "U", 4: "V", 5: "RR", 6: "RL", 7: "LR", 8: "LL", 9: "XX", 10: "XY", 11: "YX", 12: "YY",
}  # fmt: skip
"""casacore's Stokes enumeration, as far as interferometers record it."""

FREQUENCY_FRAMES = {
    0: "REST", 1: "LSRK", 2: "LSRD", 3: "BARY", 4: "GEO", 5: "TOPO", 6: "GALACTO", 7: "LGROUP", 8: "CMB",
    64: "Undefined",
}  # fmt: skip
"""casacore's MFrequency::Types."""

INDEX_COLUMNS = (
    "ANTENNA1", "ANTENNA2", "DATA_DESC_ID", "FIELD_ID", "FLAG_ROW", "OBSERVATION_ID", "SCAN_NUMBER", "STATE_ID",
    "TIME", "UVW",
)  # fmt: skip
"""Columns of the main table that every MeasurementSet must have for us, besides data, flags and weights."""


@dataclass(frozen=True, slots=True)
class Field:
    """A row of the FIELD table; the direction is in ``direction_frame`` (J2000, ICRS, or a frame we can't use)."""

    name: str
    direction_rad: tuple[float, float]
    direction_frame: str
    moving: bool
    source_id: int


@dataclass(frozen=True, slots=True)
class SpectralWindow:
    """A row of SPECTRAL_WINDOW: native order, ``width_hz`` with the table's sign."""

    name: str
    freq_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    ref_freq_hz: float
    frame: str


@dataclass(frozen=True, slots=True)
class SetTables:
    """The small tables of one MeasurementSet."""

    path: str
    nrow: int
    columns: frozenset[str]
    time_scale: str
    fields: tuple[Field, ...]
    windows: tuple[SpectralWindow, ...]
    window_of: tuple[int, ...]
    """Spectral window of each DATA_DESC_ID."""
    correlations_of: tuple[tuple[str, ...], ...]
    """Correlations of each DATA_DESC_ID."""
    antenna_names: tuple[str, ...]
    antenna_position_m: NDArray[np.float64]
    dish_diameter_m: NDArray[np.float64]
    intents: tuple[str, ...]
    """OBS_MODE of each STATE_ID."""
    nobservation: int
    telescope: str
    observer: str
    project: str
    lines: tuple[tuple[int, int, str, float], ...]
    """(SOURCE_ID, SPECTRAL_WINDOW_ID, name, rest frequency in Hz or 0)."""

    def line_of(self, field: Field, window_id: int) -> tuple[str, float]:
        """Source name and rest frequency (0 if unknown) for a field in a window."""
        of_source = [line for line in self.lines if line[0] == field.source_id]
        matching = [line for line in of_source if line[1] in (window_id, -1)]
        name = next((line[2] for line in matching or of_source if line[2]), field.name)
        return name, next((line[3] for line in matching if line[3] > 0.0), 0.0)


def describe(path: str) -> SetTables:
    """Read the small tables of a MeasurementSet.

    Raises
    ------
    DataError
        If this isn't a MeasurementSet, a table or column is missing, or something in it is not supported; one line
        that names file and column.
    """
    root = Path(path)
    with open_table(root) as main:
        columns = frozenset(main.colnames())
        nrow = int(main.nrows())
        missing = [name for name in INDEX_COLUMNS if name not in columns]
        if missing:
            raise DataError(f"{path}: not a usable MeasurementSet: column {missing[0]} is missing")
        _require_unit(main, "UVW", "m")
        _require_unit(main, "TIME", "s")
        time_scale = _time_scale(main, path)
    windows = _windows(root)
    window_of, correlations_of = _data_descriptions(root, len(windows))
    names, positions, diameters = _antennas(root)
    telescope, observer, project, nobservation = _observation(root)
    return SetTables(
        path, nrow, columns, time_scale, _fields(root), windows, window_of, correlations_of, names, positions,
        diameters,
        _intents(root), nobservation, telescope, observer, project, _lines(root),
    )  # fmt: skip


def _require_unit(table: Any, column: str, unit: str) -> None:
    """DataError if a column declares another unit than the format's; none declared is the format's."""
    if column not in table.colnames():
        return
    declared = table.getcolkeywords(column).get("QuantumUnits", unit)
    found = {declared} if isinstance(declared, str) else set(declared)
    if found - {unit}:
        strange = sorted(map(str, found - {unit}))[0]
        raise DataError(f"{table.name()}: column {column} is in {strange!r}; MeasurementSets have it in {unit}")


def _time_scale(main: Any, path: str) -> str:
    scale = main.getcolkeywords("TIME").get("MEASINFO", {}).get("Ref", "UTC")
    if scale not in ("UTC", "TAI"):
        raise DataError(f"{path}: column TIME is in {scale}; only UTC and TAI are supported")
    return str(scale)


def _fields(root: Path) -> tuple[Field, ...]:
    with open_table(root / "FIELD") as table:
        _require_unit(table, "PHASE_DIR", "rad")
        names = read_column(table, "NAME")
        return tuple(_field(table, row, str(name)) for row, name in enumerate(names))


def _field(table: Any, row: int, name: str) -> Field:
    directions = read_cell(table, "PHASE_DIR", row)
    if directions is None:
        raise DataError(f"{table.name()}: column PHASE_DIR of row {row} is empty")
    directions = np.atleast_2d(directions)
    columns = table.colnames()
    moving = bool(np.any(directions[1:] != 0.0))
    moving |= "EPHEMERIS_ID" in columns and int(read_cell(table, "EPHEMERIS_ID", row) or 0) >= 0
    source_id = int(read_cell(table, "SOURCE_ID", row)) if "SOURCE_ID" in columns else -1
    frame = _direction_frame(table, row)
    direction = (float(directions[0, 0]), float(directions[0, 1]))
    converted, frame = to_supported_frame(direction, frame)
    return Field(name, converted, frame, moving, source_id)


def _direction_frame(table: Any, row: int) -> str:
    info = table.getcolkeywords("PHASE_DIR").get("MEASINFO", {})
    reference_column = info.get("VarRefCol")
    if not reference_column:
        return str(info.get("Ref", "J2000"))
    value = read_cell(table, reference_column, row)
    if isinstance(value, str):
        return value
    names = {
        int(code): str(kind)
        for code, kind in zip(info.get("TabRefCodes", ()), info.get("TabRefTypes", ()), strict=False)
    }
    return names.get(int(value), f"code {value}")


def _windows(root: Path) -> tuple[SpectralWindow, ...]:
    with open_table(root / "SPECTRAL_WINDOW") as table:
        codes = read_column(table, "MEAS_FREQ_REF") if "MEAS_FREQ_REF" in table.colnames() else [64] * table.nrows()
        _require_unit(table, "CHAN_FREQ", "Hz")
        _require_unit(table, "CHAN_WIDTH", "Hz")
        named = _named_frames(table)
        return tuple(_window(table, row, named.get(int(code), f"code {code}")) for row, code in enumerate(codes))


def _named_frames(table: Any) -> dict[int, str]:
    info = table.getcolkeywords("CHAN_FREQ").get("MEASINFO", {}) if "CHAN_FREQ" in table.colnames() else {}
    own = {int(c): str(t) for c, t in zip(info.get("TabRefCodes", ()), info.get("TabRefTypes", ()), strict=False)}
    return {**FREQUENCY_FRAMES, **own}


def _window(table: Any, row: int, frame: str) -> SpectralWindow:
    freq = np.atleast_1d(np.asarray(read_cell(table, "CHAN_FREQ", row), dtype=np.float64))
    width = np.atleast_1d(np.asarray(read_cell(table, "CHAN_WIDTH", row), dtype=np.float64))
    where = f"{table.name()}: row {row}"
    if freq.shape != width.shape or not (np.isfinite(freq).all() and np.isfinite(width).all() and (freq > 0).all()):
        raise DataError(
            f"{where}: columns CHAN_FREQ and CHAN_WIDTH don't give one positive frequency and one width per channel"
        )
    steps = np.diff(freq)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise DataError(f"{where}: column CHAN_FREQ is neither ascending nor descending")
    name = str(read_cell(table, "NAME", row) or "") if "NAME" in table.colnames() else ""
    reference = read_cell(table, "REF_FREQUENCY", row) if "REF_FREQUENCY" in table.colnames() else None
    return SpectralWindow(name, freq, width, float(freq[0] if reference is None else reference), frame)


def _data_descriptions(root: Path, nwindow: int) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
    with open_table(root / "POLARIZATION") as table:
        correlations = [_correlation_names(read_cell(table, "CORR_TYPE", row)) for row in range(table.nrows())]
    with open_table(root / "DATA_DESCRIPTION") as table:
        windows = [int(i) for i in read_column(table, "SPECTRAL_WINDOW_ID")]
        polarizations = [int(i) for i in read_column(table, "POLARIZATION_ID")]
    if any(not 0 <= i < nwindow for i in windows):
        raise DataError(f"{root / 'DATA_DESCRIPTION'}: column SPECTRAL_WINDOW_ID names a window that isn't there")
    if any(not 0 <= i < len(correlations) for i in polarizations):
        raise DataError(f"{root / 'DATA_DESCRIPTION'}: column POLARIZATION_ID names a polarisation that isn't there")
    return tuple(windows), tuple(correlations[i] for i in polarizations)


def _correlation_names(codes: Any) -> tuple[str, ...]:
    return tuple(CORRELATIONS.get(int(code), f"code {int(code)}") for code in np.atleast_1d(codes))


def _antennas(root: Path) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    with open_table(root / "ANTENNA") as table:
        if table.nrows() == 0:
            raise DataError(f"{root / 'ANTENNA'}: the table is empty")
        _require_unit(table, "POSITION", "m")
        _require_unit(table, "DISH_DIAMETER", "m")
        names = tuple(str(name) for name in read_column(table, "NAME"))
        return names, np.asarray(read_column(table, "POSITION")), np.asarray(read_column(table, "DISH_DIAMETER"))


def _intents(root: Path) -> tuple[str, ...]:
    if not (root / "STATE").exists():
        return ()
    with open_table(root / "STATE") as table:
        return tuple(str(mode) for mode in read_column(table, "OBS_MODE"))


def _observation(root: Path) -> tuple[str, str, str, int]:
    with open_table(root / "OBSERVATION") as table:
        if table.nrows() == 0:
            raise DataError(f"{root / 'OBSERVATION'}: the table is empty")
        telescopes = sorted(set(read_column(table, "TELESCOPE_NAME")))
        if len(telescopes) > 1:
            raise DataError(f"{table.name()}: column TELESCOPE_NAME names several telescopes ({', '.join(telescopes)})")
        columns = table.colnames()
        observer, project = (
            str(read_cell(table, name, 0) or "") if name in columns else "" for name in ("OBSERVER", "PROJECT")
        )
        return str(telescopes[0]), observer, project, int(table.nrows())


def _lines(root: Path) -> tuple[tuple[int, int, str, float], ...]:
    """The SOURCE table is optional, and so is REST_FREQUENCY in it."""
    if not (root / "SOURCE" / "table.dat").exists():
        return ()
    with open_table(root / "SOURCE") as table:
        lines = []
        for row in range(table.nrows()):
            rest = read_cell(table, "REST_FREQUENCY", row) if "REST_FREQUENCY" in table.colnames() else None
            first = float(np.atleast_1d(rest)[0]) if rest is not None and np.size(rest) else 0.0
            window = (
                int(read_cell(table, "SPECTRAL_WINDOW_ID", row)) if "SPECTRAL_WINDOW_ID" in table.colnames() else -1
            )
            lines.append(
                (int(read_cell(table, "SOURCE_ID", row)), window, str(read_cell(table, "NAME", row) or ""), first)
            )
        return tuple(lines)
