"""Opening and closing a run: its directory and lock, its state, new or found, and what is refused before work begins."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from radps_mpi import __version__
from radps_mpi.config import CHANGEABLE_ON_RESUME, RunConfig, differences
from radps_mpi.config_toml import format_value
from radps_mpi.errors import DataError, FinishedRunError, StorageError, UsageError
from radps_mpi.imaging.gridding import Gridder
from radps_mpi.io import commit, earlier_run
from radps_mpi.io.commit import Checkpoint
from radps_mpi.io.durable import checksum, naming
from radps_mpi.io.run_directory import CONFIG_NAME, CONVERGENCE_NAME, RunDirectory
from radps_mpi.io.run_status import STATUS_NAME, read_status, run_directory_of
from radps_mpi.io.visibility_store import SUFFIX, VisibilityStore
from radps_mpi.journey.describe import Description
from radps_mpi.journey.inputs import STORE_NAME
from radps_mpi.journey.masking import names_an_image
from radps_mpi.journey.products import product_path
from radps_mpi.journey.provenance import IMAGING, Imaged, imaged
from radps_mpi.journey.reporting import Reporter
from radps_mpi.journey.space import needs, refuse_lack_of_space
from radps_mpi.parallel import library_version, on_root, same_everywhere
from radps_mpi.parallel.types import Comm
from radps_mpi.planning.machine import cpu_features, cpu_model

FINISHED_PHASE = "finished"
"""Phase of a run, in its status, once its products are written and its state is cleared away."""


def start_directory(comm: Comm, config: RunConfig, *, break_lock: bool = False) -> RunDirectory:
    """Enter the run directory of a new run; collective.

    Raises
    ------
    UsageError
        If products or an unfinished run of the name exist and ``overwrite`` is not set, or another run is at work there.
    """
    imagename = config.output.imagename
    on_root(comm, "making the output folder", lambda: _make_parent(imagename))
    directory = RunDirectory.open(comm, imagename, break_lock=break_lock)
    try:
        on_root(comm, "looking for earlier results", lambda: _restore_earlier(directory.root))
        on_root(comm, "looking for earlier results", lambda: _refuse_to_overwrite(config, directory.root))
        on_root(comm, "clearing the run directory", lambda: _make_room(directory.root))
        on_root(comm, "keeping the configuration", lambda: directory.write_config(config.to_toml()))
    except BaseException:
        directory.close()
        raise
    return directory


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with inputs and mask image that can be found from any directory: a run may be resumed from another."""
    changes: dict[str, Any] = {"vis": tuple(os.path.abspath(path) for path in config.selection.vis)}
    if names_an_image(config.deconvolution.mask):
        changes["mask"] = (os.path.abspath(config.deconvolution.mask[0]),)
    return config.replaced(changes)


def _make_parent(imagename: str) -> None:
    parent = Path(imagename).absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{parent}: can't be made: {error.strerror}") from error


def _refuse_to_overwrite(config: RunConfig, root: Path) -> None:
    own = root / STORE_NAME
    if own.exists() and any(os.path.exists(path) and os.path.samefile(path, own) for path in config.selection.vis):
        raise UsageError(f"{own} belongs to an earlier run of this name, which a new one replaces: move it elsewhere first")
    if config.output.overwrite:
        return
    imagename = config.output.imagename
    if commit.exists(root):
        raise UsageError(
            f"{imagename}: an unfinished run is there: continue it with 'radps resume {imagename}', or replace it with "
            "--overwrite"
        )
    for product in (*config.output.products, *(["image.pbcor"] if config.image.pbcor else [])):
        path = product_path(imagename, product)
        if os.path.exists(path):
            raise UsageError(f"{path} exists: choose another imagename, or replace it with --overwrite")


_OF_ONE_RUN = (
    CONFIG_NAME, STORE_NAME, STORE_NAME + ".partial", STORE_NAME + ".partial.progress", commit.MANIFEST_NAME,
    commit.MANIFEST_NAME + ".previous", commit.STATE_NAME, commit.STATE_NAME + ".partial", STATUS_NAME, CONVERGENCE_NAME,
)
"""A new run must not find an old one's visibilities or state, nor be taken for it. Logs and provenance are the name's."""


def _make_room(root: Path) -> None:
    """An earlier run that has a state waits until the new one has one too; of another there is nothing to keep, and the new
    run is the one to resume from its very beginning."""
    if commit.exists(root):
        earlier_run.set_aside(root, _OF_ONE_RUN)
        return
    for name in _OF_ONE_RUN:
        with naming(root / name, "removing it"):
            (root / name).unlink(missing_ok=True)


def _restore_earlier(root: Path) -> bool:
    return earlier_run.bring_back(root, _OF_ONE_RUN)


