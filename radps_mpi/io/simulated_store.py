"""Simulated observations as visibility stores: each rank computes its channels, all write together.

The store has the form that ingest would give it, and no trace of the number of ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from radps_mpi import precision
from radps_mpi.data.axis import FRAMES
from radps_mpi.data.observation import IngestReport, ObservationMeta
from radps_mpi.errors import DataError
from radps_mpi.io import hdf5
from radps_mpi.io.ingest_slab import BLANK, row_dtype, sorting_order
from radps_mpi.io.measurement_set_frames import observatory_itrf_m
from radps_mpi.io.store_writer import doppler_factors, finish, lay_out, partial_path, write_channels, write_rows
from radps_mpi.io.visibility_store import ROW_CHUNK
from radps_mpi.parallel import all_or_none, broadcast, on_root
from radps_mpi.parallel.exchange import sum_integers
from radps_mpi.parallel.types import Comm
from radps_mpi.simulation.config import SimulationConfig
from radps_mpi.simulation.observation import ChunkRows, Simulation, blanks, build, visibilities
from radps_mpi.units import parse_direction
from radps_mpi.user_files import read_text

SLAB_BYTES = 1 << 26
"""Visibilities that a rank holds between two collective writes."""

SOURCE = "simulated"
"""In the place of a MeasurementSet's path."""


def plan_simulation(comm: Comm, config: SimulationConfig, sky_path: str | os.PathLike[str] | None = None) -> Simulation:
    """Read the antenna and the sky file and put the observation together. Collective.

    Raises
    ------
    UsageError, DataError
        On every rank, with one clear line.
    """
    planned: Simulation = on_root(comm, "planning the simulation", lambda: _plan(config, sky_path))
    return planned


