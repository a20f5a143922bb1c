"""A job that exists only on paper, for tests of the cost model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from radps_mpi.planning.work import Work


def work(**changes: Any) -> Work:
    """A cube of 480 channels of 512 x 512, 30 of them with line."""
    usual = Work(
        channels=480, ny=512, nx=512, block_channels=16, groups=1, rows=50_000, times=40, row_chunk=32_768, native_channels=480,
        native_per_block=17.0, polarisations=2, spectral_weights=False, passes=1.0, continuum=False, density=True, support=8,
        guard=8, padded_v=640, padded_u=640, plane_v=512, plane_u=460, real_bytes=4, from_measurement_sets=False,
        store_bytes=10**9, state_bytes=480 * 4 * 4 * 512 * 512, product_bytes=480 * 6 * 4 * 512 * 512, product_planes=6,
        line_channels=30, line_blocks=2, line_halves=4, mask_pixels=512 * 512, iterations=30_000, cycles=3,
    )  # fmt: skip
    return replace(usual, **changes)
