"""Seconds of every part of a run on a machine: a cost per block and cycle, shared among ranks as the program shares it.

Each part of a run is what one rank computes, what the ranks of a node can move through its memory, what the ranks of a team
send each other, and what the file system takes; the names of the parts are those that a run measures (``provenance.json``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from radps_mpi.decomposition import FACTOR_BLOCK
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.memory import RankMemory, rank_memory
from radps_mpi.planning.resources import cache_bytes
from radps_mpi.planning.sharing import Sharing
from radps_mpi.planning.storage import (
    Storage,
    read_by_minor_cycles_bytes,
    read_by_products_bytes,
    read_from_store_bytes,
)
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

HALF_COSTS = 0.7
"""Of a full block's time, where no half has been measured: gridding takes as many instructions for 8 lanes as for 16 where
vectors are wide enough, transforms take half."""

_NOT_HIDDEN = 0.5
"""Of the shorter one of computing and storage, which go on at the same time. Measured for writing products: 0.25 on one virtual
machine, 0.5 and more on another, where the last planes and the flush come after the computing; taken for reading, which was
not measured from a disk."""

_MINOR_GROWTH, _MINOR_GROWTH_OF_PLANE = 0.65, 0.1
"""Only tiles that may hold the next peak are touched, and a larger mask has fewer of those: at 512^2 an iteration takes 0.7,
3.4 and 17.5 us where the mask has 1, 10 and 100 % of the pixels. A PSF of more pixels reaches more of them: 5.1, 17.5, and 33
to 75 us with a full mask of 256^2, 512^2 and 1024^2."""

_THREAD_GAIN = 0.9
"""Of a thread more in transforms and in restoring, of what it could gain: a guess, not measured."""

_RESTORING_SHARE = 0.45
"""Of what the products of a CLEANed channel take, the convolution: 0.47 and 0.43 of the processor time at 512^2 and 1024^2."""


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


def iteration_growth(mask_pixels: int, pixels: int) -> float:
    """Time of an iteration of the minor cycle, in that of one in a mask of 10,000 pixels of a plane of 512 x 512."""
    return float((max(1, mask_pixels) / 1e4) ** _MINOR_GROWTH * (pixels / 512**2) ** _MINOR_GROWTH_OF_PLANE)


def predict(
    work: Work, machine: Machine, layout: Layout, corrections: Corrections = NO_CORRECTIONS, *, minor_by_block: bool = False,
    resumed: bool = False,
) -> Prediction:
    """Predict a run of ``work`` with ``layout`` on ``machine`` (its cores and memory per node filled in).

    ``minor_by_block`` deals minor cycles out by block instead of by channel: what the program doesn't do, for comparison.
    ``resumed``: no visibilities have been kept from first images made by the same job.
    """
    share = work.memory_per_rank_bytes or machine.memory_per_node_bytes / layout.ranks_per_node
    memory = rank_memory(work, machine, layout.ranks, share, layout.threads)
    memory = replace(memory, parts_bytes={k: corrections.memory * v for k, v in memory.parts_bytes.items()})
    spare = machine.memory_per_node_bytes - layout.ranks_per_node * memory.peak_bytes
    files_bytes = float(work.store_bytes + work.written_state_bytes)
    storage = Storage(machine, min(layout.nodes, layout.ranks), spare, files_bytes)
    cost = _Costs(work, machine, layout, cache_bytes(int(share)), storage)
    made = (
        cost.starting(), cost.ingest(), cost.plan(), cost.first_images(), cost.minor_cycles(minor_by_block),
        cost.major_cycles(resumed), cost.products(),
    )
    parts = tuple(_corrected(part, corrections.seconds.get(part.name, 1.0)) for part in made)
    return Prediction(layout, parts, memory, _cores_taken(machine, layout, memory))


def _cores_taken(machine: Machine, layout: Layout, memory: RankMemory) -> int:
    """By ranks and threads, or by the memory that goes with a core: nobody else can use the cores of a node without any."""
    if layout.nodes > 1:
        return machine.cores_per_node * layout.nodes
    share = layout.ranks * memory.peak_bytes / machine.memory_per_node_bytes
    return min(machine.cores_per_node, max(layout.ranks * layout.threads, math.ceil(share * machine.cores_per_node)))


def _corrected(part: Part, factor: float) -> Part:
    return replace(part, seconds=factor * part.seconds, busy_rank_seconds=factor * part.busy_rank_seconds)


@dataclass(frozen=True, slots=True)
class _Block:
    """Seconds of one block: ``rows_s`` of work on rows, which a team shares, ``each_s`` that every rank of it repeats,
    ``image_s`` that one rank does alone; ``grids`` move through memory, and each step of a team sends ``sent_bytes``."""

    rows_s: float
    each_s: float
    image_s: float
    grids: int
    sent_bytes: float


class _Costs:
    """The arithmetic of one work on one machine with one layout."""

    def __init__(self, work: Work, machine: Machine, layout: Layout, cache_limit_bytes: int, storage: Storage) -> None:
        self.w, self.m, self.layout, self._cache_limit, self._storage = work, machine, layout, cache_limit_bytes, storage

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
        """Stored visibilities to weighted image channels; each row group counts into a density of its own."""
        w, m = self.w, self.m
        native = w.rows * (w.native_channels if w.continuum else w.native_per_block) * w.polarisations
        ns = m.read_ns_per_sample * (native + self.visibilities) + m.weight_ns_per_visibility * self.visibilities
        if w.density:
            pixels = w.groups * w.pixels * w.planes_per_block
            ns += m.density_ns_per_visibility * self.visibilities + m.density_ns_per_pixel * pixels
        return 1e-9 * ns

    def transform_s(self) -> float:
        """One grid to images or back."""
        w = self.w
        along_v = w.padded_v * (w.plane_u // 2 + 1) * math.log2(w.padded_v)
        along_u = w.padded_u * (w.ny // 2) * math.log2(w.padded_u)
        points = w.planes_per_block * (along_v + along_u) * w.real_bytes / 4
        return 1e-9 * self.m.transform_ns_per_point * points / self._threads_worth

    @property
    def _threads_worth(self) -> float:
        return 1.0 + _THREAD_GAIN * (self.layout.threads - 1)

    def clear_s(self) -> float:
        """The zeros that the row groups of a block begin with, and the sums of their grids."""
        return 1e-9 * self.m.clear_ns_per_cell * self.w.grids_touched * self.w.grid_bytes / (2 * self.w.real_bytes)

    # Sharing ---------------------------------------------------------------------------------------------------------

    def _sharing(self, blocks: int) -> Sharing:
        return Sharing(blocks, self.layout.ranks, self.layout.ranks_per_node, self.w.groups)

    def shared(self, blocks: int, block: _Block) -> tuple[float, float, str]:
        """(wall seconds, rank-seconds of work, what holds it up) of ``blocks`` blocks like this one."""
        s = self._sharing(blocks)
        computing = block.rows_s * s.share_of_rows + block.each_s + block.image_s
        moving = block.grids * _GRID_TOUCHES * self.w.grid_bytes * s.busy_on_a_node / self.m.memory_bytes_s
        sending = s.steps * block.sent_bytes / self.m.network_bytes_s
        causes = (
            (moving > computing, "memory bandwidth"), (sending > computing, "messages"), (s.is_uneven, "uneven blocks"),
            (s.leaves_ranks_idle, "fewer blocks than ranks"), (True, "computing"),
        )
        limit = next(cause for holds, cause in causes if holds)
        busy = blocks * (block.rows_s + block.each_s + block.image_s)
        return s.rounds * (max(computing, moving) + sending), busy, limit

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
        survey_s = self.m.survey_fixed_s + self._frames_s if self.w.from_measurement_sets else 0.0
        storm_s = self.m.start_per_rank_s * (self.layout.ranks - 1)
        return self._part(STARTING, (0.0, 0.0, ""), 0.0, self.m.start_s + survey_s + storm_s, commits=False)

    @property
    def _frames_s(self) -> float:
        """Doppler factors of all integrations, which ranks share in blocks; those of short observations are taken for full."""
        of_a_rank = FACTOR_BLOCK * -(-self.w.times // (FACTOR_BLOCK * self.layout.ranks))
        return 1e-6 * self.m.frames_us_per_time * min(self.w.times, of_a_rank)

    def ingest(self) -> Part:
        """The corner turn, where the inputs are MeasurementSets: as large as the store, and in nobody's memory yet."""
        if not self.w.from_measurement_sets:
            return Part(INGEST, 0.0, 0.0, "")
        busy = 1e-9 * self.m.ingest_ns_per_sample * self.w.samples
        disk = self._storage.read_s(self.w.store_bytes) + self._storage.write_s(self.w.store_bytes)
        fixed = self.m.ingest_fixed_s + 1e-6 * self.m.ingest_us_per_row * self.w.rows + self._frames_s
        return self._part(INGEST, (busy / self.layout.ranks, busy, "computing"), disk, fixed, commits=False)

    def plan(self) -> Part:
        """Axis, blocks, the state laid out."""
        loading = self.m.layout_after_ingest_s if self.w.from_measurement_sets else self.m.layout_fixed_s
        fixed = loading + self.commits_s(0.0)
        return self._part(LAYOUT, (0.0, 0.0, ""), 0.0, fixed, commits=False)

    def first_images(self) -> Part:
        """PSFs, beams and dirty images; a store that is there from before is in nobody's memory yet."""
        w, m, disks = self.w, self.m, self._storage
        rows = self.read_s() + 2 * self.clear_s() + (1 + PSF_SHARE) * 1e-9 * m.grid_ns_per_tap * self.taps
        planes = w.planes_per_block * (1e-9 * m.psf_ns_per_pixel * w.pixels + 1e-3 * m.psf_fixed_ms)
        sent = 2 * w.grid_bytes + 2 * w.density_bytes  # summed, and the density sent back
        shared = self.shared(w.blocks, _Block(rows, 0.0, 2 * self.transform_s() + planes, 2, sent))
        held = disks.held_of_others if w.from_measurement_sets else 0.0
        disk = disks.read_s(read_from_store_bytes(w, w.blocks), held) + disks.write_s(2 * w.channels * w.plane_bytes)
        return self._part(FIRST, shared, disk, m.first_fixed_s)

    def minor_cycles(self, by_block: bool) -> Part:
        """All of them."""
        w, m, ranks, disks = self.w, self.m, self.layout.ranks, self._storage
        if not w.cycles:
            return Part(MINOR, 0.0, 0.0, "")
        plane = 1e-9 * m.minor_ns_per_pixel * w.pixels * w.cycles
        iteration = 1e-6 * m.minor_us_per_iteration * iteration_growth(w.mask_pixels, w.pixels)
        channel = plane + iteration * w.iterations / max(1, w.line_channels)
        busy = channel * w.line_channels
        dealt = -(-w.line_blocks // ranks) * w.block_channels if by_block else -(-w.line_channels // ranks)
        limit = "fewer channels with line than ranks" if w.line_channels < 0.9 * ranks else "computing"
        disk = disks.read_s(read_by_minor_cycles_bytes(w), disks.held_of_others)
        # models only: they are flushed when blocks are handed over
        disk += disks.write_s(w.cycles * w.line_channels * w.plane_bytes)
        return self._part(MINOR, (channel * min(dealt, w.line_channels), busy, limit), disk, m.minor_fixed_s)

    def major_cycles(self, resumed: bool) -> Part:
        """All of them, in blocks, or in halves of blocks where the program would choose those."""
        w = self.w
        if not w.cycles:
            return Part(MAJOR, 0.0, 0.0, "")
        first, whole = self._sharing(w.blocks), self._sharing(w.line_blocks)
        in_halves = w.half_channels < w.block_channels and (
            HALVES_GAIN * HALF_COSTS * self._sharing(w.line_halves).slowest < whole.slowest
        )
        if not in_halves:
            return self._major_cycles_as_cut(0.0 if resumed or first.moves_to(whole) else self._kept(first))
        cut = w.in_blocks_of(w.half_channels, w.line_halves)
        return _Costs(cut, self.m, self.layout, self._cache_limit, self._storage)._major_cycles_as_cut(0.0)

    def _major_cycles_as_cut(self, first_kept: float) -> Part:
        """Predict, subtract, grid; ``first_kept``: share of the visibilities that the first cycle needn't read again."""
        w, m, disks = self.w, self.m, self._storage
        sharing = self._sharing(w.line_blocks)
        missing = (1.0 - first_kept, *(w.cycles - 1) * (1.0 - self._kept(sharing),))
        rows = self.clear_s() + 1e-9 * (m.grid_ns_per_tap + m.degrid_ns_per_tap) * self.taps
        planes = 1e-9 * m.residual_ns_per_pixel * w.pixels * w.planes_per_block
        made = [
            self.shared(w.line_blocks, _Block(
                rows + share * self.read_s(), self.transform_s(), self.transform_s() + planes, 2,
                w.grid_bytes + (share > 0) * 2 * w.density_bytes,
            )) for share in missing
        ]  # fmt: skip
        seconds, busy, limit = sum(one[0] for one in made), sum(one[1] for one in made), made[-1][2]
        # whoever had the blocks before may be on another node; all ranks of a team read models, from the disk once on a node
        stored = read_from_store_bytes(w, w.line_blocks)
        disk = sum(
            disks.read_s(share * stored, disks.held if cycle or first_kept else disks.held_of_others)
            for cycle, share in enumerate(missing)
        )
        models = w.cycles * w.line_channels * w.plane_bytes
        disk += disks.read_s(sharing.nodes_of_a_team * models, disks.held_of_others) + disks.write_s(models)
        commits = (w.cycles - 1) * self.commits_s(seconds / w.cycles)
        return self._part(MAJOR, (seconds, busy, limit), disk, m.major_fixed_s + commits)

    def _kept(self, sharing: Sharing) -> float:
        """Share of the blocks' visibilities that stays weighted in memory between cycles."""
        own_bytes = sharing.rounds * self.w.prepared_bytes_per_block / sharing.team
        return min(1.0, self._cache_limit / own_bytes)

    def products(self) -> Part:
        """Restoring, in which threads help, and writing."""
        w, m, ranks, disks = self.w, self.m, self.layout.ranks, self._storage
        cleaned = w.line_channels / w.channels if w.cycles else 0.0
        pixels = 1e-9 * m.product_ns_per_pixel * w.pixels * w.product_planes
        channel = pixels + 1e-3 * m.product_fixed_ms
        threaded = channel - _RESTORING_SHARE * cleaned * pixels * (1.0 - 1.0 / self._threads_worth)
        limit = "fewer channels than ranks" if w.channels < ranks else "computing"
        disk = disks.read_s(read_by_products_bytes(w), disks.held_of_others) + disks.write_s(w.product_bytes)
        return self._part(PRODUCTS, (-(-w.channels // ranks) * threaded, w.channels * channel, limit), disk, m.products_fixed_s)
