"""From visibilities to a CLEANed state: PSF and dirty images, then minor and major cycles until tclean's rules say stop.

All per-channel numbers live in the checkpoint's table, which is the same on all ranks after each commit: decisions are made
from it alone, so that they don't depend on who computed what, nor on how often the run was interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radps_mpi import alarm, faults, timeline
from radps_mpi.data.beam import NULL_BEAM, Beam, BeamColumns
from radps_mpi.decomposition import ChannelBlock, deal_channels
from radps_mpi.errors import DataError
from radps_mpi.imaging.beams import fit_beam, largest_beam
from radps_mpi.imaging.clark import clark, patch_pixels
from radps_mpi.imaging.minor_cycle import hogbom, peak_in_mask, sidelobe_level
from radps_mpi.imaging.stopping import ControlState, CyclePlan, Measured, begin, check, plan_cycle, record_cycle, reopen
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.manifest import FLAG_BEAM_FALLBACK, FLAG_BLANK, IMAGED, PENDING
from radps_mpi.journey.blocks import BlockImager
from radps_mpi.journey.describe import Description
from radps_mpi.journey.division import Division, Divisions
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.ranks import Assignment, assign, work_through
from radps_mpi.journey.reporting import Reporter
from radps_mpi.parallel import all_or_none, broadcast, merge_disjoint
from radps_mpi.parallel.stints import WallTime, work_in_stints
from radps_mpi.parallel.types import Comm


class Cycles:
    """The loop over one run's state. Every method is collective."""

    def __init__(
        self, comm: Comm, description: Description, imager: BlockImager, state: Checkpoint, masks: MaskSource,
        report: Reporter, limit: WallTime,
    ) -> None:
        self.comm, self.d, self.imager, self.state, self.masks, self.report, self.limit = (
            comm, description, imager, state, masks, report, limit,
        )
        self._divisions = Divisions(description, imager)

    def make_first_images(self) -> None:
        """PSF, beam and dirty image of every block that doesn't have them yet, committed as they are finished."""
        pending = [bool((self.state.table["status"][b.start : b.stop] == PENDING).any()) for b in self.d.blocks]
        if any(pending):
            share = assign(self.comm, self.d, self.d.blocks, [float(p) for p in pending])
            self._work(share, "making PSFs and dirty images", self._first_block, {})
            share.free()
        self._settle_beams()

    def _work(
        self, share: Assignment, phase: str, work: Callable[[Comm, ChannelBlock], None], changes: dict[str, Any],
        division: Division | None = None,
    ) -> None:
        """``work`` on this rank's blocks of ``division``, the full ones where none is given."""
        division = division or self._divisions.full
        self._divisions.turn_to(division, share.blocks)
        self.report.phase(phase, share.rounds)
        spent, mine = np.zeros(len(division.blocks)), np.zeros(len(division.blocks), bool)

        def measured(team: Comm, block: ChannelBlock) -> None:
            began = time.monotonic()
            work(team, block)
            if team.rank == 0:
                spent[block.index], mine[block.index] = time.monotonic() - began, True

        work_through(
            self.limit, share, phase, measured, lambda: self.state.commit(changes),
            lambda done: self.report.progress(phase, done, share.rounds, self.state),
        )
        division.imager.make_room()
        division.note(merge_disjoint(self.comm, spent, mine), share.teams)

    def _first_block(self, team: Comm, block: ChannelBlock) -> None:
        images = self.imager.first_pass(team, block)
        if images is None:
            return
        with timeline.span("fit beams, write planes", block=block.index):
            for k in range(block.nchan):
                self._stage_first(block.start + k, images.psf[k], images.dirty[k], images.sums[:, k])

    def _stage_first(
        self, chan: int, psf: NDArray[np.float32], dirty: NDArray[np.float32], sums: NDArray[np.float64]
    ) -> None:
        if sums[0] <= 0.0:
            self.state.stage(chan, status=IMAGED, flags=FLAG_BLANK, cycle=0)
            return
        refuse_what_is_not_finite("psf", chan, psf)
        beam = fit_beam(psf, self.d.geometry)
        self.state.stage(
            chan, psf=psf, residual=dirty, cycle=0, beam=beam or NULL_BEAM, status=IMAGED,
            flags=0 if beam else FLAG_BEAM_FALLBACK, sumwt=float(sums[0]), noise_sum=float(sums[1]),
            sidelobe=sidelobe_level(psf, beam, self.d.geometry) if beam else 0.0, **self._peaks(chan, dirty),
        )

    def _peaks(self, chan: int, residual: NDArray[np.float32]) -> dict[str, Any]:
        refuse_what_is_not_finite("residual", chan, residual)
        mask = self.masks.of(chan)
        return {
            "peak_residual_jy": peak_in_mask(residual, mask),
            "image_peak_jy": peak_in_mask(residual),
            "mask_pixels": int(np.count_nonzero(mask)),
        }

    def _settle_beams(self) -> None:
        """Planes whose fit failed take the largest beam, and the sidelobe level against it."""
        table = self.state.table
        failed = (table["flags"] & FLAG_BEAM_FALLBACK != 0) & (table["beam_major_rad"] == 0.0)
        if not failed.any() or (largest := largest_beam(beams_of_records(table))).is_null:
            return
        with all_or_none(self.comm, "fitting beams"):
            for chan in map(int, deal_channels(np.flatnonzero(failed), self.comm.rank, self.comm.size)):
                psf = self.state.read_psf(chan)
                if psf is not None:
                    self.state.stage(
                        chan, beam=largest, sidelobe=sidelobe_level(psf, largest, self.d.geometry)
                    )
        self.state.commit()

    def clean(self) -> ControlState:
        """Minor and major cycles until every channel has stopped; returns how and why."""
        control = self.d.control
        state = self._resume_control()
        while True:
            plan = self._interrupted_plan()
            if plan is None:
                checked, plan = self._look(state)
                self.report.cycle(checked)
                if plan is None:
                    break
                state = checked
                if not plan.active.any():
                    raise DataError("control: no channel can be cleaned although none has stopped")
                before = self.state.table["iterations"].copy()
                self.state.commit({"control": state.to_dict(), "plan": _plan_to_dict(plan, before)})
            self._cycle(plan, state.cycle + 1)
            done, before = self.state.table, self.state.header["plan"]["iterations_before"]
            state = record_cycle(control, state, plan, done["iterations"] - before, done["model_flux_jy"])
            self.state.commit({"control": state.to_dict(), "plan": None, "last_plan": self._last_plans(plan)})
        # The state before that last look: a resumed run, perhaps with other limits, looks at the same residuals with it.
        self.state.commit({"control": state.to_dict(), "plan": None, "finished": True})
        return checked

    def _resume_control(self) -> ControlState:
        stored = self.state.header.get("control")
        if stored is None:
            return begin(self.d.control, self.d.axis.nchan)
        return reopen(ControlState.from_dict(stored))

    def follow_mask(self) -> None:
        """Measure the peaks again if the run is resumed with another mask than that in which they were measured."""
        mask = self.masks.identity
        if self.state.header.get("mask") == mask:
            return
        made = (self.state.table["residual_cycle"] >= 0) & (self.state.table["flags"] & FLAG_BLANK == 0)
        with all_or_none(self.comm, "measuring peaks in the mask"):
            for chan in map(int, deal_channels(np.flatnonzero(made), self.comm.rank, self.comm.size)):
                residual = self.state.read_residual(chan)
                if residual is None:
                    raise DataError(f"{self.state.directory}: the residual of channel {chan} can't be read back")
                self.state.stage(chan, **self._peaks(chan, residual))
                alarm.beat("measuring peaks in the mask")
            alarm.beat("measuring peaks in the mask", waiting=True)
        self.state.commit({"mask": mask})

    def upcoming(self) -> CyclePlan | None:
        """The next minor cycles as the residuals are now, or those that were interrupted; None where CLEAN has come to its end.
        Nothing is decided by it."""
        plan = self._interrupted_plan()
        return self._look(self._resume_control())[1] if plan is None else plan

    def _look(self, state: ControlState) -> tuple[ControlState, CyclePlan | None]:
        """``state`` with the residuals looked at, and the next minor cycles; none where every channel has stopped."""
        measured = self.measured()
        checked = check(self.d.control, state, measured)
        return checked, None if checked.finished else plan_cycle(self.d.control, checked, measured)

    def _interrupted_plan(self) -> CyclePlan | None:
        stored = self.state.header.get("plan")
        return None if stored is None else _plan_from_dict(stored)

    def _cycle(self, plan: CyclePlan, cycle: int) -> None:
        """One set of minor cycles and the major cycle after it, for the channels that aren't that far yet."""
        table = self.state.table
        todo = plan.active & (table["cycle"] < cycle)
        division, costs = self._divisions.choose(todo, self.comm.size)
        if division is not self._divisions.full:
            self.report.note(f"major cycle {cycle}: in half blocks, {division.imager.nlane} lanes each, which are done sooner")
        share = assign(self.comm, self.d, division.blocks, costs, division.teams)
        self._minor_cycles(plan, todo, cycle)
        self.state.hand_over(share.owner)
        self._work(
            share, f"major cycle {cycle}", lambda team, block: self._residual_block(team, block, todo, division), {}, division
        )
        share.free()

    def _minor_cycles(self, plan: CyclePlan, todo: NDArray[np.bool_], cycle: int) -> None:
        phase, chans = f"minor cycles {cycle}", np.flatnonzero(todo)
        self.report.phase(phase, len(chans))
        mine = deal_channels(chans, self.comm.rank, self.comm.size)

        def step(number: int) -> None:
            if number < len(mine):
                chan = int(mine[number])
                with timeline.span("minor cycle", channel=chan):
                    self._minor_cycle(chan, plan, cycle)

        # The last models are committed with their residuals; those of an interrupted phase without, which repair() makes.
        work_in_stints(
            self.limit, -(-len(chans) // self.comm.size), phase, step, self.state.commit, lambda done: None,
            commit_last=False,
        )

    def _minor_cycle(self, chan: int, plan: CyclePlan, cycle: int) -> None:
        loaded, psf = self.state.load(chan), self.state.read_psf(chan)
        if loaded.residual is None or psf is None or loaded.rewound_from is not None:
            raise DataError(
                f"{self.state.directory}: planes of channel {chan} changed on disk while the run was at work; resume it to "
                "have them checked and recomputed"
            )
        self._make_model(
            chan, loaded.residual, psf, loaded.model, cycle, float(plan.cycle_threshold_jy[chan]),
            int(plan.max_iterations[chan]),
        )

    def _make_model(
        self, chan: int, residual: NDArray[np.float32], psf: NDArray[np.float32], model_in: NDArray[np.float32], cycle: int,
        cycle_threshold_jy: float, max_iterations: int,
    ) -> NDArray[np.float32]:
        """One minor cycle; its model is staged and returned."""
        deconvolve = hogbom
        if self.d.config.deconvolution.deconvolver == "clark":
            deconvolve = partial(clark, patch=patch_pixels(beam_of_record(self.state.record(chan)), self.d.geometry))
        model, result = deconvolve(
            residual, psf, self.masks.of(chan), gain=self.d.control.gain, cycle_threshold_jy=cycle_threshold_jy,
            max_iterations=max_iterations, model_in=model_in,
        )
        refuse_what_is_not_finite("model", chan, model)
        self.state.stage(
            chan, model=model, cycle=cycle, iterations=int(self.state.record(chan)["iterations"]) + result.iterations,
            model_flux_jy=float(model.sum(dtype=np.float64)),
        )
        return model

    def _last_plans(self, plan: CyclePlan) -> dict[str, Any]:
        """The control values under which each channel's newest model was made, once ``plan`` has been carried out."""
        stored = self.state.header.get("last_plan") or {
            "cycle_threshold_jy": np.zeros(self.d.axis.nchan), "max_iterations": np.zeros(self.d.axis.nchan, np.int64)
        }
        return {
            name: np.where(plan.active, getattr(plan, name), values) for name, values in stored.items()
        }

    def repair(self) -> None:
        """Recompute what a kill tore or a disk damaged, from what is intact; its bits are those it had.

        A residual has one slot: it is being overwritten while its channel's new model waits for the commit. A damaged model is
        made again from the cycle before, in its other slot.
        """
        torn = self._find_torn()
        for index, phase in ((0, "recomputing PSFs"), (1, "recomputing damaged models"), (2, "recomputing torn planes")):
            chosen = torn[:, index]
            if not chosen.any():
                continue
            self.report.note(f"{int(chosen.sum())} channels were being written when the run stopped, or are damaged: {phase}")
            work = (self._psf_block, self._model_block, self._residual_block)[index]
            share = assign(self.comm, self.d, self.d.blocks, self._divisions.full.costs(chosen))
            self._work(share, phase, partial(work, wanted=chosen), {})
            share.free()

    def _find_torn(self) -> NDArray[np.bool_]:
        """Which PSFs, models and residuals can't be read back: (nchan, 3). A damaged model's residual isn't listed: it is made
        with the model."""
        table = self.state.table
        made = np.flatnonzero((table["status"] == IMAGED) & (table["flags"] & FLAG_BLANK == 0))
        mine = deal_channels(made, self.comm.rank, self.comm.size)
        torn, checked = np.zeros((self.d.axis.nchan, 3), np.uint8), np.zeros(self.d.axis.nchan, bool)
        with all_or_none(self.comm, "checking the state"):
            for chan in map(int, mine):
                model_torn = self.state.read_model(chan) is None
                torn[chan, 0] = self.state.read_psf(chan) is None
                torn[chan, 1], torn[chan, 2] = model_torn, not model_torn and self.state.read_residual(chan) is None
                checked[chan] = True
                alarm.beat("checking the state")
            alarm.beat("checking the state", waiting=True)
        return merge_disjoint(self.comm, torn, checked).astype(bool)

    def _psf_block(self, team: Comm, block: ChannelBlock, wanted: NDArray[np.bool_]) -> None:
        images = self.imager.first_pass(team, block)
        with all_or_none(team, "keeping recomputed PSFs"):
            if images is not None:
                for chan in block.start + np.flatnonzero(wanted[block.start : block.stop]):
                    self.state.stage(int(chan), psf=images.psf[chan - block.start])

    def _model_block(self, team: Comm, block: ChannelBlock, wanted: NDArray[np.bool_]) -> None:
        """Repeat the last minor cycle of the ``wanted`` (nchan,) channels of a block whose models are damaged.

        Nothing is committed in between, so that no kill leaves a channel a cycle behind the run's control history.
        """
        chans = range(block.start, block.stop)
        shape = (len(chans), *self.d.geometry.shape)
        committed = {chan: int(self.state.table[chan]["cycle"]) for chan in chans if wanted[chan]}
        model: NDArray[np.float32] | None = None
        with all_or_none(team, f"reading earlier models of channels {block.start} to {block.stop - 1}"):
            if team.rank == 0:  # alone: who goes back stages the channel
                model = self._models_of(block, self.imager, going_back=wanted)
        model = broadcast(team, model, shape, np.dtype(np.float32))
        images = self.imager.residual(team, block, model)
        with all_or_none(team, f"repeating minor cycles of channels {block.start} to {block.stop - 1}"):
            if images is not None:
                for chan, cycle in committed.items():
                    k = chan - block.start
                    model[k] = self._repeat_minor_cycle(chan, images[k], model[k], cycle)
        model = broadcast(team, model, shape, np.dtype(np.float32))
        images = self.imager.residual(team, block, model)
        with all_or_none(team, f"keeping residuals of channels {block.start} to {block.stop - 1}"):
            if images is not None:
                for chan in committed:
                    residual = images[chan - block.start]
                    self.state.stage(chan, residual=residual, **self._peaks(chan, residual))

    def _repeat_minor_cycle(
        self, chan: int, residual: NDArray[np.float32], model: NDArray[np.float32], cycle: int
    ) -> NDArray[np.float32]:
        """The model of ``cycle`` from that of the cycle before, staged."""
        plan = self._interrupted_plan()
        running = plan is not None and bool(plan.active[chan]) and cycle > int(self.state.header["control"]["cycle"])
        stored = self.state.header.get("plan") if running else self.state.header.get("last_plan")
        psf, record = self.state.read_psf(chan), self.state.record(chan)
        same_mask = self.state.header.get("mask") == self.masks.identity
        if stored is None or psf is None or int(record["cycle"]) != cycle - 1 or not same_mask:
            raise DataError(
                f"{self.state.directory}: the model of channel {chan} is damaged and can't be made again from the one before"
                + ("; start the run again" if same_mask else ": resume the run with the mask that it had")
            )
        return self._make_model(
            chan, residual, psf, model, cycle, float(stored["cycle_threshold_jy"][chan]), int(stored["max_iterations"][chan])
        )

    def _residual_block(
        self, team: Comm, block: ChannelBlock, wanted: NDArray[np.bool_], division: Division | None = None
    ) -> None:
        """Residuals of a block from its current models, staged for the ``wanted`` (nchan,) channels."""
        chans, imager = range(block.start, block.stop), (division or self._divisions.full).imager
        with (
            all_or_none(team, f"reading models of channels {block.start} to {block.stop - 1}"),
            timeline.span("read models", block=block.index),
        ):
            model = self._models_of(block, imager, wanted=wanted)
        images = imager.residual(team, block, model, wanted[block.start : block.stop])
        if images is None:
            return
        with timeline.span("write planes", block=block.index):
            for k, chan in enumerate(chans):
                if wanted[chan]:
                    self.state.stage(chan, residual=images[k], **self._peaks(chan, images[k]))

    def _models_of(
        self, block: ChannelBlock, imager: BlockImager, *, wanted: NDArray[np.bool_] | None = None,
        going_back: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Newest models (nchan, ny, nx) of a block, in memory of ``imager``; earlier ones for the channels ``going_back``,
        whose newest are damaged. Planes hold anything where a channel isn't ``wanted``. Both (nchan,) of the cube."""
        model = imager.model_planes(block)
        for k, chan in enumerate(range(block.start, block.stop)):
            if wanted is not None and not wanted[chan]:
                continue
            earlier = going_back is not None and going_back[chan]
            plane = self.state.load(chan).model if earlier else self.state.read_model(chan)
            if plane is None:
                raise DataError(f"{self.state.directory}: the model of channel {chan} can't be read back")
            model[k] = plane
        return model

    def measured(self) -> Measured:
        """What the stopping rules look at: some of it columns of the table, not copies, so for use before it changes. Peaks are
        kept as the pixels they are; the rules compute in double precision."""
        table = self.state.table
        return Measured(
            table["peak_residual_jy"].astype(np.float64), table["image_peak_jy"].astype(np.float64), table["sidelobe"],
            table["mask_pixels"],
            valid_channels(table, self.d.config.spectral.edge_fraction),
        )


def refuse_what_is_not_finite(what: str, chan: int, plane: NDArray[np.float32]) -> None:
    """An image of finite visibilities that isn't: it is neither committed nor written.

    Raises
    ------
    DataError
        Which names the node.
    """
    faults.poison(what, plane)
    if not np.isfinite(plane.sum(dtype=np.float64)):
        raise DataError(
            f"the {what} of channel {chan} came out as NaN or infinity on {os.uname().nodename} from finite "
            "visibilities: they are too large for float32, or a processor fails there; nothing of it is kept"
        )


def valid_channels(table: NDArray[Any], edge_fraction: float) -> NDArray[np.bool_]:
    """Channels that count in numbers shared by channels: not blank, and with at least ``edge_fraction`` of the median sum of
    weights of the channels that have data."""
    sumwt = table["sumwt"]
    present = sumwt > 0.0
    if not present.any():
        return present
    return present & (sumwt >= edge_fraction * float(np.median(sumwt[present])))


def beam_of_record(record: np.void) -> Beam:
    """The beam kept in a channel's record."""
    return Beam(float(record["beam_major_rad"]), float(record["beam_minor_rad"]), float(record["beam_pa_rad"]))


def beams_of_records(table: NDArray[Any]) -> BeamColumns:
    """The beams kept in the records of a cube's channels."""
    return BeamColumns(table["beam_major_rad"], table["beam_minor_rad"], table["beam_pa_rad"])


def _plan_to_dict(plan: CyclePlan, iterations_before: NDArray[np.int64]) -> dict[str, Any]:
    """A cycle's control values as the manifest keeps them: fixed until the cycle is over, however often it is resumed."""
    return {
        "cycle_threshold_jy": plan.cycle_threshold_jy, "max_iterations": plan.max_iterations,
        "active": plan.active.astype(np.uint8), "iterations_before": iterations_before,
    }


def _plan_from_dict(stored: dict[str, Any]) -> CyclePlan:
    return CyclePlan(stored["cycle_threshold_jy"], stored["max_iterations"], stored["active"].astype(bool))
