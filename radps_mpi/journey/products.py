"""From the final state to FITS products: restore, mask, correct, write; every rank its channels, into one file each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radps_mpi import timeline
from radps_mpi.config import PER_JOB_DEFAULTS, PRODUCTS
from radps_mpi.data.beam import NULL_BEAM, Beam
from radps_mpi.decomposition import deal_channels
from radps_mpi.errors import DataError
from radps_mpi.imaging.common_beam import common_beam
from radps_mpi.imaging.primary_beams import apply_pb_mask, pb_correct, primary_beam
from radps_mpi.imaging.restoring import restore
from radps_mpi.imaging.restoring_beam import parse_restoring_beam
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.durable import checksum, naming
from radps_mpi.io.fits_writer import FitsCubeWriter, WrittenPlanes, partial_path_of
from radps_mpi.io.manifest import FLAG_BLANK
from radps_mpi.journey.cycles import beams_of_records, refuse_what_is_not_finite, valid_channels
from radps_mpi.journey.describe import Description
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.reporting import Reporter
from radps_mpi.parallel import on_root
from radps_mpi.parallel.stints import WallTime, work_in_stints
from radps_mpi.parallel.types import Comm

PHASE = "writing products"

Plane = NDArray[np.float32]

_UNITS = {"image": "Jy/beam", "image.pbcor": "Jy/beam", "residual": "Jy/beam", "model": "Jy/pixel"}


def product_names(description: Description) -> list[str]:
    """Which files this run writes, without prefix and .fits; image.pbcor rides with image."""
    wanted: list[str] = list(description.config.output.products)
    if description.config.image.pbcor and "image" in wanted:
        wanted.insert(wanted.index("image") + 1, "image.pbcor")
    return wanted


def product_path(imagename: str, product: str) -> str:
    """Path of a product."""
    return f"{imagename}.{product}.fits"


def partial_path(imagename: str, product: str) -> Path:
    """Where a product is until it is whole."""
    return partial_path_of(product_path(imagename, product))


def left_from_before(imagename: str, written: list[str]) -> list[str]:
    """Products of the name that this run didn't write: an earlier run's, which need not fit the new ones."""
    every = [product_path(imagename, product) for product in (*PRODUCTS, "image.pbcor")]
    return [path for path in every if path not in written and os.path.exists(path)]


class ProductMaker:
    """Computes planes of the products from the state; local work only."""

    def __init__(self, description: Description, state: Checkpoint, masks: MaskSource) -> None:
        self.d, self.state, self.masks = description, state, masks
        self.fitted = beams_of_records(state.table)
        self.restoring = self._restoring_beams()

    def _restoring_beams(self) -> Sequence[Beam]:
        choice = parse_restoring_beam(self.d.config.deconvolution.restoringbeam)
        if choice == "":
            return self.fitted
        valid = valid_channels(self.state.table, self.d.config.spectral.edge_fraction)
        beam = common_beam(b for b, v in zip(self.fitted, valid, strict=True) if v) if isinstance(choice, str) else choice
        return [NULL_BEAM if fitted.is_null else beam for fitted in self.fitted]

    def beams_of(self, product: str) -> Beam | Sequence[Beam] | None:
        """Beams for a product's header: one where all channels share it."""
        if product == "psf":
            return self.fitted
        if product not in ("image", "image.pbcor"):
            return None
        if self.restoring is self.fitted or any(b.is_null for b in self.restoring):
            return self.restoring
        return self.restoring[0]

    def is_blank(self, chan: int) -> bool:
        """True for a channel without data: its planes are NaN."""
        return bool(self.state.table["flags"][chan] & FLAG_BLANK)

    def planes(self, chan: int, products: list[str]) -> dict[str, Plane]:
        """The planes of a channel that isn't blank, by product."""
        pb, limit = self._primary_beam(chan, products), self.d.config.image.pblimit
        make: dict[str, Callable[[], Plane]] = {
            "residual": lambda: apply_pb_mask(self._residual(chan), pb, limit),
            "model": lambda: self._model(chan),
            "psf": lambda: self._psf(chan),
            "pb": lambda: apply_pb_mask(pb, pb, limit),
            "sumwt": lambda: np.full((1, 1), 2.0 * self.state.table["sumwt"][chan], np.float32),
            "mask": lambda: self.masks.of(chan).astype(np.float32),
        }
        made = {name: make[name]() for name in products if name in make}
        if "image" in products:
            restored = self._restored(chan)
            made["image"] = apply_pb_mask(restored, pb, limit)
            if "image.pbcor" in products:
                made["image.pbcor"] = pb_correct(restored, pb, limit)
        return made

    def _primary_beam(self, chan: int, products: list[str]) -> Plane:
        """The channel's beam; NaN, which masks nothing, where no product needs it: it takes as long as to write a plane."""
        if self.d.config.image.pblimit < 0.0 and not {"pb", "image.pbcor"} & set(products):
            return np.full(self.d.geometry.shape, np.nan, np.float32)
        freq_hz = float(self.d.axis.freq_hz[chan])
        return primary_beam(self.d.geometry, freq_hz, self.d.dish, self.d.config.image.pb_model, self.d.pb_axis_lm)

    def _restored(self, chan: int) -> Plane:
        shared = self.restoring is not self.fitted
        restored = restore(
            self._model(chan), self._residual(chan), self.restoring[chan], self.d.geometry,
            fitted_beam=self.fitted[chan] if shared else None, threads=self.d.config.parallel.threads,
        )
        refuse_what_is_not_finite("image", chan, restored)
        return restored

    def _residual(self, chan: int) -> Plane:
        return self._sound(chan, "residual", self.state.read_residual(chan))

    def _model(self, chan: int) -> Plane:
        return self._sound(chan, "model", self.state.read_model(chan))

    def _psf(self, chan: int) -> Plane:
        return self._sound(chan, "PSF", self.state.read_psf(chan))

    def _sound(self, chan: int, what: str, plane: Plane | None) -> Plane:
        if plane is None:
            raise DataError(f"{self.state.directory}: the {what} of channel {chan} is damaged; resume the run to repair it")
        return plane


