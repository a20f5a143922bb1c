"""From the description of an image to the plain numbers that the cost model takes."""

from __future__ import annotations

import numpy as np
from radps_kernels import lanes

from radps_mpi.decomposition import LANES, half_width
from radps_mpi.imaging.channel_map import map_channels, width_ratio
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.imaging.stopping import ControlState
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.visibility_store import SUFFIX
from radps_mpi.journey.describe import Description
from radps_mpi.journey.products import product_names
from radps_mpi.journey.space import needs
from radps_mpi.planning.work import Work


def work_of(
    d: Description, gridder: Gridder, *, line_channels: int, line_blocks: int, line_halves: int, mask_pixels: int,
    iterations: int, cycles: int,
) -> Work:
    """What making the image of ``d`` takes; the last six say what CLEAN does, which no metadata tell.

    ``line_channels`` are those with components, in ``line_blocks`` blocks and ``line_halves`` halves of them, ``mask_pixels``
    (per channel) where they may be,
    ``iterations`` of all channels together, ``cycles`` major cycles behind the dirty image.
    """
    rows = np.array([o.meta.nrow for o in d.observations], np.float64)
    passes, native = _passes(d) if not d.continuum else (1.0, float(LANES))
    identity = gridder.identity
    needed = needs(d, [o.meta for o in d.observations])
    names = product_names(d)
    by_row = rows / rows.sum()
    return Work(
        channels=d.axis.nchan, ny=d.geometry.ny, nx=d.geometry.nx, block_channels=d.nlane, groups=len(d.leaves),
        rows=int(rows.sum()), times=sum(o.meta.ntime for o in d.observations), row_chunk=d.observations[0].meta.row_chunk,
        native_channels=round(float(np.dot(by_row, [o.meta.nchan for o in d.observations]))), native_per_block=native,
        polarisations=max(o.meta.npol for o in d.observations), passes=passes,
        spectral_weights=any(o.meta.has_spectral_weight for o in d.observations), continuum=d.continuum,
        density=d.scheme.needs_density, support=gridder.window.support, guard=lanes.guard_cells(gridder.window.support),
        padded_v=gridder.size[0], padded_u=gridder.size[1], plane_v=identity["plane"][0], plane_u=identity["plane"][1],
        real_bytes=gridder.dtype.itemsize,
        from_measurement_sets=not any(path.endswith(SUFFIX) for path in d.config.selection.vis),
        store_bytes=needed.store_bytes, state_bytes=needed.state_bytes, product_bytes=needed.product_bytes,
        product_planes=len(set(names) - {"sumwt"}),
        line_channels=line_channels, line_blocks=line_blocks, line_halves=line_halves, mask_pixels=mask_pixels,
        iterations=iterations, cycles=cycles, memory_per_rank_bytes=d.config.parallel.memory_per_rank_bytes or 0,
    )


def work_done(d: Description, gridder: Gridder, state: Checkpoint, control: ControlState) -> Work:
    """What a run that has come to its end has done."""
    table = state.table
    cleaned = table["iterations"] > 0
    line = np.flatnonzero(cleaned)
    return work_of(
        d, gridder, line_channels=len(line), iterations=int(table["iterations"].sum()),
        line_blocks=len(np.unique(line // d.nlane)), line_halves=len(np.unique(line // half_width(d.nlane))),
        mask_pixels=int(np.median(table["mask_pixels"][cleaned])) if cleaned.any() else 0,
        cycles=control.nmajordone - 1,  # tclean counts the dirty image as one
    )


def _passes(d: Description) -> tuple[float, float]:
    """(passes, native channels read) of a block: of the middle one of those with data, averaged over rows."""
    spectral, ratios = d.config.spectral, [width_ratio(d.axis, o.native) for o in d.observations]
    for block in sorted(d.blocks, key=lambda b: abs(b.index - len(d.blocks) // 2))[:_BLOCKS_LOOKED_AT]:
        maps = [
            map_channels(
                d.axis, block.start, block.stop, o.native, ratio=ratio, interpolation=spectral.interpolation,
                binning=spectral.binning,
            )
            for o, ratio in zip(d.observations, ratios, strict=True)
        ]
        if any(not m.is_empty for m in maps):
            rows = np.array([o.meta.nrow for o in d.observations], np.float64)
            return (
                float(np.dot(rows, [len(m.passes) for m in maps]) / rows.sum()),
                float(np.dot(rows, [max(0, m.stop - m.first) for m in maps]) / rows.sum()),
            )
    return 1.0, float(d.nlane)


_BLOCKS_LOOKED_AT = 64
"""Where so many blocks about the middle of the axis have no data, others won't cost much either."""
