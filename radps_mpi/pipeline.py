"""The journey on one page: visibilities in, image products out, on all ranks of a communicator, resumable at any moment.

    describe the observations -> plan the cube (geometry, axis, blocks) -> share it among the ranks -> open or build the
    visibility store -> weights, PSFs and beams -> minor cycles, predict, subtract, grid, transform, commit, until the stopping
    rules say so -> restore -> write products

Every function here is collective: all ranks call it with the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radps_mpi import alarm, timeline
from radps_mpi.config import RunConfig
from radps_mpi.errors import OutOfTimeError, RadpsError
from radps_mpi.imaging.stopping import STOP_TEXT, ControlState
from radps_mpi.io import commit, earlier_run
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.run_directory import RunDirectory
from radps_mpi.io.timeline_file import write_timeline
from radps_mpi.journey.blocks import BlockImager, gridder_of
from radps_mpi.journey.cycles import Cycles
from radps_mpi.journey.describe import Description, describe
from radps_mpi.journey.inputs import open_store
from radps_mpi.journey.masking import MaskSource
from radps_mpi.journey.measuring import measured
from radps_mpi.journey.outline import Outline, outline, preview
from radps_mpi.journey.products import left_from_before, write_products
from radps_mpi.journey.provenance import Imaged, hosts_of, start_of_job
from radps_mpi.journey.provision import cache_within
from radps_mpi.journey.reporting import Reporter
from radps_mpi.journey.session import (
    FINISHED_PHASE,
    accept,
    clear_away,
    config_of_run,
    enter_directory,
    give_back_earlier,
    keep_until_accepted,
    open_state,
    start_directory,
    with_absolute_paths,
)
from radps_mpi.journey.space import refuse_lack_of_space
from radps_mpi.journey.summary import announce, channel_summary, kernel_line
from radps_mpi.journey.workload import work_done
from radps_mpi.parallel import all_or_none, on_root, ranks_on_node
from radps_mpi.parallel.stints import WallTime
from radps_mpi.parallel.types import Comm
from radps_mpi.planning.model import LAYOUT
from radps_mpi.planning.resources import cache_bytes, memory_per_rank_bytes
from radps_mpi.planning.wall_time import wall_time_left_s


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made: paths of the products, and how CLEAN ended (tclean's numbers)."""

    products: tuple[str, ...]
    stop_code: int
    stop_text: str
    iterations: int
    major_cycles: int


def make_cube(config: RunConfig, inputs: Sequence[str], comm: Comm, *, break_lock: bool = False) -> Result:
    """Image ``inputs`` as ``config`` says, from the beginning."""
    config = with_absolute_paths(config.replaced({"vis": tuple(inputs)}))
    _look_for_space(config, comm, resumes=False)  # before an earlier run gives way: what can't work must not cost it
    directory = start_directory(comm, config, break_lock=break_lock)
    return _run(config, comm, directory, "started")


def resume(imagename: str, comm: Comm, overrides: dict[str, Any] | None = None, *, break_lock: bool = False) -> Result:
    """Go on with a run from its last commit; ``overrides`` are parameters that may change (niter, threshold, ...)."""
    directory = enter_directory(comm, imagename, break_lock=break_lock)
    try:
        config = config_of_run(comm, directory, overrides or {}, imagename)
        if not on_root(comm, "looking for a state", lambda: commit.exists(directory.root)):
            _look_for_space(config, comm, resumes=True)  # before an ingest is gone on with
    except BaseException:
        directory.close()
        raise
    return _run(config, comm, directory, "resumed")


def dry_run(config: RunConfig, inputs: Sequence[str], comm: Comm) -> Outline:
    """The plan of a run: axis, blocks, ranks, bytes, and whether the disk has room. Reads metadata only, leaves
    nothing behind."""
    return outline(config.replaced({"vis": tuple(inputs)}), comm)


def _look_for_space(config: RunConfig, comm: Comm, *, resumes: bool) -> None:
    description, needed = preview(config, comm)
    on_root(comm, "looking for space", lambda: refuse_lack_of_space(needed, description, resumes=resumes))