def write_products(
    comm: Comm, description: Description, state: Checkpoint, masks: MaskSource, limit: WallTime, report: Reporter
) -> list[str]:
    """Write all products; collective. Returns their paths. Earlier products of the name stay until the new ones are whole.

    Raises
    ------
    OutOfTimeError
        When the job is to stop; planes that are written are kept for the next one.
    """
    maker, names = ProductMaker(description, state, masks), product_names(description)
    nchan, key = description.axis.nchan, _key(description, state, masks, names)
    kept = _kept(state, key, names, nchan)
    imagename = description.config.output.imagename
    on_root(comm, "removing partial products", lambda: _forget_unwanted(imagename, names))
    if not on_root(comm, "looking for partial products", lambda: all(partial_path(imagename, n).exists() for n in names)):
        kept = {}
    if not kept and state.header.get("products") is not None:
        state.commit({"products": None})  # before a partial file is made anew that what was kept isn't in
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(_writer(comm, description, maker, name, kept.get(name))) for name in names
        }
        todo = np.flatnonzero(~np.logical_and.reduce([writer.kept for writer in writers.values()]))
        report.phase(PHASE, len(todo))
        mine = deal_channels(todo, comm.rank, comm.size)

        def step(number: int) -> None:
            if number < len(mine):
                chan = int(mine[number])
                with timeline.span("restore and write products", channel=chan):
                    _write_channel(maker, writers, chan)

        def commit() -> None:
            done = [writers[name].sync() for name in names]
            state.commit({"products": {
                "key": key, "written": np.array([d.written for d in done], np.uint8), "sums": np.array([d.sums for d in done]),
            }})  # fmt: skip

        rounds = -(-len(todo) // comm.size)
        work_in_stints(
            limit, rounds, PHASE, step, commit, lambda done: report.progress(PHASE, done, rounds, state), commit_last=False
        )
    return [product_path(imagename, name) for name in names]


def _forget_unwanted(imagename: str, names: list[str]) -> None:
    """Remove what an earlier job, asked for other products, has left of them."""
    for name in {*PRODUCTS, "image.pbcor"}.difference(names):
        path = partial_path(imagename, name)
        with naming(path, "removing it"):
            path.unlink(missing_ok=True)


def _writer(
    comm: Comm, description: Description, maker: ProductMaker, name: str, kept: WrittenPlanes | None
) -> FitsCubeWriter:
    config = description.config
    geometry = replace(description.geometry, nx=1, ny=1) if name == "sumwt" else description.geometry
    return FitsCubeWriter(
        comm, product_path(config.output.imagename, name), geometry, description.axis, bunit=_UNITS.get(name, ""),
        metadata=description.metadata, beams=maker.beams_of(name), history=tuple(config.to_toml().splitlines()), kept=kept,
    )


def _write_channel(maker: ProductMaker, writers: Mapping[str, FitsCubeWriter], chan: int) -> None:
    """Blank channels have sums of weights only: the writers fill in what nobody wrote."""
    if not maker.is_blank(chan):
        for name, plane in maker.planes(chan, list(writers)).items():
            writers[name].write_plane(chan, plane)
    elif "sumwt" in writers:
        writers["sumwt"].write_plane(chan, np.zeros((1, 1), np.float32))


def _key(description: Description, state: Checkpoint, masks: MaskSource, names: list[str]) -> str:
    """Of everything that the planes depend on: partial products of an earlier job are gone on with if theirs is the same."""
    config = description.config.replaced(PER_JOB_DEFAULTS).to_toml()
    of_config = checksum(np.frombuffer("\n".join((config, *masks.identity, *names)).encode(), np.uint8))
    return bytes(np.concatenate([of_config, checksum(state.table)])).hex()


def _kept(state: Checkpoint, key: str, names: list[str], nchan: int) -> dict[str, WrittenPlanes]:
    """Planes that an earlier job wrote of these very products, by product."""
    stored = state.header.get("products")
    if stored is None or stored["key"] != key or stored["written"].shape != (len(names), nchan):
        return {}
    rows = zip(names, stored["written"].astype(bool), stored["sums"], strict=True)
    return {name: WrittenPlanes(written, sums) for name, written, sums in rows}