def _plan(config: SimulationConfig, sky_path: str | os.PathLike[str] | None) -> Simulation:
    array = config.array
    return build(
        config,
        observatory_itrf_m(array.telescope, np.zeros((0, 3))),
        _read_text(array.antennas) if array.antennas else None,
        _read_text(sky_path) if sky_path is not None else None,
        str(sky_path),
    )


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        return read_text(Path(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text in UTF-8") from None


def simulate_store(
    comm: Comm,
    simulation: Simulation,
    path: str | os.PathLike[str],
    *,
    slab_bytes: int = SLAB_BYTES,
    row_chunk: int = ROW_CHUNK,
) -> ObservationMeta:
    """Write a simulated observation into a new visibility store at ``path``. Collective.

    As with ingest an older store is untouched until the new one is complete, memory is bounded (``slab_bytes`` per
    rank and what a row chunk's coordinates take), and the result doesn't depend on the number of ranks.

    Raises
    ------
    StorageError
        On every rank, with one clear line.
    """
    final = Path(path)
    partial = partial_path(final)
    meta = observation_meta(simulation, row_chunk)
    (factor,) = doppler_factors(comm, [meta], [simulation.tracks.time_s])
    try:
        on_root(comm, f"laying out {partial}", lambda: lay_out(partial, [meta]))
        file = hdf5.open_for_writing(partial, comm)
        try:
            meta = _Filling(comm, file[meta.name], simulation, meta, factor).all_chunks(slab_bytes)
        finally:
            file.close()
        finish(comm, final, [meta], [simulation.tracks.time_s], [factor])
    except Exception:
        if comm.rank == 0:
            partial.unlink(missing_ok=True)
        raise
    return meta


def observation_meta(simulation: Simulation, row_chunk: int = ROW_CHUNK) -> ObservationMeta:
    """What the store says of the observation, before anything is counted."""
    config, tracks = simulation.config, simulation.tracks
    centre = parse_direction(config.observing.direction)
    nchan, npol = len(simulation.freq_hz), len(simulation.corr_types)
    return ObservationMeta(
        index=0, name="observation_00000", source=SOURCE, source_index=0, field_id=0, field_name="simulated field",
        object_name="simulated field", direction_rad=(centre.ra_rad, centre.dec_rad), direction_frame=centre.frame,
        ephemeris=False, data_desc_id=0, spw_id=0, spw_name="simulated band", frequency_frame=config.band.frame,
        first_channel=0, telescope=config.array.telescope,
        dish_diameters_m=tuple(sorted(set(simulation.antennas.dish_m.tolist()))),
        observatory_itrf_m=simulation.observatory_itrf_m, observer="radps simulate", project="",
        restfreq_hz=config.band.restfreq_hz, corr_types=simulation.corr_types, data_column="DATA", weight_column="WEIGHT",
        time_scale="UTC", first_time_s=float(tracks.time_s[0]), last_time_s=float(tracks.time_s[-1]), max_uv_m=0.0,
        max_w_m=0.0, nrow=tracks.nrow, ntime=len(tracks.time_s), row_chunk=row_chunk, freq_hz=simulation.freq_hz,
        width_hz=simulation.width_hz, samples=np.zeros((nchan, npol), dtype=np.int64),
        report=IngestReport(rows=tracks.nrow, samples=tracks.nrow * nchan * npol),
    )  # fmt: skip


class _Filling:
    """The data of the observation, chunk by chunk; keeps what is counted on the way."""

    def __init__(
        self, comm: Comm, group: h5py.Group, simulation: Simulation, meta: ObservationMeta, factor: NDArray[np.float64]
    ) -> None:
        self.comm, self.group, self.simulation, self.meta = comm, group, simulation, meta
        self.factor = np.ascontiguousarray(factor[:, FRAMES.index(simulation.sky.frame)])
        self.samples = np.zeros((meta.nchan, meta.npol), dtype=np.int64)
        self.blanked = np.zeros(2, dtype=np.int64)
        """Samples that are flagged, and that are NaN without being flagged."""
        self.max_uv_m = self.max_w_m = 0.0

    def all_chunks(self, slab_bytes: int) -> ObservationMeta:
        """Fill the store; the observation with its counts. Collective."""
        for chunk in range(self.meta.nchunk):
            rows = self._rows(chunk)
            order = sorting_order(rows["uvw_m"])
            with all_or_none(self.comm, "writing rows"):
                if chunk % self.comm.size == self.comm.rank:
                    write_rows(self.group, self.meta, rows[order], chunk)
            coordinates = self._coordinates(rows, chunk)
            for chan0, chan1 in self._bands(len(rows), slab_bytes):
                self._write_band(coordinates, order, chan0, chan1)
        flagged, nans = sum_integers(self.comm, self.blanked).tolist()
        samples = sum_integers(self.comm, self.samples)
        report = replace(self.meta.report, flag_samples=flagged, nonfinite_samples=nans,
                         blank_channels=int((samples.sum(axis=1) == 0).sum()))  # fmt: skip
        return replace(self.meta, report=report, samples=samples, max_uv_m=self.max_uv_m, max_w_m=self.max_w_m)

    def _rows(self, chunk: int) -> NDArray[Any]:
        """Rows of a chunk in the order of the observation; computed once, so that all ranks sort the same bits."""
        row0, row1 = self.meta.chunk_rows(chunk, chunk + 1)
        dtype = row_dtype(self.meta.npol)
        mine = simulated_rows(self.simulation, row0, row1) if self.comm.rank == 0 else None
        rows = broadcast(self.comm, mine, (row1 - row0,), dtype)
        self.max_uv_m = max(self.max_uv_m, float(np.hypot(rows["uvw_m"][:, 0], rows["uvw_m"][:, 1]).max()))
        self.max_w_m = max(self.max_w_m, float(np.abs(rows["uvw_m"][:, 2]).max()))
        return rows

    def _coordinates(self, rows: NDArray[Any], chunk: int) -> ChunkRows:
        first, last = int(rows["time_index"][0]), int(rows["time_index"][-1])
        return ChunkRows(chunk, np.ascontiguousarray(rows["uvw_m"].T), rows["time_index"] - np.int32(first),
                         self.factor[first : last + 1])  # fmt: skip

    def _bands(self, nrow: int, slab_bytes: int) -> Iterator[tuple[int, int]]:
        """This rank's channels of each collective write; empty where there are fewer channels than ranks."""
        per_rank = max(1, slab_bytes // (precision.VISIBILITY.itemsize * nrow * self.meta.npol))
        width = min(per_rank * self.comm.size, self.meta.nchan)
        for start in range(0, self.meta.nchan, width):
            count = min(width, self.meta.nchan - start)
            yield (start + self.comm.rank * count // self.comm.size,
                   start + (self.comm.rank + 1) * count // self.comm.size)  # fmt: skip

    def _write_band(self, rows: ChunkRows, order: NDArray[np.int64], chan0: int, chan1: int) -> None:
        with all_or_none(self.comm, "predicting visibilities"):
            block = np.empty((chan1 - chan0, self.meta.npol, len(order)), precision.VISIBILITY)
            for channel in range(chan0, chan1):
                block[channel - chan0] = self._channel(channel, rows)[:, order]
        write_channels(self.comm, self.group, self.meta, chan0, rows.chunk, {"vis": block})

    def _channel(self, channel: int, rows: ChunkRows) -> NDArray[np.complex64]:
        """(npol, nrow) in the order of the observation, blank where flagged or NaN."""
        vis = visibilities(self.simulation, channel, rows)
        flagged, nans = blanks(self.simulation.config.noise, channel, rows.chunk, vis.shape)
        vis[flagged | nans] = BLANK
        self.blanked += [np.count_nonzero(flagged), np.count_nonzero(nans & ~flagged)]
        self.samples[channel] += (~(flagged | nans)).sum(axis=1)
        return vis


def simulated_rows(simulation: Simulation, row0: int, row1: int) -> NDArray[Any]:
    """Rows ``row0 <= r < row1`` of an observation, as ingest would read them: ``ingest_slab.row_dtype``."""
    tracks = simulation.tracks
    time, baseline = np.divmod(np.arange(row0, row1), tracks.nbaseline)
    rows = np.zeros(row1 - row0, dtype=row_dtype(len(simulation.corr_types)))
    rows["uvw_m"] = tracks.uvw_m(row0, row1)
    rows["time_index"], rows["source_row"] = time, np.arange(row0, row1)
    rows["antenna1"], rows["antenna2"] = tracks.antenna1[baseline], tracks.antenna2[baseline]
    rows["scan"] = 1
    rows["weight"] = simulation.weight
    return rows
