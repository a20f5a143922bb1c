"""What ``radps simulate`` writes: a visibility store, a MeasurementSet, or both."""

from __future__ import annotations

import os
from pathlib import Path

from radps_mpi.io.measurement_set_writer import refuse_existing, write_measurement_set
from radps_mpi.io.simulated_store import plan_simulation, simulate_store
from radps_mpi.parallel import all_or_none, on_root
from radps_mpi.parallel.types import Comm
from radps_mpi.simulation.config import SimulationConfig
from radps_mpi.units import format_flux_density, format_frequency

_PathLike = str | os.PathLike[str]


def simulate(
    comm: Comm, config: SimulationConfig, sky: _PathLike | None, store: _PathLike | None, measurement_set: _PathLike | None
) -> list[str]:
    """Write the simulated observation of a sky file to a store, a MeasurementSet, or both; lines for the log. Collective.

    Without a store of its own, the MeasurementSet comes from one that is put beside it and removed.
    """
    if measurement_set is not None:
        on_root(comm, "looking for the MeasurementSet", lambda: refuse_existing(measurement_set))
    simulation = plan_simulation(comm, config, sky)
    final = Path(store) if store is not None else _beside(Path(str(measurement_set)))
    try:
        meta = simulate_store(comm, simulation, final)
        if measurement_set is not None:
            with all_or_none(comm, f"writing {measurement_set}"):
                if comm.rank == 0:
                    write_measurement_set(measurement_set, final, simulation)
    finally:
        if store is None and comm.rank == 0:
            final.unlink(missing_ok=True)
    report = meta.report
    first, last = (format_frequency(float(meta.freq_hz[k])) for k in (0, -1))
    return [
        f"{meta.telescope}: {len(simulation.antennas.names)} antennas, {meta.ntime} integrations, {meta.nrow} rows, "
        f"{meta.nchan} channels ({first} to {last} {meta.frequency_frame}), {' '.join(meta.corr_types)}",
        f"  {len(simulation.sky.lmn)} components, longest baseline {meta.max_uv_m:.6g} m, noise "
        f"{format_flux_density(simulation.noise_jy)}; {report.flag_samples} samples flagged, {report.nonfinite_samples} NaN",
    ]


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".simulated.vis.h5")
