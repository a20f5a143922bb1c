"""Images of channel blocks: read, weight, predict, grid, transform; by one rank, or by a team that shares a block's leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import precision, timeline
from radps_mpi.decomposition import ChannelBlock, Leaf, half_width
from radps_mpi.imaging import fftw, residual, weighting
from radps_mpi.imaging.channel_map import ChannelMap, map_channels, width_ratio
from radps_mpi.imaging.fourier import ALIGNMENT
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.imaging.preparation import PreparedPiece, RawPiece, continuum_map, prepare_piece
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey.describe import Description
from radps_mpi.parallel import TreeSum, all_or_none, broadcast, every_rank, leaf_owner, reduce_tree
from radps_mpi.parallel.types import Comm


@dataclass(slots=True)
class FirstImages:
    """What the first pass over a block gives: PSF and dirty image (nchan, ny, nx) float32, NaN where a channel has no data, and
    the sums (3, nchan) of :func:`radps_mpi.imaging.weighting.apply_weights`. The imager's next block overwrites the images."""

    psf: NDArray[np.float32]
    dirty: NDArray[np.float32]
    sums: NDArray[np.float64]


def gridder_of(d: Description, nlane: int = 0) -> Gridder:
    """The gridder of an image, of ``nlane`` lanes where not of a full block's; its grids take no memory yet."""
    image = d.config.image
    return Gridder(
        d.geometry, nlane=nlane or d.nlane, epsilon=image.epsilon, precision=image.precision, threads=d.config.parallel.threads,
        kind="plane" if d.continuum else "lanes", rows=max(1, d.nrow), reach=d.reach,
    )