def give_back_earlier(comm: Comm, directory: RunDirectory, report: Reporter) -> None:
    """After a failure: bring back the run that the failed one was to replace. Not collective, since ranks may be lost; what
    can't be done now is done when the directory is entered next."""
    if comm.rank == 0:
        try:
            restored = _restore_earlier(directory.root)
        except StorageError as error:
            report.note(f"warning: {error}")
            return
        if restored:
            report.note(f"the earlier run in {directory.root} is as it was")


def open_state(
    comm: Comm, directory: RunDirectory, description: Description, store: VisibilityStore, gridder: Gridder,
    mask: list[str], report: Reporter,
) -> tuple[Checkpoint, bool]:
    """The run's checkpoint, and whether it was there before; collective. ``mask``: identity of the mask in which the peaks of a
    new one will be measured.

    Raises
    ------
    UsageError
        If the state was made with other parameters than the configuration has now.
    DataError
        If the state was made from other visibilities, another image or other kernels.
    StorageError
        If the disk can't hold state and products.
    """
    identity = _identity(description, store, gridder)
    _agree(comm, identity, report)
    # What an earlier run of the name had is gone or set aside by now: what is there is this run's, new or not
    on_root(comm, "looking for space", lambda: refuse_lack_of_space(needs(description), description, resumes=True))
    if on_root(comm, "looking for a state", lambda: commit.exists(directory.root)):
        state = Checkpoint.open(comm, directory.root, description.shape)
        for note in state.notes:
            report.note(note)
        _refuse_other_parameters(description.config, state.header.get("config"), directory.path(CONFIG_NAME))
        _compare(identity, state.header.get("identity") or {}, report, directory.root)
        return state, True
    config = description.config.to_toml()
    header = {
        "identity": identity, "config": config, "mask": mask, "control": None,
        "plan": None, "finished": False,
    }
    masks = False  # masks follow from the configuration until they evolve
    state = Checkpoint.create(comm, directory.root, header, description.shape, masks=masks)
    on_root(comm, "letting the earlier run go", lambda: earlier_run.let_go(directory.root))
    return state, False


def _refuse_other_parameters(config: RunConfig, made_with: Any, path: Path) -> None:
    """``config.toml`` may have been edited, or damaged: half of the images would be of other parameters than the rest."""
    if not isinstance(made_with, str):
        raise DataError(f"{path}: the manifest beside it holds no configuration: start the run again")
    before = RunConfig.from_toml(made_with, f"the configuration in the manifest beside {path}")
    free = {*CHANGEABLE_ON_RESUME, "imagename"}
    if any(name.endswith(SUFFIX) for name in config.selection.vis):
        free.add("vis")  # a store may be moved: its fingerprint tells it from another
    for name in differences(before, config):
        if name not in free:
            was, now = (format_value(c.flat()[name]) for c in (before, config))
            raise UsageError(f"{path}: {name} was {was} when the run began and is {now} now, which can't change on resume: put "
                             "it back, or start the run again")


def _identity(description: Description, store: VisibilityStore, gridder: Gridder) -> dict[str, Any]:
    """What the bits of the result depend on, besides the configuration."""
    axis, kernel = description.axis, dict(gridder.identity)
    processor = {"model": cpu_model(), "features": list(cpu_features()), "vector_width": kernel.pop("vector_width")}
    return {
        "visibilities": store.fingerprint(),
        "geometry": asdict(description.geometry),
        "axis": {"freq_hz": axis.freq_hz, "width_hz": axis.width_hz, "frame": axis.frame, "kind": axis.kind},
        "block_width": description.nlane,
        "leaves": len(description.leaves),
        "gridder": kernel,
        "processor": processor,
        "radps": __version__,
        "mpi": library_version(),
    }


_MAY_DIFFER = {
    "processor": "the last bits of the images may differ from those of an undisturbed run",
    "radps": "results may differ from those of an undisturbed run",
    "mpi": "",
}


def _compare(now: dict[str, Any], stored: dict[str, Any], report: Reporter, root: Path) -> None:
    for name, value in now.items():
        if _plain(value) == _plain(stored.get(name)):
            continue
        if name not in _MAY_DIFFER:
            raise DataError(f"{root}: the state was made with different {name.replace('_', ' ')}: start the run again")
        if _MAY_DIFFER[name]:
            report.note(f"warning: resuming with another {name}: {_MAY_DIFFER[name]}")


def _agree(comm: Comm, identity: dict[str, Any], report: Reporter) -> None:
    """Refuse ranks that would compute different things; warn of different processors. Collective."""
    for name, value in identity.items():
        if same_everywhere(comm, _plain(value)):
            continue
        if name not in _MAY_DIFFER:
            raise DataError(f"ranks see another {name.replace('_', ' ')} than rank 0: are their nodes set up alike?")
        if _MAY_DIFFER[name]:
            report.note(f"warning: ranks have another {name} than rank 0: the last bits of an image may depend on who made it")


