"""Simulated observations as MeasurementSets (version 2), written by one process from the store that holds them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import StorageError, UsageError
from radps_mpi.io import durable
from radps_mpi.io.measurement_set import CORRELATIONS, FREQUENCY_FRAMES
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.simulation.observation import Simulation, blanks

_SLAB_BYTES = 1 << 26
"""Visibilities read from the store in one go."""

_TILE_CHANNELS, _TILE_ROWS = 64, 1024
_FIXED_SHAPE = 5
"""casacore's ColumnDesc options Direct and FixedShape."""

_STORAGE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "IncrementalStMan": (
        ["ARRAY_ID", "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "FLAG_ROW", "INTERVAL", "OBSERVATION_ID", "PROCESSOR_ID",
         "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID"], {"BUCKETSIZE": 62_456},
    ),
    "StandardStMan": (["ANTENNA1", "ANTENNA2", "DATA_DESC_ID"], {"BUCKETSIZE": 32_768}),
}  # fmt: skip
"""What keeps columns of one number per row, as in sets of ALMA: casacore's defaults have buckets of some hundred rows, which
every reader of a whole column pays for."""


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """UsageError if there is something at ``path``: MeasurementSets are never overwritten."""
    if os.path.lexists(path):
        raise UsageError(f"{path}: it exists already; remove it, or write to another place")


