"""Small MeasurementSets with known content, made on the spot, and changes to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import complete_ms_desc, default_ms, makearrcoldesc, maketabdesc, required_ms_desc, table

from radps_mpi.constants import MJD_OF_UNIX_EPOCH_S

FREQ_HZ = 1.4e9 + 1e5 * np.arange(8)
CODES = {"XX": 9, "XY": 10, "YX": 11, "YY": 12, "RR": 5, "LL": 8}
START_S = MJD_OF_UNIX_EPOCH_S + 1_500_000_000.0


def make_set(path: Path, *, nantenna: int = 5, ntime: int = 6, freq_hz: np.ndarray = FREQ_HZ,
             correlations: Sequence[str] = ("XX", "YY"), frame: int = 5, spectral_weight: bool = False,
             data_columns: Sequence[str] = ("DATA",), fields: int = 1) -> Path:
    """ALMA-like: all baselines and autocorrelations at each time, 10 s apart; field i at times i mod ``fields``.

    The datum of row r, channel c, correlation p is (r + 1) + 1000 c + 100000 p - 1j * r; weights are 1 + r mod 7.
    """
    wanted = {"DATA", "CORRECTED_DATA", "MODEL_DATA", "WEIGHT_SPECTRUM"}
    complete = complete_ms_desc("MAIN")
    extra = {name: complete[name] for name in (*data_columns, *(["WEIGHT_SPECTRUM"] if spectral_weight else []))
             if name in wanted}
    with default_ms(str(path), {**required_ms_desc("MAIN"), **extra}) as main:
        if ntime:
            _fill_main(main, nantenna, ntime, len(freq_hz), len(correlations), fields, spectral_weight, data_columns)
    _fill_tables(path, nantenna, freq_hz, correlations, frame, fields)
    return path


def _fill_main(main: Any, nantenna: int, ntime: int, nchan: int, npol: int, fields: int, spectral_weight: bool,
               data_columns: Sequence[str]) -> None:
    first, second = np.triu_indices(nantenna)
    nrow = len(first) * ntime
    main.addrows(nrow)
    step = np.repeat(np.arange(ntime), len(first))
    time = START_S + 10.0 * step
    row = np.arange(nrow)
    main.putcol("ANTENNA1", np.tile(first, ntime).astype(np.int32))
    main.putcol("ANTENNA2", np.tile(second, ntime).astype(np.int32))
    for column in ("TIME", "TIME_CENTROID"):
        main.putcol(column, time)
    main.putcol("INTERVAL", np.full(nrow, 10.0))
    main.putcol("FIELD_ID", (step % fields).astype(np.int32))
    main.putcol("SCAN_NUMBER", (1 + step // 2).astype(np.int32))
    main.putcol("STATE_ID", (step % 2).astype(np.int32))
    main.putcol("UVW", uvw_of(row))
    main.putcol("WEIGHT", np.repeat(1.0 + row[:, None] % 7, npol, axis=1).astype(np.float32))
    main.putcol("SIGMA", np.ones((nrow, npol), np.float32))
    main.putcol("FLAG", np.zeros((nrow, nchan, npol), bool))
    for column in data_columns:
        main.putcol(column, data_of(row, nchan, npol).astype(np.complex64))
    if spectral_weight:
        weight = 1.0 + row[:, None, None] % 7 + np.arange(nchan)[None, :, None] * np.ones(npol)
        main.putcol("WEIGHT_SPECTRUM", weight.astype(np.float32))


def data_of(row: np.ndarray, nchan: int, npol: int) -> np.ndarray:
    """(nrow, nchan, npol) data of the rows of a set, as made."""
    real = (row + 1.0)[:, None, None] + 1e3 * np.arange(nchan)[None, :, None] + 1e5 * np.arange(npol)
    return real - 1j * row[:, None, None]


def uvw_of(row: np.ndarray) -> np.ndarray:
    """(nrow, 3) uvw of the rows of a set, metres."""
    return np.stack([100.0 * np.cos(row), 80.0 * np.sin(row), 0.1 * row], axis=1)


def _fill_tables(path: Path, nantenna: int, freq_hz: np.ndarray, correlations: Sequence[str], frame: int,
                 fields: int) -> None:
    with table(f"{path}/ANTENNA", readonly=False, ack=False) as antennas:
        antennas.addrows(nantenna)
        antennas.putcol("NAME", [f"DA{41 + i}" for i in range(nantenna)])
        antennas.putcol("DISH_DIAMETER", np.full(nantenna, 12.0))
        antennas.putcol("POSITION", np.tile([2225142.0, -5440307.0, -2481029.0], (nantenna, 1)))
    with table(f"{path}/FIELD", readonly=False, ack=False) as field:
        field.addrows(fields)
        field.putcol("NAME", [f"field{i}" for i in range(fields)])
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            field.putcol(column, np.stack([[[1.0 + 0.001 * i, -0.4]] for i in range(fields)]))
    with table(f"{path}/SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        window.addrows(1)
        window.putcol("NAME", ["band"])
        window.putcol("CHAN_FREQ", freq_hz[None])
        window.putcol("CHAN_WIDTH", np.full((1, len(freq_hz)), freq_hz[1] - freq_hz[0] if len(freq_hz) > 1 else 1e5))
        window.putcol("REF_FREQUENCY", freq_hz[:1])
        window.putcol("MEAS_FREQ_REF", np.array([frame], np.int32))
        window.putcol("NUM_CHAN", np.array([len(freq_hz)], np.int32))
    with table(f"{path}/POLARIZATION", readonly=False, ack=False) as polarization:
        polarization.addrows(1)
        polarization.putcol("CORR_TYPE", np.array([[CODES[name] for name in correlations]], np.int32))
        polarization.putcol("NUM_CORR", np.array([len(correlations)], np.int32))
    with table(f"{path}/DATA_DESCRIPTION", readonly=False, ack=False) as description:
        description.addrows(1)
    with table(f"{path}/OBSERVATION", readonly=False, ack=False) as observation:
        observation.addrows(1)
        observation.putcol("TELESCOPE_NAME", ["ALMA"])
    with table(f"{path}/STATE", readonly=False, ack=False) as state:
        state.addrows(2)
        state.putcol("OBS_MODE", ["OBSERVE_TARGET#ON_SOURCE", "CALIBRATE_WVR#REF,OBSERVE_CHECK#ON_SOURCE"])


def change(path: Path, column: str, rows: Any, value: Any, subtable: str = "") -> None:
    """Put ``value`` into ``column`` where ``rows`` indexes it."""
    name = f"{path}/{subtable}" if subtable else str(path)
    with table(name, readonly=False, ack=False) as main:
        values = np.asarray(main.getcol(column))
        values[rows] = value
        main.putcol(column, values)


def remove_column(path: Path, column: str) -> None:
    """Take a column out of the main table."""
    with table(str(path), readonly=False, ack=False) as main:
        main.removecols(column)


def add_float_data(path: Path) -> None:
    """Give the main table a FLOAT_DATA column, as single-dish sets have."""
    with table(str(path), readonly=False, ack=False) as main:
        main.addcols(maketabdesc([makearrcoldesc("FLOAT_DATA", 0.0, valuetype="float", ndim=2)]))