def _run(config: RunConfig, comm: Comm, directory: RunDirectory, event: str) -> Result:
    report = Reporter(comm, directory)
    if config.output.timeline:
        comm.Barrier()
        timeline.begin()
    try:
        hosts = hosts_of(comm)
        report.event(event, lambda: start_of_job(directory.root, event, hosts, config.selection.vis))
        with alarm.listening(config.parallel.stall_timeout_s, directory.logs / f"rank-{comm.rank}.log"):
            result, figures = _image(config, comm, directory, report)
        _keep_timeline(config, comm, report)
        report.event("finished", stop=result.stop_text, iterations=result.iterations, measured=figures)
        return result
    except OutOfTimeError as stop:
        report.event("stopped", why=str(stop))
        on_root(comm, "keeping the configuration", lambda: keep_until_accepted(directory, config))
        on_root(comm, "keeping the run", lambda: earlier_run.let_go(directory.root))
        try:  # all ranks are here: they stop together
            _keep_timeline(config, comm, report)
        except RadpsError as error:
            report.note(f"warning: {error}")
        raise OutOfTimeError(f"{stop}; 'radps resume {config.output.imagename}' goes on") from stop
    except Exception as error:
        report.event("failed", error=f"{type(error).__name__}: {error}")
        give_back_earlier(comm, directory, report)
        raise
    finally:
        timeline.end()
        directory.close()


def _keep_timeline(config: RunConfig, comm: Comm, report: Reporter) -> None:
    if config.output.timeline:
        path = Path(f"{config.output.imagename}.timeline.json")
        write_timeline(comm, path, timeline.end())
        report.note(f"timeline: {path}")


def _image(config: RunConfig, comm: Comm, directory: RunDirectory, report: Reporter) -> tuple[Result, dict[str, Any]]:
    """The run, and what it took: see :func:`radps_mpi.journey.measuring.measured`."""
    limit = WallTime(comm, wall_time_left_s(config.parallel.max_time_s))
    with timeline.span("find or make the store"):
        store = open_store(comm, config, directory.root, report, limit)
    report.watch.turn_to(LAYOUT)
    with all_or_none(comm, "planning the image"):
        description = describe(config, store)
    announce(description, comm, report)
    masks = MaskSource(comm, description)
    imager = BlockImager(description, store, _cache_bytes(description, comm, report))
    report.note(kernel_line(description, imager.gridder))
    with timeline.span("find or lay out the state"):
        state, found = open_state(comm, directory, description, store, imager.gridder, masks.identity, report)
    accept(directory, state, Imaged(config, masks.identity), store, report, found=found)
    cycles = Cycles(comm, description, imager, state, masks, report, limit)
    if found:
        cycles.repair()
        cycles.follow_mask()
        report.note(_replan(comm, description, imager, state, cycles, limit))
    cycles.make_first_images()
    control = cycles.clean()
    paths = write_products(comm, description, state, masks, limit, report)
    channel_summary(description, state, imager, report)
    result = _result(paths, control, description)
    with all_or_none(comm, "measuring the run"):  # while the run could still be gone on with
        work = work_done(description, imager.gridder, state, control)
    report.note(f"products: {' '.join(paths)}")
    if old := left_from_before(config.output.imagename, paths):
        report.note(f"warning: products of an earlier run remain beside them: {' '.join(old)}")
    store.close()
    report.phase(FINISHED_PHASE, len(paths), done=len(paths))  # first: a kill amid the removal mustn't have all done again
    clear_away(comm, directory, state, config)
    return result, measured(comm, report.watch, work, config.parallel.threads)


def _replan(
    comm: Comm, description: Description, imager: BlockImager, state: Checkpoint, cycles: Cycles, limit: WallTime
) -> str:
    from radps_mpi.journey.replanning import replan  # loads the planner, which a run from the beginning doesn't need

    return replan(comm, description, imager.gridder, state, cycles.upcoming(), limit)


def _cache_bytes(description: Description, comm: Comm, report: Reporter) -> int:
    """For visibilities kept between cycles: of the memory that the user gives, or of what a rank finds here and now."""
    chosen = description.config.parallel.memory_per_rank_bytes
    if chosen is not None:
        return cache_bytes(chosen)
    share_bytes = memory_per_rank_bytes(ranks_on_node(comm))
    kept_bytes, warning = cache_within(description, gridder_of(description), comm.size, share_bytes)
    if warning:
        report.note(warning)
    return kept_bytes


def _result(paths: list[str], control: ControlState, description: Description) -> Result:
    code = control.overall_stop_code
    return Result(tuple(paths), int(code), STOP_TEXT[code], control.iterdone, control.nmajordone)