class BlockImager:
    """Images blocks for one rank. ``cache_bytes`` bounds the weighted visibilities kept between major cycles; ``nlane`` is the
    width of the blocks, 0 for the description's."""

    def __init__(self, description: Description, store: VisibilityStore, cache_bytes: int, nlane: int = 0) -> None:
        self.d = description
        self.store = store
        self.nlane = nlane or description.nlane
        self.gridder = gridder_of(description, self.nlane)
        self._ratios = [width_ratio(description.axis, o.native) for o in description.observations]
        self._narrow: Gridder | None = None
        self._cache_bytes, self._cache = cache_bytes, _Cache(cache_bytes)
        self._turn: Sequence[ChannelBlock] = ()
        self._numbers = np.zeros(0, np.int32)
        self._planes: dict[str, NDArray[Any]] = {}
        self.beyond = 0

    def of_lanes(self, nlane: int) -> BlockImager:
        """One for blocks of another width, which may keep as many visibilities while this one has turned to none."""
        return BlockImager(self.d, self.store, self._cache_bytes, nlane)

    def gridder_for(self, block: ChannelBlock) -> Gridder:
        """The kernel that works a block: of half as many lanes for a last block that fits into them, which makes the same bits
        and no empty lanes. The other one gives the memory of its grids back."""
        half = half_width(self.nlane)
        if half == self.nlane or block.nchan > half:
            if self._narrow is not None:
                self._narrow.forget()
            return self.gridder
        if self._narrow is None:
            self._narrow = gridder_of(self.d, half)
        self.gridder.forget()
        return self._narrow

    def turn_to(self, blocks: Sequence[ChannelBlock]) -> None:
        """These are the rank's blocks from now on, in this order: forget the cached visibilities of others, and where there are
        none the memory of grids and images."""
        if not blocks:
            self.make_room()
        self._cache.keep_only({block.index for block in blocks})
        self._turn, self._numbers = blocks, np.fromiter((block.index for block in blocks), np.int32, len(blocks))

    def make_room(self) -> None:
        """Give back the memory of grids and images that is kept from block to block: what comes next is not a block."""
        self._planes.clear()
        for gridder in filter(None, (self.gridder, self._narrow)):
            gridder.forget()

    def first_pass(self, team: Comm, block: ChannelBlock) -> FirstImages | None:
        """PSF and dirty image of a block on the team's first rank, None on the others. Collective over the team."""
        gridder = self._start(team, block)
        psf_tree, dirty_tree, sum_tree = self._grid_tree(gridder), self._grid_tree(gridder), TreeSum(len(self.d.leaves))
        density = self._density(team, block)
        with all_or_none(team, f"imaging channels {block.start} to {block.stop - 1}"):
            self._read_ahead(team, block)
            for leaf, pieces, leaf_sums in self._weighted(team, block, density):
                self.beyond += sum(p.beyond for p in pieces)
                sum_tree.add(leaf.index, leaf_sums)
                with timeline.span("grid", block=block.index, leaf=leaf.index, lanes=gridder.nlane):
                    psf_tree.add(leaf.index, residual.grid_psf(gridder, pieces))
                    dirty_tree.add(leaf.index, residual.grid_residual(gridder, pieces, None))
        sums = self._reduce(team, sum_tree, (3, gridder.nlane), np.dtype(np.float64))
        psf = self._reduce(team, psf_tree, gridder.grid_shape, gridder.dtype)
        dirty = self._reduce(team, dirty_tree, gridder.grid_shape, gridder.dtype)
        with all_or_none(team, f"transforming channels {block.start} to {block.stop - 1}"):
            if sums is None or psf is None or dirty is None:
                return None
            with timeline.span("transform", block=block.index):
                lanes = np.arange(block.nchan)
                psf_images = self._to_images(gridder, psf, sums[0], "psf or model", lanes)
                dirty_images = self._to_images(gridder, dirty, sums[0], "residual", lanes)
            return FirstImages(psf_images[: block.nchan], dirty_images[: block.nchan], sums[:, : block.nchan])

    def model_planes(self, block: ChannelBlock) -> NDArray[np.float32]:
        """Memory (nchan, ny, nx) for the models of a block, whatever it holds: fresh memory would cost its page faults. Good
        until the imager's next block."""
        return self._memory("psf or model", self.gridder_for(block).nlane, np.dtype(precision.IMAGE))[: block.nchan]

    def _memory(self, use: str, nlane: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Planes (nlane, ny, nx) that stay from block to block."""
        found = self._planes.get(use)
        if found is None or len(found) < nlane or found.dtype != dtype:
            found = self._planes[use] = fftw.empty_aligned((nlane, *self.d.geometry.shape), dtype, n=ALIGNMENT)
        return found[:nlane]

    def _to_images(
        self, gridder: Gridder, grid: NDArray[Any], sum_of_weights: NDArray[np.float64], use: str, lanes: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Images (nlane, ny, nx) of a grid, which is given back, in the memory for this ``use``."""
        memory = self._memory(use, gridder.nlane, gridder.dtype)
        images = residual.normal_images(gridder, grid, sum_of_weights, memory, lanes)
        gridder.release(grid)
        return images

    def _grid_tree(self, gridder: Gridder) -> TreeSum:
        return TreeSum(len(self.d.leaves), discard=gridder.release)

    def residual(
        self, team: Comm, block: ChannelBlock, model: NDArray[np.float32] | None, wanted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32] | None:
        """Residual images (nchan, ny, nx) of a block for a model of the same shape (None: zero), on the team's first rank.

        Collective over the team; every rank of it passes the model. ``wanted`` (nchan,): the channels that count, None for all;
        models of others aren't looked at, and their images hold anything. The imager's next block overwrites the images.
        """
        lanes = np.arange(block.nchan) if wanted is None else np.flatnonzero(wanted)
        gridder, density = self._start(team, block), self._density(team, block)
        tree, sum_tree = self._grid_tree(gridder), TreeSum(len(self.d.leaves))
        with all_or_none(team, f"computing residuals of channels {block.start} to {block.stop - 1}"):
            self._read_ahead(team, block)
            with timeline.span("transform model", block=block.index):
                model_grid = None
                if model is not None and any(model[lane].any() for lane in lanes):
                    model_grid = gridder.from_model(model, lanes)
            for leaf, pieces, leaf_sums in self._weighted(team, block, density):
                sum_tree.add(leaf.index, leaf_sums)
                with timeline.span("predict, subtract, grid", block=block.index, leaf=leaf.index, lanes=gridder.nlane):
                    tree.add(leaf.index, residual.grid_residual(gridder, pieces, model_grid))
            if model_grid is not None:
                gridder.release(model_grid)
        sums = self._reduce(team, sum_tree, (3, gridder.nlane), np.dtype(np.float64))
        grid = self._reduce(team, tree, gridder.grid_shape, gridder.dtype)
        with all_or_none(team, f"transforming channels {block.start} to {block.stop - 1}"):
            if grid is None or sums is None:
                return None
            with timeline.span("transform", block=block.index):
                return self._to_images(gridder, grid, sums[0], "residual", lanes)[: block.nchan]

    def _start(self, team: Comm, block: ChannelBlock) -> Gridder:
        """The gridder of a block. Where visibilities have to be read and weighted first, they get the memory of grids and
        images: both at once would be more than a rank needs at any other time."""
        if not all((block.index, leaf.index) in self._cache for leaf in self._my_leaves(team)):
            self.make_room()
        return self.gridder_for(block)

    def _my_leaves(self, team: Comm) -> list[Leaf]:
        owner = leaf_owner(len(self.d.leaves), team.size)
        return [leaf for leaf in self.d.leaves if owner[leaf.index] == team.rank]

    def _reduce(
        self, team: Comm, tree: TreeSum, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any] | None:
        return reduce_tree(team, tree, leaf_owner(len(self.d.leaves), team.size), shape, dtype)

    def _density(self, team: Comm, block: ChannelBlock) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Weight density of the block and its factors, on all ranks of the team; None where weights are natural or cached."""
        if not self.d.scheme.needs_density:
            return None
        if every_rank(team, all((block.index, leaf.index) in self._cache for leaf in self._my_leaves(team))):
            return None
        self._cache.forget(block.index)  # partly cached: all ranks must sum the density again
        self.make_room()
        geometry, ndest = self.d.geometry, self.gridder_for(block).nlane
        trees = TreeSum(len(self.d.leaves)), TreeSum(len(self.d.leaves))
        with all_or_none(team, f"weighting channels {block.start} to {block.stop - 1}"):
            for leaf in self._my_leaves(team):
                pieces = self._prepare(block, leaf)
                self._cache.hold(block.index, leaf.index, pieces)
                with timeline.span("weight density", block=block.index, leaf=leaf.index):
                    density, total = weighting.local_density(pieces, self.d.scheme, geometry, ndest)
                trees[0].add(leaf.index, density)
                trees[1].add(leaf.index, total)
        summed = self._reduce(team, trees[0], (geometry.ny, geometry.nx, ndest), np.dtype(np.float64))
        weights = self._reduce(team, trees[1], (ndest,), np.dtype(np.float64))
        density = broadcast(team, summed, (geometry.ny, geometry.nx, ndest), np.dtype(np.float64))
        total = broadcast(team, weights, (ndest,), np.dtype(np.float64))
        with all_or_none(team, f"weighting channels {block.start} to {block.stop - 1}"):
            return density, weighting.density_factors(self.d.scheme, density, total)

    def _weighted(
        self, team: Comm, block: ChannelBlock, density: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    ) -> Iterator[tuple[Leaf, list[PreparedPiece], NDArray[np.float64]]]:
        """This rank's leaves with their imaging weights and the sums of them, in ascending order."""
        ndest = self.gridder_for(block).nlane
        for leaf in self._my_leaves(team):
            found = self._cache.get(block.index, leaf.index)
            if found is None:
                pieces = self._cache.take_held(block.index, leaf.index) or self._prepare(block, leaf)
                w, f2 = density if density is not None else (None, None)
                with timeline.span("weight", block=block.index, leaf=leaf.index):
                    sums = weighting.apply_weights(pieces, self.d.scheme, self.d.geometry, w, f2, ndest)
                self._cache.put(block.index, leaf.index, pieces, sums)
                found = pieces, sums
            # the tree adds into what it is given: the cached sums must not be that array
            yield leaf, found[0], found[1].copy()

    def _read_ahead(self, team: Comm, block: ChannelBlock) -> None:
        """Have the visibilities of the block after this one fetched while this one is computed."""
        at = np.flatnonzero(self._numbers[:-1] == block.index)
        if not at.size:
            return
        following = self._turn[int(at[0]) + 1]
        for leaf in self._my_leaves(team):
            if (following.index, leaf.index) in self._cache:
                continue
            for obs, chunk0, chunk1, chan0, chan1 in leaf.pieces:
                mapping = self._map(obs, following, chan0, chan1)
                if not mapping.is_empty:
                    self.store.read_ahead(obs, mapping.first, mapping.stop, chunk0, chunk1)

    def _prepare(self, block: ChannelBlock, leaf: Leaf) -> list[PreparedPiece]:
        with timeline.span("read", block=block.index, leaf=leaf.index):
            return self._read_and_map(block, leaf)

    def _read_and_map(self, block: ChannelBlock, leaf: Leaf) -> list[PreparedPiece]:
        prepared = []
        for obs, chunk0, chunk1, chan0, chan1 in leaf.pieces:
            mapping = self._map(obs, block, chan0, chan1)
            if mapping.is_empty:
                continue
            o = self.d.observations[obs]
            rows = self.store.read_rows(obs, chunk0, chunk1)
            weight = rows.weight
            if weight is None:
                weight = self.store.read_weight(obs, mapping.first, mapping.stop, chunk0, chunk1)
            raw = RawPiece(
                mapping.first, self.store.read(obs, mapping.first, mapping.stop, chunk0, chunk1),
                weight if weight.ndim == 3 else weight[None], rows.uvw_m, rows.time_index,
            )
            nlane = mapping.stop - mapping.first if self.d.continuum else self.gridder_for(block).nlane
            prepared.append(
                prepare_piece(
                    raw, mapping, o.hands, o.turn, self.d.geometry, nlane=nlane,
                    with_density=self.d.scheme.needs_density and not self.d.continuum,
                )
            )
        return prepared

    def _map(self, obs: int, block: ChannelBlock, chan0: int, chan1: int) -> ChannelMap:
        native, spectral = self.d.observations[obs].native, self.d.config.spectral
        if self.d.continuum:
            return continuum_map(native, chan0, chan1)
        return map_channels(
            self.d.axis, block.start, block.stop, native, ratio=self._ratios[obs],
            interpolation=spectral.interpolation, binning=spectral.binning,
        )


class _Cache:
    """Prepared visibilities by (block, leaf), as many as fit; nothing is evicted for another, since blocks are visited in
    turn and every one is as likely to be needed next."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._used = limit_bytes, 0
        self._weighted: dict[tuple[int, int], tuple[list[PreparedPiece], NDArray[np.float64]]] = {}
        self._held: dict[tuple[int, int], list[PreparedPiece]] = {}

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._weighted

    def get(self, block: int, leaf: int) -> tuple[list[PreparedPiece], NDArray[np.float64]] | None:
        return self._weighted.get((block, leaf))

    def put(self, block: int, leaf: int, pieces: list[PreparedPiece], sums: NDArray[np.float64]) -> None:
        size = sum(p.nbytes for p in pieces)
        if self._used + size <= self._limit:
            self._weighted[block, leaf] = pieces, sums
            self._used += size

    def hold(self, block: int, leaf: int, pieces: list[PreparedPiece]) -> None:
        """Keep naturally weighted pieces from the density to the weighting, if they fit; one block at a time."""
        self._held = {key: value for key, value in self._held.items() if key[0] == block}
        held = sum(p.nbytes for kept in self._held.values() for p in kept)
        if not self._held or self._used + held + sum(p.nbytes for p in pieces) <= self._limit:
            self._held[block, leaf] = pieces

    def take_held(self, block: int, leaf: int) -> list[PreparedPiece] | None:
        return self._held.pop((block, leaf), None)

    def forget(self, block: int) -> None:
        for key in [k for k in self._weighted if k[0] == block]:
            self._used -= sum(p.nbytes for p in self._weighted.pop(key)[0])

    def keep_only(self, blocks: set[int]) -> None:
        for block in {key[0] for key in self._weighted} - blocks:
            self.forget(block)
