"""Which kernel works a block: fewer lanes where channels are few, with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radps_mpi.config import RunConfig
from radps_mpi.decomposition import ChannelBlock
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey import inputs
from radps_mpi.journey.blocks import BlockImager, gridder_of
from radps_mpi.journey.describe import describe
from radps_mpi.journey.summary import kernel_line
from radps_mpi.parallel import on_root, split, world

FULL = 16
OPTIONS = {"imagename": "x", "imsize": 32, "cell": "0.5arcsec", "weighting": "briggs", "outframe": "TOPO"}


class WideImager(BlockImager):
    """One that leaves lanes of a short block empty."""

    def gridder_for(self, block: ChannelBlock):
        return self.gridder


def images(kind: type[BlockImager], store: VisibilityStore, nchan: int) -> tuple[BlockImager, list[np.ndarray]]:
    """PSF, dirty image, sums and the residual of a model, of the set's first channels as one block of 16 lanes."""
    alone = split(world(), world().rank)
    imager = kind(describe(RunConfig.from_flat({"vis": [str(store.path)], **OPTIONS}, {}), store), store, 0, FULL)
    block = ChannelBlock(0, 0, nchan)
    first = imager.first_pass(alone, block)
    found = [first.psf.copy(), first.dirty.copy(), first.sums]
    residual = imager.residual(alone, block, point_model(nchan))
    alone.Free()
    return imager, [*found, residual]


def point_model(nchan: int) -> np.ndarray:
    """A source of another flux in each channel."""
    model = np.zeros((nchan, 32, 32), np.float32)
    model[:, 11, 20] = np.arange(1, nchan + 1)
    return model


@pytest.mark.parametrize("nchan", [5, 8])
def test_a_short_block_in_half_the_lanes_has_the_same_bits(chunked_store: str, nchan: int) -> None:
    with VisibilityStore.open(Path(chunked_store)) as store:
        imager, narrow = images(BlockImager, store, nchan)
        _, wide = images(WideImager, store, nchan)
    assert imager.gridder_for(ChannelBlock(0, 0, nchan)).nlane == FULL // 2
    assert imager.gridder_for(ChannelBlock(0, 0, 9)) is imager.gridder
    for one, other in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all() and one.any()


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("nlane", [1, 8, FULL])
def test_only_wanted_channels_are_computed_and_have_the_same_bits(chunked_store: str, nlane: int, precision: str) -> None:
    alone, nchan = split(world(), world().rank), min(nlane, 8)
    wanted = np.arange(nchan) % 3 == 0
    of_wanted = np.where(wanted[:, None, None], point_model(nchan), np.float32(np.nan))
    with VisibilityStore.open(Path(chunked_store)) as store:
        description = describe(RunConfig.from_flat({"vis": [chunked_store], **OPTIONS, "precision": precision}, {}), store)
        kind = WideImager if nlane == FULL else BlockImager  # with lanes beyond the block's channels
        imager, block = kind(description, store, 1 << 30, nlane), ChannelBlock(0, 0, nchan)
        every = imager.residual(alone, block, point_model(nchan)).copy()
        dirty = imager.residual(alone, block, None).copy()
        some = imager.residual(alone, block, of_wanted, wanted).copy()
        again = imager.residual(alone, block, point_model(nchan))
    alone.Free()
    np.testing.assert_array_equal(some[wanted], every[wanted])
    np.testing.assert_array_equal(some[~wanted], dirty[~wanted], "what the memory held before wasn't left alone")
    np.testing.assert_array_equal(again, every)
    assert np.abs(dirty - every).max() > 0.5


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_memory_of_images_stays_from_block_to_block_unless_visibilities_need_it(chunked_store: str, cache_bytes: int) -> None:
    alone = split(world(), world().rank)
    with VisibilityStore.open(Path(chunked_store)) as store:
        imager = BlockImager(describe(RunConfig.from_flat({"vis": [chunked_store], **OPTIONS}, {}), store), store, cache_bytes)
        block = ChannelBlock(0, 0, 8)
        imager.first_pass(alone, block)
        one = imager.residual(alone, block, point_model(8))
        two = imager.residual(alone, block, point_model(8))
        assert np.shares_memory(one, two) == (cache_bytes > 0)
        imager.turn_to([])
        assert not np.shares_memory(two, imager.residual(alone, block, point_model(8)))
    alone.Free()


def test_the_log_says_how_blocks_are_gridded(chunked_store: str) -> None:
    with VisibilityStore.open(Path(chunked_store)) as store:
        for options, says in (
            ({}, "8 channels at once, one per lane"), ({"nchan": 3}, "channel by channel"),
            ({"specmode": "mfs"}, "onto one plane"),
        ):  # fmt: skip
            description = describe(RunConfig.from_flat({"vis": [chunked_store], **OPTIONS, **options}, {}), store)
            line = kernel_line(description, gridder_of(description))
            assert line.startswith("kernel: ") and says in line and "epsilon 0.0001, single" in line
        description = describe(RunConfig.from_flat({"vis": [chunked_store], **OPTIONS}, {}), store)
        assert "; the last block, of 8, in 8 lanes" in kernel_line(description, gridder_of(description, FULL))


def test_one_rank_reads_the_metadata_of_a_store(chunked_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    whole = VisibilityStore.open

    def counted(path):
        opened.append(path)
        return whole(path)

    monkeypatch.setattr(inputs.VisibilityStore, "open", counted)
    store = inputs._open_together(world(), Path(chunked_store))
    assert len(opened) == (world().rank == 0)
    try:
        seen = store.fingerprint(), store.read(0, 0, 1, 0, 9).tobytes(), store.read_times(0)[1].tobytes()
        assert seen == on_root(world(), "looking", lambda: seen)
    finally:
        store.close()