def write_measurement_set(path: str | os.PathLike[str], store_path: str | os.PathLike[str], simulation: Simulation) -> None:
    """Write the observation in a simulated store as a MeasurementSet: the same visibilities in time order, with DATA, FLAG,
    WEIGHT and SIGMA. Flagged samples are 0 and flagged, NaNs stay. By one process; memory is bounded.

    The set is written as ``<path>.partial`` and renamed when it is complete.

    Raises
    ------
    UsageError
        If ``path`` exists.
    StorageError
        If the file system refuses.
    """
    refuse_existing(path)
    final = Path(path)
    partial = final.with_name(final.name + ".partial")
    with durable.naming(partial, "creating it"):
        final.absolute().parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
    try:
        with VisibilityStore.open(store_path) as store:
            _write_main(partial, store, simulation)
            _write_tables(partial, store.observations[0], simulation)
        with durable.naming(final, "putting it in place"):
            os.replace(partial, final)
    except RuntimeError as error:  # what casacore raises, whatever is wrong
        raise StorageError(f"{partial}: can't be written: {str(error).splitlines()[0][:200]}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# Main table -----------------------------------------------------------------------------------------------------------


def _write_main(path: Path, store: VisibilityStore, simulation: Simulation) -> None:
    meta = store.observations[0]
    with _create(path, meta) as main:
        main.addrows(meta.nrow)
        for chunk in range(meta.nchunk):
            place = store.read_rows(0, chunk, chunk + 1).source_row - chunk * meta.row_chunk
            _write_columns(main, store, simulation, chunk, place)
            tiles = max(1, _SLAB_BYTES // (8 * meta.npol * len(place) * _TILE_CHANNELS))
            width = tiles * _TILE_CHANNELS
            for chan0 in range(0, meta.nchan, width):
                _write_slab(main, store, simulation, chunk, place, (chan0, min(chan0 + width, meta.nchan)))


def _create(path: Path, meta: ObservationMeta) -> Any:
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc, required_ms_desc

    shape = [meta.nchan, meta.npol]
    columns = [
        makearrcoldesc(name, value, valuetype=kind, ndim=2, shape=shape, options=_FIXED_SHAPE,
                       datamanagertype="TiledColumnStMan", datamanagergroup=f"Kept{number}")
        for number, (name, value, kind) in enumerate((("DATA", 0j, "complex"), ("FLAG", False, "boolean")), 1)
    ]  # fmt: skip
    nrow = min(_TILE_ROWS, meta.nrow)
    samples, weights = [meta.npol, min(_TILE_CHANNELS, meta.nchan), nrow], [meta.npol, nrow]
    kept = [
        ("TiledColumnStMan", ["DATA"], {"DEFAULTTILESHAPE": samples}),
        ("TiledColumnStMan", ["FLAG"], {"DEFAULTTILESHAPE": samples}),
        ("TiledColumnStMan", ["UVW"], {"DEFAULTTILESHAPE": [3, nrow]}),
        ("TiledShapeStMan", ["WEIGHT"], {"DEFAULTTILESHAPE": weights}),
        ("TiledShapeStMan", ["SIGMA"], {"DEFAULTTILESHAPE": weights}),
        *((kind, names, spec) for kind, (names, spec) in _STORAGE.items()),
    ]
    managers = {
        f"*{number}": {"NAME": f"Kept{number}", "TYPE": kind, "SEQNR": number, "COLUMNS": names, "SPEC": spec}
        for number, (kind, names, spec) in enumerate(kept, 1)
    }
    return default_ms(str(path), {**required_ms_desc("MAIN"), **maketabdesc(columns)}, managers)


def _write_columns(
    main: Any, store: VisibilityStore, simulation: Simulation, chunk: int, place: NDArray[np.int64]
) -> None:
    """Everything of a chunk that has one value per row. ``place`` is where each of the store's rows goes."""
    rows, times_s = store.read_rows(0, chunk, chunk + 1), store.read_times(0)[0]
    nrow, start = len(place), chunk * store.observations[0].row_chunk

    def put(name: str, values: NDArray[Any]) -> None:
        ordered = np.empty_like(values)
        ordered[place] = values
        main.putcol(name, ordered, start, nrow)

    time_s = times_s[rows.time_index]
    length_s = np.full(nrow, simulation.config.observing.integration_s)
    weight = np.full((nrow, store.observations[0].npol), simulation.weight, dtype=np.float32)
    for name, values in (
        ("ANTENNA1", rows.antenna1), ("ANTENNA2", rows.antenna2), ("SCAN_NUMBER", rows.scan), ("UVW", rows.uvw_m),
        ("TIME", time_s), ("TIME_CENTROID", time_s), ("INTERVAL", length_s), ("EXPOSURE", length_s),
        ("WEIGHT", weight), ("SIGMA", weight**-0.5),
    ):  # fmt: skip
        put(name, values)


def _write_slab(
    main: Any, store: VisibilityStore, simulation: Simulation, chunk: int, place: NDArray[np.int64], band: tuple[int, int]
) -> None:
    npol, nrow = store.observations[0].npol, len(place)
    data = np.empty((nrow, band[1] - band[0], npol), np.complex64)
    data[place] = store.read(0, *band, chunk, chunk + 1).transpose(2, 0, 1)
    flag = np.stack([blanks(simulation.config.noise, channel, chunk, (npol, nrow))[0].T for channel in range(*band)], axis=1)
    data[flag] = 0.0
    corners, start = ([band[0], 0], [band[1] - 1, npol - 1]), chunk * store.observations[0].row_chunk
    main.putcolslice("DATA", data, *corners, [], start, nrow)
    main.putcolslice("FLAG", flag, *corners, [], start, nrow)


# Subtables ------------------------------------------------------------------------------------------------------------


def _write_tables(path: Path, meta: ObservationMeta, simulation: Simulation) -> None:
    antennas = simulation.antennas
    count, nchan = len(antennas.names), meta.nchan
    _put(path / "ANTENNA", count, NAME=antennas.names, STATION=antennas.names, POSITION=antennas.position_itrf_m,
         DISH_DIAMETER=antennas.dish_m, TYPE=["GROUND-BASED"] * count, MOUNT=["ALT-AZ"] * count)  # fmt: skip
    direction = np.array(meta.direction_rad)[None, None, :]
    _put(path / "FIELD", 1, NAME=[meta.field_name], PHASE_DIR=direction, DELAY_DIR=direction, REFERENCE_DIR=direction,
         TIME=np.array([meta.first_time_s]))  # fmt: skip
    _put(path / "SPECTRAL_WINDOW", 1, NAME=[meta.spw_name], NUM_CHAN=_integers(nchan), CHAN_FREQ=meta.freq_hz[None],
         CHAN_WIDTH=meta.width_hz[None], EFFECTIVE_BW=meta.width_hz[None], RESOLUTION=meta.width_hz[None],
         REF_FREQUENCY=meta.freq_hz[:1], TOTAL_BANDWIDTH=np.array([meta.width_hz.sum()]),
         MEAS_FREQ_REF=_integers(_code(FREQUENCY_FRAMES, meta.frequency_frame)))  # fmt: skip
    codes = [_code(CORRELATIONS, name) for name in meta.corr_types]
    receptors = [["XYRL".index(hand) for hand in name] for name in meta.corr_types]
    _put(path / "POLARIZATION", 1, NUM_CORR=_integers(meta.npol), CORR_TYPE=_integers(*codes)[None],
         CORR_PRODUCT=np.array(receptors, dtype=np.int32)[None] % 2)  # fmt: skip
    _put(path / "DATA_DESCRIPTION", 1)
    _put(path / "OBSERVATION", 1, TELESCOPE_NAME=[meta.telescope], OBSERVER=[meta.observer], PROJECT=[meta.project],
         TIME_RANGE=np.array([[meta.first_time_s, meta.last_time_s]]))  # fmt: skip
    _write_feeds(path, meta, count)
    _put(path / "STATE", 1, OBS_MODE=["OBSERVE_TARGET#ON_SOURCE"], SIG=np.array([True]))
    if meta.restfreq_hz > 0.0:
        _write_source(path, meta)
    _name_direction_frame(path / "FIELD", meta.direction_frame)


def _put(path: Path, nrow: int, **columns: Any) -> None:
    from casacore.tables import table

    with table(str(path), readonly=False, ack=False) as rows:
        rows.addrows(nrow)
        for name, values in columns.items():
            rows.putcol(name, list(values) if isinstance(values, tuple) else values)


def _integers(*values: int) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def _code(names: dict[int, str], name: str) -> int:
    return next(code for code, known in names.items() if known == name)


def _write_feeds(path: Path, meta: ObservationMeta, count: int) -> None:
    """One feed with both receptors on each antenna, for all windows and times: tclean reads the receptors' type here."""
    hands = ["X", "Y"] if meta.corr_types[0][0] in "XY" else ["R", "L"]
    span_s = meta.last_time_s - meta.first_time_s
    _put(path / "FEED", count, ANTENNA_ID=_integers(*range(count)), SPECTRAL_WINDOW_ID=_integers(*[-1] * count),
         NUM_RECEPTORS=_integers(*[2] * count), BEAM_ID=_integers(*[-1] * count), BEAM_OFFSET=np.zeros((count, 2, 2)),
         POLARIZATION_TYPE={"shape": [count, 2], "array": hands * count}, POSITION=np.zeros((count, 3)),
         POL_RESPONSE=np.broadcast_to(np.eye(2, dtype=np.complex64), (count, 2, 2)), RECEPTOR_ANGLE=np.zeros((count, 2)),
         TIME=np.full(count, meta.first_time_s + 0.5 * span_s), INTERVAL=np.full(count, span_s + 86400.0))  # fmt: skip


def _write_source(path: Path, meta: ObservationMeta) -> None:
    from casacore.tables import complete_ms_desc, default_ms_subtable, table

    default_ms_subtable("SOURCE", str(path / "SOURCE"), complete_ms_desc("SOURCE")).close()
    _put(path / "SOURCE", 1, NAME=[meta.object_name], NUM_LINES=_integers(1), REST_FREQUENCY=np.array([[meta.restfreq_hz]]),
         DIRECTION=np.array([meta.direction_rad]))  # fmt: skip
    with table(str(path), readonly=False, ack=False) as main:
        main.putkeyword("SOURCE", f"Table: {path / 'SOURCE'}")


def _name_direction_frame(path: Path, frame: str) -> None:
    from casacore.tables import table

    with table(str(path), readonly=False, ack=False) as field:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            field.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": frame})
