"""What a run has to do, in plain numbers: the input of the cost model, and what a measured run keeps of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from radps_mpi.decomposition import LANES, half_width
from radps_mpi.errors import DataError


@dataclass(frozen=True, slots=True)
class Work:
    """One image, its data and its CLEAN. Sizes are of the whole job, whoever does which part of it.

    ``support`` and the four sizes of the uv plane are the gridder's: ``padded`` cells are what is transformed, ``plane`` cells
    what is stored (of u, half of them), ``guard`` cells lie around them.
    """

    channels: int
    """Image channels."""
    ny: int
    nx: int
    block_channels: int
    """Channels that are imaged at once."""
    groups: int
    """Row groups of a block (leaves of its reduction tree): at most so many ranks share one."""
    rows: int
    """Baselines x integrations, of all observations."""
    times: int
    """Integrations, of all observations."""
    row_chunk: int
    """Rows of the store's chunks: a row group has whole ones."""
    native_channels: int
    """Channels of the store, summed over observations and weighted by their rows."""
    native_per_block: float
    """Channels that a block reads, weighted like that."""
    polarisations: int
    spectral_weights: bool
    """Weights that differ from channel to channel."""
    passes: float
    """Visibilities gridded per row and lane: more than one where image channels are wider than native ones."""
    continuum: bool
    density: bool
    """Weights that need the density of visibilities: all but natural ones."""
    support: int
    guard: int
    padded_v: int
    padded_u: int
    plane_v: int
    plane_u: int
    real_bytes: int
    """Of a grid's real numbers: 4 or 8."""
    from_measurement_sets: bool
    """Ingest comes first."""
    store_bytes: int
    state_bytes: int
    product_bytes: int
    product_planes: int
    """Products with pixels: all but sumwt."""
    line_channels: int
    """Channels that CLEAN works on."""
    line_blocks: int
    """Blocks that they are in."""
    line_halves: int
    """Halves of blocks that they are in: major cycles may be worked in those."""
    mask_pixels: int
    """Pixels per channel that may hold components."""
    iterations: int
    """Of all channels together."""
    cycles: int
    """Major cycles behind the dirty image; 0 makes the dirty image alone."""
    memory_per_rank_bytes: int = 0
    """What a rank is told to use; 0 for its share of the node."""

    @property
    def pixels(self) -> int:
        """Of one plane."""
        return self.ny * self.nx

    @property
    def blocks(self) -> int:
        """Blocks of the image; a continuum image is one."""
        return 1 if self.continuum else -(-self.channels // self.block_channels)

    @property
    def planes_per_block(self) -> int:
        """Image planes of a block."""
        return 1 if self.continuum else self.block_channels

    @property
    def lanes(self) -> int:
        """Visibilities of a row in one pass."""
        return LANES if self.continuum else self.block_channels

    @property
    def passes_per_block(self) -> float:
        """Passes over a block's rows; a continuum image has one for each set of native channels."""
        return self.native_channels / LANES if self.continuum else self.passes

    @property
    def grid_bytes(self) -> int:
        """One block's guarded half uv plane."""
        cells = (self.plane_v + 2 * self.guard) * (self.plane_u // 2 + 1 + 2 * self.guard)
        return cells * 2 * self.planes_per_block * self.real_bytes

    @property
    def grids_touched(self) -> int:
        """Grids that summing a block's row groups clears or adds to another: one to the sum of each group but the first.
        Adding is taken to cost what clearing does (unmeasured: it moves half as much again, into pages that are there)."""
        return 2 * self.groups - 1

    @property
    def density_bytes(self) -> int:
        """A block's float64 planes of the density of weights, where there are any."""
        return 8 * self.pixels * self.planes_per_block if self.density else 0

    @property
    def plane_bytes(self) -> int:
        """One float32 plane."""
        return 4 * self.pixels

    @property
    def written_state_bytes(self) -> int:
        """Planes that the state comes to hold: PSFs and residuals of all channels, models where CLEAN works, in two slots."""
        return self.plane_bytes * (2 * self.channels + min(2, self.cycles) * self.line_channels)

    @property
    def samples(self) -> int:
        """Visibilities of the store, all correlations."""
        return self.rows * self.native_channels * self.polarisations

    @property
    def prepared_bytes_per_block(self) -> float:
        """Weighted visibilities of a block as they are kept between major cycles: 8 bytes of data and 4 of weight for each row,
        lane and pass, uvw and time index of each row, a scale for each pass."""
        tables = self.passes_per_block * 28 if self.continuum else 28  # each set of native channels is a piece of its own
        return self.rows * (self.passes_per_block * (12 * self.lanes + 8) + tables)

    @property
    def half_channels(self) -> int:
        """Of half a block, where blocks may be cut."""
        return self.block_channels if self.continuum else half_width(self.block_channels)

    def in_blocks_of(self, channels: int, line_blocks: int) -> Work:
        """The same work cut into blocks of so many channels, ``line_blocks`` of them with line.

        An image may be of a few of the store's channels: a part of a block never reads more than the block.
        """
        native = min(self.native_channels / self.channels, self.native_per_block / self.block_channels)
        overlap = max(0.0, self.native_per_block - self.block_channels * native)
        return replace(self, block_channels=channels, native_per_block=channels * native + overlap, line_blocks=line_blocks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, exact through JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Work:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        DataError
            If something is missing or of another kind: the run was measured by another version.
        """
        kinds: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool}
        wanted = {f.name: kinds[str(f.type)] for f in fields(cls)}
        if values.keys() != wanted.keys() or not all(isinstance(values[n], kind) for n, kind in wanted.items()):
            raise DataError("a measured run is described by other quantities than this version knows")
        if not all((name in _ABOVE_ZERO) <= value <= _LARGEST for name, value in values.items()):
            raise DataError("a measured run is described by numbers that no run has")
        line = (values["line_channels"], values["line_blocks"], values["line_halves"])
        if values["cycles"] and not all(line):  # the model divides by them
            raise DataError("a measured run has major cycles of no channels")
        return cls(**values)


_ABOVE_ZERO = frozenset({
    "channels", "ny", "nx", "block_channels", "groups", "rows", "times", "row_chunk", "native_channels", "polarisations",
    "support", "padded_v", "padded_u", "plane_v", "plane_u", "real_bytes",
})  # fmt: skip
_LARGEST = 1e18
"""Of bytes, iterations or anything else that is counted."""
