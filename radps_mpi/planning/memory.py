"""Peak memory of a rank, from what is alive at once in each part of a run."""

from __future__ import annotations

from dataclasses import dataclass

from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.resources import cache_bytes
from radps_mpi.planning.work import Work

_INGEST_BUDGET_BYTES = 1 << 30
_INGEST_BYTES_PER_SAMPLE = {False: 26, True: 40}
"""Data, flags, masks and both sides of the exchange, measured without and with weights per channel; ingest reserves 72."""

_ROW_BYTES = 150
"""A chunk's row columns on every rank: as they travel, sorted, and as they are written."""

_CHANNEL_BYTES = 308
"""Of every channel of the cube on every rank: its record, control values, axis; measured from 800 to 80,000 channels."""

_HEAP_PLANES = 6
"""Single planes, freed but kept by the allocator, beside a block's cubes: beam fits, sidelobes, checksums."""

_PRODUCT_PLANES = 16
"""Planes alive while one channel's products are made: model, residual, PSF, beam, image, their transforms, swapped bytes."""

_STRIP_BYTES, _PAIR_BYTES = 640 << 10, 512 << 10
"""Buffers of a thread that transforms, for strips along v and for pairs of rows along u (imaging/fourier.py); larger where one
line of all lanes takes more. Measured up to 32 threads: 1.0 to 1.2 MB each, so a thread takes next to nothing beside them."""

_CACHE_LINE_BYTES, _LINES = 64, 8
"""Of each row in a strip are so many lines where less than one would fit (imaging/fourier.py)."""

_MINOR_PLANES = 9
"""Of a minor cycle: residual, PSF, both again in tiles and with margins, models, mask."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes of one rank: ``peak_bytes`` is ``base_bytes``, ``cache_bytes`` of visibilities kept between cycles, and the largest
    of ``parts_bytes`` by name."""

    base_bytes: float
    cache_bytes: float
    parts_bytes: dict[str, float]

    @property
    def peak_bytes(self) -> float:
        """The most alive at once."""
        return self.base_bytes + max(self.parts_bytes.values())


def rank_memory(work: Work, machine: Machine, ranks: int, share_bytes: float, threads: int = 1) -> RankMemory:
    """Memory of the rank with the most to do.

    Parameters
    ----------
    ranks : of the job.
    share_bytes : what the rank may use; a part of it is for visibilities kept between major cycles.
    threads : of the rank. What one takes is in the measured base, but for buffers that are larger for this image.
    """
    team = _ranks_per_block(work, ranks)
    blocks = -(-work.blocks // ranks)
    prepared = work.prepared_bytes_per_block / team
    kept = min(cache_bytes(int(share_bytes)), blocks * prepared)
    # the last of the blocks is being worked when the others are in the cache; beyond the limit one is held besides it
    own = prepared if kept < blocks * prepared else 0.0
    depth, planes = _tree_depth(work, team), 2 * _cube(work) + _HEAP_PLANES * work.plane_bytes
    parts = {
        "ingest": _ingest(work, ranks) - machine.kernels_memory_bytes if work.from_measurement_sets else 0.0,
        "weighting": kept + own + _weighting(work, team),
        "PSF and dirty image": kept + own + _density(work, team) + 2 * depth * work.grid_bytes + planes,
        "residual": kept + own + (1 + depth) * work.grid_bytes + planes if work.cycles else 0.0,
        "minor cycle": kept + _MINOR_PLANES * work.plane_bytes if work.cycles else 0.0,
        "products": kept + _PRODUCT_PLANES * work.plane_bytes,
    }
    buffers = threads * _of_a_thread(work) - _STRIP_BYTES - _PAIR_BYTES
    base = machine.base_memory_bytes + _CHANNEL_BYTES * work.channels + buffers
    return RankMemory(base + (machine.ingest_memory_bytes if work.from_measurement_sets else 0.0), kept, parts)


def _ranks_per_block(work: Work, ranks: int) -> int:
    return max(1, min(ranks // work.blocks, work.groups))


def _tree_depth(work: Work, team: int) -> int:
    """Partial sums alive: one, or one more than the levels of this rank's share of the tree."""
    leaves = -(-work.groups // team)
    return 1 if leaves == 1 else 1 + max(leaves - 1, 0).bit_length()


def _of_a_thread(work: Work) -> float:
    line_bytes = 4 * work.real_bytes * work.planes_per_block  # complex, in and out
    strips, pairs = max(_STRIP_BYTES, line_bytes * work.padded_v), max(_PAIR_BYTES, line_bytes * work.padded_u)
    narrowest = 2 * _CACHE_LINE_BYTES * work.padded_v
    if narrowest > _STRIP_BYTES and line_bytes <= 2 * _CACHE_LINE_BYTES:
        strips = _LINES * narrowest
    return float(strips + pairs)


def _cube(work: Work) -> float:
    return work.planes_per_block * work.plane_bytes


def _density(work: Work, team: int) -> float:
    """float64 planes; a rank by itself touches only cells that its baselines reach, and the system gives it no more."""
    reached = min(1.0, work.plane_u / work.padded_u) if team == 1 else 1.0
    return 2.0 * _cube(work) * reached if work.density else 0.0


def _weighting(work: Work, team: int) -> float:
    """What comes and goes until a block's visibilities are weighted: raw data, Stokes I, tables, float64 copies of weights."""
    visibilities = work.rows * work.passes_per_block * work.lanes / team
    native = work.rows * (work.native_channels if work.continuum else work.native_per_block) / team
    if work.continuum:  # piece by piece, a set of lanes and a chunk of rows each
        native = visibilities = min(visibilities, float(work.lanes * min(work.rows, work.row_chunk)))
    reading = native * (8 * work.polarisations + 12) + 4 * visibilities
    return max(reading, 28 * visibilities / max(1.0, work.passes_per_block)) + _density(work, team)


def _ingest(work: Work, ranks: int) -> float:
    rows = min(work.rows, work.row_chunk)
    samples = rows * work.native_channels * work.polarisations / ranks
    of_sample = _INGEST_BYTES_PER_SAMPLE[work.spectral_weights]
    return of_sample * min(samples, _INGEST_BUDGET_BYTES / 72) + _ROW_BYTES * rows