def _plain(value: Any) -> Any:
    """What can be compared and sent: arrays, which grow with the channels, by type, shape and checksum."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, checksum(np.ascontiguousarray(value)).tolist()
    return value.tolist() if isinstance(value, np.generic) else value


def enter_directory(comm: Comm, imagename: str, *, break_lock: bool = False) -> RunDirectory:
    """Enter the run directory of an earlier run to go on with it; collective.

    Raises
    ------
    DataError
        If there is no run of that name.
    UsageError
        If another run is at work there.
    FinishedRunError
        If the run is finished and kept no state to go on from; what a kill amid the removal has left of that is removed.
    """
    root = run_directory_of(imagename)
    if not on_root(comm, "looking for the run", root.is_dir):
        raise DataError(f"{imagename}: no run to resume: there is no {root}")
    directory = RunDirectory.open(comm, imagename, break_lock=break_lock)
    try:
        on_root(comm, "looking for an earlier run", lambda: _restore_earlier(root))
        if on_root(comm, "looking for a state", lambda: _is_finished(root)):
            on_root(comm, "removing the state", lambda: _remove(directory, _kept_own_store(directory)))
            raise FinishedRunError(
                f"{imagename}: the run is finished and its state was not kept (--keep-state does): nothing to resume; "
                "start anew with --overwrite"
            )
    except BaseException:
        directory.close()
        raise
    return directory


def _is_finished(root: Path) -> bool:
    if commit.exists(root):
        return False
    try:
        status = read_status(root).status
    except DataError:  # a status is news, not state: a damaged one stops nobody
        return False
    return status is not None and status.phase == FINISHED_PHASE


def _kept_own_store(directory: RunDirectory) -> bool:
    """Whether the store in the directory, if there is one, is the run's own and not its input; no, where that can't be told."""
    try:
        text = directory.read_config()
        return text is not None and _makes_own_store(RunConfig.from_toml(text, CONFIG_NAME))
    except (DataError, UsageError):
        return False


def _makes_own_store(config: RunConfig) -> bool:
    return not any(path.endswith(SUFFIX) for path in config.selection.vis)


def config_of_run(comm: Comm, directory: RunDirectory, overrides: dict[str, Any], imagename: str) -> RunConfig:
    """The configuration kept by a run, with what may change on resume changed; collective. :func:`accept` keeps it."""
    text = on_root(comm, "reading the run's configuration", directory.read_config)
    if text is None:
        raise DataError(
            f"{imagename}: no run to resume: {directory.root} holds no configuration; the run was stopped before it began: "
            "start it again"
        )
    kept = RunConfig.from_toml(text, str(directory.root / "config.toml"))
    return with_absolute_paths(kept.replaced({"imagename": imagename}).resumed_with(overrides))


def accept(
    directory: RunDirectory, state: Checkpoint, now: Imaged, store: VisibilityStore, report: Reporter, *, found: bool
) -> None:
    """Inputs, mask and state are known to fit: from now on the configuration is the run's. A run that is refused before leaves
    all as it was. ``found``: whether the state was there before. Collective."""
    text, before = now.config.to_toml(), state.header["config"]

    def keep() -> bool:
        if directory.read_config() != text:
            directory.write_config(text)
        return bool(text != before)

    changed = on_root(state.comm, "keeping the configuration", keep)
    earlier = Imaged(RunConfig.from_toml(before, "the configuration in the manifest"), state.header["mask"]) if found else None
    report.event(IMAGING, lambda: imaged(now, earlier, store))
    if changed:  # after the event: a kill in between repeats it
        state.commit({"config": text})


def keep_until_accepted(directory: RunDirectory, config: RunConfig) -> None:
    """A job that stops in time before there is a state, while it ingests: the next one goes on with what it was asked for.
    For one process."""
    if not commit.exists(directory.root):
        directory.write_config(config.to_toml())


def clear_away(comm: Comm, directory: RunDirectory, state: Checkpoint, config: RunConfig) -> None:
    """After success: state and visibilities go, unless they are to be kept; collective."""
    state.close()
    comm.Barrier()
    if not config.output.keep_state:
        on_root(comm, "removing the state", lambda: _remove(directory, _makes_own_store(config)))


def _remove(directory: RunDirectory, own_store: bool) -> None:
    # The manifest first: a state without it is no state, a manifest without its state would be a damaged one.
    # The previous one before it: alone it would send a resumed run one commit back.
    names = [commit.MANIFEST_NAME + ".previous", commit.MANIFEST_NAME, commit.STATE_NAME]
    for name in names + ([STORE_NAME] if own_store else []):
        with naming(directory.root / name, "removing it"):
            directory.path(name).unlink(missing_ok=True)
