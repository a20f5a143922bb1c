"""What ingest would make of MeasurementSets, without reading visibilities: for plans and dry runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radps_mpi.data.observation import ObservationMeta
from radps_mpi.io.ingest import plan_observations
from radps_mpi.io.selection import SelectionOptions
from radps_mpi.io.store_writer import doppler_factors
from radps_mpi.parallel.types import Comm


class Survey:
    """The observations that a store of these inputs would hold; every sample counts as good, uvw extents are 0 where they
    weren't looked at."""

    def __init__(self, path: Path, observations: list[ObservationMeta], times: list[tuple[NDArray[np.float64], ...]]) -> None:
        self.path = path
        self.observations = observations
        self._times = times

    def read_times(self, obs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As :meth:`radps_mpi.io.visibility_store.VisibilityStore.read_times`."""
        time_s, factors = self._times[obs]
        return time_s, factors


def survey(comm: Comm, sources: Sequence[str], selection: SelectionOptions, *, with_uvw: bool = False) -> Survey:
    """Look at the rows and tables of MeasurementSets, at baselines too if ``with_uvw``; collective. Errors are those of
    ingest."""
    plans = plan_observations(comm, sources, selection, with_uvw=with_uvw)
    metas = [replace(p.meta, samples=np.full_like(p.meta.samples, p.meta.nrow)) for p in plans]
    times_s = [plan.times_s for plan in plans]
    return Survey(Path(sources[0]), metas, list(zip(times_s, doppler_factors(comm, metas, times_s), strict=True)))
