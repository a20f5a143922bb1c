"""Digests of what the gridding kernels and the transforms make with the vectors of numba's target, as JSON on standard output.

Apart from the tests, because numba reads its target (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES) when a process starts.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xxhash
from radps_kernels import lanes

from radps_mpi.constants import SPEED_OF_LIGHT_M_S
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.data.visibilities import VisibilityPass
from radps_mpi.imaging.gridding import Gridder

LANES, ROWS, CELL_RAD = 16, 200, 1e-5
WHERE = ImageGeometry(40, 54, CELL_RAD, CELL_RAD, 0.0, 0.0)
COARSE = 1e-2
"""Accuracy: a small window is compiled in less time, by the same code."""


def observation() -> tuple[np.ndarray, VisibilityPass]:
    """Baselines all over the uv plane; the channels of the shorter ones fall on one cell, of the longer ones on several."""
    rng = np.random.default_rng(3)
    freq_hz = 1.4e9 * (1.0 + 2e-3 * np.arange(LANES))
    longest_m = 0.5 * SPEED_OF_LIGHT_M_S / freq_hz.max() / CELL_RAD
    vis = rng.standard_normal((ROWS, 2, LANES)).astype(np.float32)
    weight = rng.uniform(0.5, 2.0, (ROWS, LANES)).astype(np.float32)
    return longest_m * rng.uniform(-1, 1, (ROWS, 3)), VisibilityPass(vis, weight, freq_hz, rng.uniform(0.9999, 1, ROWS))


def digests(nlane: int) -> dict[str, str]:
    """Of grids, images, the grid of a model and visibilities read from it: one channel per lane, or all on one plane."""
    uvw_m, p = observation()
    gridder = Gridder(WHERE, nlane=nlane, epsilon=COARSE, kind="lanes" if nlane > 1 else "plane")
    grid = gridder.new_grid()
    gridder.grid(uvw_m, p, grid)
    found = {"grid": grid.copy(), "image": gridder.to_dirty(grid)}
    gridder.release(grid)
    found["model"] = gridder.from_model(np.random.default_rng(2).standard_normal((nlane, *WHERE.shape)))
    found["visibilities"] = np.empty(p.vis.shape, np.float32)
    gridder.degrid(found["model"], uvw_m, p, found["visibilities"])
    return {name: xxhash.xxh3_128_hexdigest(values.tobytes()) for name, values in found.items()}


def bits() -> dict[str, Any]:
    """Elements per vector of float32, and digests by the number of lanes."""
    width = Gridder(WHERE, nlane=LANES).identity["vector_width"]
    return {"vector_width": width, "digests": {f"{nlane} lanes": digests(nlane) for nlane in (LANES, 1)}}


def registers() -> list[str]:
    """Of AVX2 and of AVX-512, those that the gridding kernel uses; for code that this process has compiled itself."""
    code = "".join(lanes.grid_lanes.inspect_asm().values())
    return [name for name in ("ymm", "zmm") if f"%{name}" in code]


if __name__ == "__main__":
    print(json.dumps({**bits(), "registers": registers()}))
