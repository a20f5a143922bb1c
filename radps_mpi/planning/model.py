"""Seconds of every part of a run on a machine: a cost per block and cycle, shared among ranks as the program shares it.

Each part of a run is what one rank computes, what the ranks of a node can move through its memory, and what the disks take;
the names of the parts are those that a run measures (``provenance.json``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.memory import RankMemory, rank_memory
from radps_mpi.planning.resources import cache_bytes
from radps_mpi.planning.work import Work

STARTING = "starting"
INGEST = "ingest"
LAYOUT = "planning the image"
FIRST = "making PSFs and dirty images"
MINOR = "minor cycles"
MAJOR = "major cycle"
PRODUCTS = "writing products"
PARTS = (STARTING, INGEST, LAYOUT, FIRST, MINOR, MAJOR, PRODUCTS)
"""Parts of a run, in order."""

_COMMIT_INTERVAL_S = 60.0
_GRID_TOUCHES = 6
"""Times that a grid passes through memory: cleared, gridded, four passes of the transforms."""

PSF_SHARE = 0.6
"""Gridding weights alone, for the PSF, over gridding weighted visibilities: measured with 16 lanes at support 8."""

HALVES_GAIN = 1.25
"""By so much major cycles have to be quicker in halves of blocks to be worked in them."""

_NOT_HIDDEN = 0.25
"""Of the shorter one of computing and writing, which go on at the same time; measured on one rank and on two."""

_MINOR_GROWTH = 0.65
"""Only tiles that may hold the next peak are touched, and a larger mask has fewer of those: at 512^2 an iteration takes 1.05,
4.7, 10.2 and 17.5 us where the mask has 1, 10, 30 and 100 % of the pixels."""

_THREAD_GAIN = 0.9
"""Of a thread more in the transforms, of what it could gain."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a job is spread: ``ranks`` of ``threads`` each on ``nodes``."""

    ranks: int
    threads: int = 1
    nodes: int = 1

    @property
    def ranks_per_node(self) -> int:
        """Of the fullest node."""
        return -(-self.ranks // self.nodes)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run: wall seconds, the rank-seconds of it that are work, and what holds it up."""

    name: str
    seconds: float
    busy_rank_seconds: float
    limit: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run will take."""

    layout: Layout
    parts: tuple[Part, ...]
    memory: RankMemory
    cores: int
    """Taken by the job: whole nodes where there are several, else those that its ranks use or whose memory they need."""

    @property
    def seconds(self) -> float:
        """Wall time of the whole job."""
        return sum(part.seconds for part in self.parts)

    @property
    def core_hours(self) -> float:
        """Cores taken times hours."""
        return self.cores * self.seconds / 3600.0

    @property
    def efficiency(self) -> float:
        """Rank-seconds of work over rank-seconds."""
        return sum(part.busy_rank_seconds for part in self.parts) / (self.layout.ranks * self.seconds)

    @property
    def worst(self) -> Part:
        """The part that wastes most rank-seconds."""
        return max(self.parts, key=lambda part: part.seconds * self.layout.ranks - part.busy_rank_seconds)

    def part(self, name: str) -> Part:
        """One part by name."""
        return next(part for part in self.parts if part.name == name)


@dataclass(frozen=True, slots=True)
class Corrections:
    """What measured runs teach: factors of the parts by name, and of the memory above the base."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: float = 1.0


NO_CORRECTIONS = Corrections()


def iteration_growth(mask_pixels: int) -> float:
    """Time of an iteration of the minor cycle, in that of one in a mask of 10,000 pixels."""
    return float((max(1, mask_pixels) / 1e4) ** _MINOR_GROWTH)


def predict(
    work: Work, machine: Machine, layout: Layout, corrections: Corrections = NO_CORRECTIONS, *, minor_by_block: bool = False
) -> Prediction:
    """Predict a run of ``work`` with ``layout`` on ``machine`` (its cores and memory per node filled in).

    ``minor_by_block`` deals minor cycles out by block instead of by channel: what the program doesn't do, for comparison.
    """
    share = work.memory_per_rank_bytes or machine.memory_per_node_bytes / layout.ranks_per_node
    memory = rank_memory(work, machine, layout.ranks, share)
    cost = _Costs(work, machine, layout, cache_bytes(int(share)))
    made = (
        cost.starting(), cost.ingest(), cost.plan(), cost.first_images(), cost.minor_cycles(minor_by_block),
        cost.major_cycles(), cost.products(),
    )
    parts = tuple(_corrected(part, corrections.seconds.get(part.name, 1.0)) for part in made)
    corrected = replace(memory, parts_bytes={k: corrections.memory * v for k, v in memory.parts_bytes.items()})
    return Prediction(layout, parts, corrected, _cores_taken(machine, layout, corrected))


def _cores_taken(machine: Machine, layout: Layout, memory: RankMemory) -> int:
    """By ranks and threads, or by the memory that goes with a core: nobody else can use the cores of a node without any."""
    if layout.nodes > 1:
        return machine.cores_per_node * layout.nodes
    share = layout.ranks * memory.peak_bytes / machine.memory_per_node_bytes
    return min(machine.cores_per_node, max(layout.ranks * layout.threads, math.ceil(share * machine.cores_per_node)))


def _corrected(part: Part, factor: float) -> Part:
    return replace(part, seconds=factor * part.seconds, busy_rank_seconds=factor * part.busy_rank_seconds)


class _Costs:
    """The arithmetic of one work on one machine with one layout."""

    def __init__(self, work: Work, machine: Machine, layout: Layout, cache_limit_bytes: int) -> None:
        self.w, self.m, self.layout, self._cache_limit = work, machine, layout, cache_limit_bytes

    # Of one block, whole, on one rank --------------------------------------------------------------------------------

    @property
    def visibilities(self) -> float:
        """Gridded for one block: rows x lanes x passes."""
        return self.w.rows * self.w.passes_per_block * self.w.lanes

    @property
    def taps(self) -> float:
        """Cost of a visibility on the grid, in the unit of the constants."""
        return self.visibilities * self.w.support * (self.w.support + 4) * self._narrow

    @property
    def _narrow(self) -> float:
        """Fewer channels than a vector has lanes take as long for each row, up to what a plane's kernel takes."""
        if self.w.planes_per_block == 1:
            return self.m.plane_per_lane
        return min(self.m.plane_per_lane, max(1.0, 16 / self.w.block_channels))

    def read_s(self) -> float:
        """Stored visibilities to weighted image channels."""
        w, m = self.w, self.m
        native = w.rows * (w.native_channels if w.continuum else w.native_per_block) * w.polarisations
        ns = m.read_ns_per_sample * (native + self.visibilities) + m.weight_ns_per_visibility * self.visibilities
        if w.density:
            ns += m.density_ns_per_visibility * self.visibilities + m.density_ns_per_pixel * w.pixels * w.planes_per_block
        return 1e-9 * ns

    def transform_s(self) -> float:
        """One grid to images or back."""
        w = self.w
        along_v = w.padded_v * (w.plane_u // 2 + 1) * math.log2(w.padded_v)
        along_u = w.padded_u * (w.ny // 2) * math.log2(w.padded_u)
        points = w.planes_per_block * (along_v + along_u) * w.real_bytes / 4
        threads = 1.0 + _THREAD_GAIN * (self.layout.threads - 1)
        return 1e-9 * self.m.transform_ns_per_point * points / threads

    def clear_s(self) -> float:
        """A grid of zeros."""
        return 1e-9 * self.m.clear_ns_per_cell * self.w.grid_bytes / (2 * self.w.real_bytes)

    def moved_s(self, grids: int) -> float:
        """What a block's grids take of the node's memory bandwidth, if all its ranks move theirs at once."""
        touched = grids * _GRID_TOUCHES * self.w.grid_bytes
        return touched * self.layout.ranks_per_node / self.m.memory_bytes_s

    # Sharing ---------------------------------------------------------------------------------------------------------

    def shared(self, blocks: int, grids: int, on_rows_s: float, on_image_s: float) -> tuple[float, float, str]:
        """(wall seconds, rank-seconds of work, what holds it up) of ``blocks`` blocks, each with work on rows, which a team
        shares, and on its images, which one rank does."""
        ranks = self.layout.ranks
        whole = max(on_rows_s + on_image_s, self.moved_s(grids))
        limit = "memory bandwidth" if whole > on_rows_s + on_image_s else "computing"
        if blocks >= ranks:
            rounds = -(-blocks // ranks)
            uneven = rounds * ranks / blocks > 1.1
            return rounds * whole, blocks * whole, "uneven blocks" if uneven and limit == "computing" else limit
        team = max(1, min(ranks // blocks, self.w.groups))
        share = -(-self.w.groups // team) / self.w.groups
        reduce_s = grids / 2 * math.ceil(math.log2(team)) * (self.w.grid_bytes / self.m.network_bytes_s) if team > 1 else 0.0
        seconds = max(on_rows_s * share + on_image_s, self.moved_s(grids)) + reduce_s
        return seconds, blocks * whole, "fewer blocks than ranks" if blocks * team < 0.9 * ranks else limit

    def disk_s(self, nbytes: float, *, read: bool = False) -> float:
        """Moving bytes between all nodes and their file system."""
        node = self.m.disk_read_bytes_s if read else self.m.disk_write_bytes_s
        nodes = min(self.layout.nodes, self.layout.ranks)
        return nbytes / min(self.m.file_system_bytes_s, nodes * node)

    def commits_s(self, work_s: float) -> float:
        """Commits of a part: one a minute, and one at its end."""
        each = self.m.commit_fixed_s + 1e-6 * self.m.commit_us_per_channel * self.w.channels
        each += 2e-6 * self.m.network_latency_us * math.log2(2 * self.layout.ranks)
        return (1 + int(work_s / _COMMIT_INTERVAL_S)) * each

    def _part(self, name: str, work: tuple[float, float, str], disk_s: float, fixed_s: float, commits: bool = True) -> Part:
        seconds, busy, limit = work
        if disk_s > seconds:
            limit = "file system"
        commit_s = self.commits_s(seconds) if commits else 0.0
        if fixed_s + commit_s > max(seconds, disk_s):
            limit = "fixed costs"
        longer, shorter = max(seconds, disk_s), min(seconds, disk_s)
        return Part(name, longer + _NOT_HIDDEN * shorter + fixed_s + commit_s, busy, limit)

    # Parts -----------------------------------------------------------------------------------------------------------

    def starting(self) -> Part:
        """Processes, imports, MPI."""
        survey_s = self.m.survey_fixed_s if self.w.from_measurement_sets else 0.0
        storm_s = self.m.start_per_rank_s * (self.layout.ranks - 1)
        return self._part(STARTING, (0.0, 0.0, ""), 0.0, self.m.start_s + survey_s + storm_s, commits=False)

    def ingest(self) -> Part:
        """The corner turn, where the inputs are MeasurementSets."""
        if not self.w.from_measurement_sets:
            return Part(INGEST, 0.0, 0.0, "")
        busy = 1e-9 * self.m.ingest_ns_per_sample * self.w.samples
        disk = self.disk_s(self.w.store_bytes)
        fixed = self.m.ingest_fixed_s + 1e-6 * self.m.ingest_us_per_row * self.w.rows
        return self._part(INGEST, (busy / self.layout.ranks, busy, "computing"), disk, fixed, commits=False)

    def plan(self) -> Part:
        """Axis, blocks, the state laid out."""
        loading = self.m.layout_after_ingest_s if self.w.from_measurement_sets else self.m.layout_fixed_s
        fixed = loading + self.commits_s(0.0)
        return self._part(LAYOUT, (0.0, 0.0, ""), 0.0, fixed, commits=False)

    def first_images(self) -> Part:
        """PSFs, beams and dirty images."""
        w, m = self.w, self.m
        rows = self.read_s() + 2 * self.clear_s() + (1 + PSF_SHARE) * 1e-9 * m.grid_ns_per_tap * self.taps
        planes = w.planes_per_block * (1e-9 * m.psf_ns_per_pixel * w.pixels + 1e-3 * m.psf_fixed_ms)
        shared = self.shared(w.blocks, 2, rows, 2 * self.transform_s() + planes)
        return self._part(FIRST, shared, self.disk_s(2 * w.channels * w.plane_bytes), m.first_fixed_s)

    def minor_cycles(self, by_block: bool) -> Part:
        """All of them."""
        w, m, ranks = self.w, self.m, self.layout.ranks
        if not w.cycles:
            return Part(MINOR, 0.0, 0.0, "")
        plane = 1e-9 * m.minor_ns_per_pixel * w.pixels * w.cycles
        iteration = 1e-6 * m.minor_us_per_iteration * iteration_growth(w.mask_pixels)
        channel = plane + iteration * w.iterations / max(1, w.line_channels)
        busy = channel * w.line_channels
        dealt = -(-w.line_blocks // ranks) * w.block_channels if by_block else -(-w.line_channels // ranks)
        limit = "fewer channels with line than ranks" if w.line_channels < 0.9 * ranks else "computing"
        # models only: they are flushed when blocks are handed over
        disk = self.disk_s(w.cycles * w.line_channels * w.plane_bytes)
        return self._part(MINOR, (channel * min(dealt, w.line_channels), busy, limit), disk, m.minor_fixed_s)

    def major_cycles(self) -> Part:
        """All of them, in blocks or in halves of blocks, whichever the program would choose."""
        w = self.w
        if not w.cycles:
            return Part(MAJOR, 0.0, 0.0, "")
        whole = self._major_cycles_as_cut()
        if w.half_channels == w.block_channels:
            return whole
        cut = w.in_blocks_of(w.half_channels, w.line_halves)
        halves = _Costs(cut, self.m, self.layout, self._cache_limit)._major_cycles_as_cut()
        return halves if HALVES_GAIN * halves.seconds < whole.seconds else whole

    def _major_cycles_as_cut(self) -> Part:
        """Predict, subtract, grid."""
        w, m = self.w, self.m
        rows = self._fetch_s() + self.clear_s() + 1e-9 * (m.grid_ns_per_tap + m.degrid_ns_per_tap) * self.taps
        planes = 1e-9 * m.residual_ns_per_pixel * w.pixels * w.planes_per_block
        seconds, busy, limit = self.shared(w.line_blocks, 2, rows, 2 * self.transform_s() + planes)
        disk = self.disk_s(w.cycles * w.line_channels * w.plane_bytes)
        commits = (w.cycles - 1) * self.commits_s(seconds)
        return self._part(MAJOR, (w.cycles * seconds, w.cycles * busy, limit), disk, m.major_fixed_s + commits)

    def _fetch_s(self) -> float:
        """Reading and weighting again what doesn't stay in memory between cycles."""
        team = max(1, min(self.layout.ranks // self.w.blocks, self.w.groups))
        kept = self._cache_limit / (-(-self.w.blocks // self.layout.ranks) * self.w.prepared_bytes_per_block / team)
        return self.read_s() * max(0.0, 1.0 - kept)

    def products(self) -> Part:
        """Restoring and writing."""
        w, m, ranks = self.w, self.m, self.layout.ranks
        channel = 1e-9 * m.product_ns_per_pixel * w.pixels * w.product_planes + 1e-3 * m.product_fixed_ms
        seconds = -(-w.channels // ranks) * channel
        limit = "fewer channels than ranks" if w.channels < ranks else "computing"
        return self._part(PRODUCTS, (seconds, w.channels * channel, limit), self.disk_s(w.product_bytes), m.products_fixed_s)
