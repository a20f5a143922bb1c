"""The command line: arguments -> a command, ready to run.

The options of ``radps image`` are made from the fields of :mod:`radps_mpi.config`, so that names, defaults, ranges and
help have one source. argparse rather than typer: a thousand ranks start at once, and what each imports comes from one
file system; typer brings click and rich, argparse comes with Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from radps_mpi import __version__
from radps_mpi.cli_parser import Parser
from radps_mpi.errors import (
    EXIT_DATA,
    EXIT_OK,
    DataError,
    FinishedRunError,
    OutOfTimeError,
    StorageError,
    UsageError,
    printable,
)
from radps_mpi.streams import say
from radps_mpi.units import did_you_mean, format_duration, format_flux_density

if TYPE_CHECKING:
    from radps_mpi.config import RunConfig
    from radps_mpi.io.run_status import StatusReport
    from radps_mpi.parallel.types import Comm


Ranks = Literal["first", "all"]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and on which ranks: "all" run it together and are given the communicator, or the "first" alone runs
    it, given None, without starting MPI."""

    run: Callable[[Any], int]
    ranks: Ranks
    stops_in_time: bool = False
    """It commits and leaves when a signal asks it to."""


def parse(argv: Sequence[str]) -> Command:
    """Turn the arguments behind the program's name into a command; nothing but the arguments is looked at.

    Raises
    ------
    UsageError
        For an unknown command or option (with the nearest that exists) and for missing values.
    """
    first, rest = (argv[0], list(argv[1:])) if argv else ("", [])
    if first in ("-h", "--help", "help"):
        return _showing(_overview())
    if first in ("-V", "--version"):
        return _showing(f"radps {__version__}")
    if first not in _COMMANDS:
        given = f"unknown command {first!r}{did_you_mean(first, _COMMANDS)}" if first else "no command"
        raise UsageError(f"{given}: one of {', '.join(_COMMANDS)}, or --help")
    entry = _COMMANDS[first]
    parser = Parser(first, entry.usage, entry.description or entry.summary)
    entry.arguments(parser)
    if asks_for_help(rest):
        return _showing(parser.format_help().rstrip())
    values = parser.parse(rest)
    stops_in_time = entry.stops_in_time and not values.get("dry_run")  # which has nothing to commit: a signal ends it
    return Command(partial(entry.run, values), entry.ranks, stops_in_time)


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Is -h or --help among the arguments before '--'?"""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "-h" in options or "--help" in options


def _showing(text: str) -> Command:
    def show(_: None) -> int:
        say(text)
        return EXIT_OK

    return Command(show, "first")


def _overview() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {entry.summary}" for name, entry in _COMMANDS.items()]
    return "\n".join(["usage: radps COMMAND ...", "       mpirun -n RANKS radps COMMAND ...", "",
                      "Spectral-line cubes and continuum images from radio-interferometer visibilities.", "",
                      *lines, "", "radps COMMAND --help explains a command; radps --version prints the version."])


# What the commands take ----------------------------------------------------------------------------------------------

def _image_arguments(parser: Parser) -> None:
    parser.positional("inputs", nargs="*", metavar="INPUT", help="MeasurementSets, or a store made by radps ingest")
    parser.own("--config", metavar="FILE", help="parameters in TOML, by the same names; flags win over the file")
    parser.own("--dry-run", action="store_true", help="print the resolved parameters and the plan, image nothing")
    _break_lock_option(parser)
    _all_parameters(parser)


def _ingest_arguments(parser: Parser) -> None:
    from radps_mpi.config import ParallelConfig, SelectionConfig, section_title

    parser.positional("inputs", nargs="+", metavar="INPUT", help="MeasurementSets")
    parser.own("-o", "--output", metavar="FILE", required=True, help="store to write, as obs.vis.h5")
    parser.own("--overwrite", action="store_true", help="replace an earlier store of that name")
    per_job = ParallelConfig.model_fields
    parser.parameters(section_title(ParallelConfig), {n: per_job[n] for n in ("max_time", "stall_timeout")})
    fields = SelectionConfig.model_fields
    parser.parameters(section_title(SelectionConfig), {n: f for n, f in fields.items() if n != "vis"})


def _simulate_arguments(parser: Parser) -> None:
    from radps_mpi.config import section_title
    from radps_mpi.simulation.config import SECTIONS

    parser.positional("sky", nargs="?", metavar="SKY", help="components in TOML; without it there is noise alone")
    parser.own("-o", "--output", metavar="FILE", help="visibility store to write, as sim.vis.h5")
    parser.own("--ms", metavar="PATH", help="MeasurementSet to write, by one process, from the store")
    for kind in SECTIONS:
        parser.parameters(section_title(kind), kind.model_fields)


def _resume_arguments(parser: Parser) -> None:
    from radps_mpi.config import CHANGEABLE_ON_RESUME, parameters

    _imagename_argument(parser)
    _break_lock_option(parser)
    changeable = {n: f for n, f in parameters().items() if n in CHANGEABLE_ON_RESUME - {"overwrite"}}
    these = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(changeable))
    parser.refuse(parameters().keys() - changeable.keys(), f"can't change on resume; these can: {these}")
    parser.parameters("what may change (the run's own values are kept where nothing is given)", changeable)


def _break_lock_option(parser: Parser) -> None:
    parser.own("--break-lock", action="store_true", help="take over from a process on another host that is dead")


def _imagename_argument(parser: Parser) -> None:
    parser.positional("imagename", metavar="IMAGENAME", help="prefix of the run's products, as runs/ngc5921")


def _plan_arguments(parser: Parser) -> None:
    _planned_arguments(parser)
    parser.own("--json", action="store_true", help="print the plan for programs")
    for name, metavar, text in _IMAGINED_OPTIONS:
        parser.own(name, metavar=metavar, help=text)
    parser.own("--calibrate", action="store_true", help="measure this machine with the ranks of this job, in about a minute, "
               "and keep that as the machine file; scratch data go to the present folder")
    parser.own("--cores-per-node", type=int, metavar="N", help="instead of the machine file's or this machine's")
    parser.own("--memory-per-node", metavar="SIZE", help="the same, as 256GB")
    parser.own("--max-nodes", type=int, metavar="N", help="nodes of the cost curve [default: 16]")
    parser.own("--scaling", type=int, metavar="RANKS", help="predict strong and weak scaling to so many ranks, and what other "
               "ways to cut the work would give")
    parser.own("--plot", metavar="FILE", help="draw that, by default to 4096 ranks")
    _all_parameters(parser)


def _planned_arguments(parser: Parser) -> None:
    """What a plan is made from, whatever is done with it."""
    parser.positional("inputs", nargs="*", metavar="INPUT", help="MeasurementSets, or a store made by radps ingest")
    parser.own("--config", metavar="FILE", help="parameters in TOML, by the same names; flags win over the file")
    parser.own("--measured", action="append", metavar="DIR", help="run directories whose measured times correct the plan; that "
               "of --imagename is found by itself")
    parser.own("--line-channels", type=int, metavar="N", help="channels that CLEAN works on; all where it isn't known")
    parser.own("--cycles", type=int, metavar="N", help="major cycles behind the dirty image; a guess where it isn't known")
    parser.own("--machine", metavar="FILE", help="machine file [default: $XDG_CONFIG_HOME/radps/machine.toml, else constants "
               "that are built in]")


def _all_parameters(parser: Parser) -> None:
    from radps_mpi.config import section_title, sections

    for kind in sections().values():
        parser.parameters(section_title(kind), {n: f for n, f in kind.model_fields.items() if n != "vis"})


def _slurm_arguments(parser: Parser) -> None:
    _planned_arguments(parser)
    parser.own("--site", metavar="FILE", help="the site's settings, as jobs/site.toml "
               "[default: $XDG_CONFIG_HOME/radps/site.toml]")
    parser.own("--partition", metavar="NAME", help="of the site file [default: the first in which the job ends in one go]")
    parser.own("--account", metavar="NAME", help="what the job is charged to [default: the site file's]")
    parser.own("--max-nodes", type=int, metavar="N", help="nodes at most [default: the partition's]")
    parser.own("-o", "--output", metavar="FILE", help="script to write [default: IMAGENAME.sbatch]")
    parser.own("--overwrite-script", action="store_true", help="replace an earlier script (--overwrite is for products, as of "
               "radps image)")
    parser.own("--submit", action="store_true", help="hand the script to sbatch")
    _all_parameters(parser)


_IMAGINED_OPTIONS = (
    ("--channels", "N", "without inputs: channels of an observation that is only imagined"),
    ("--rows", "N", "of it: baselines x integrations"),
    ("--polarisations", "N", "of it: 1, 2 or 4 correlations [default: 2]"),
    ("--first-channel", "FREQUENCY", "of it [default: 230.538GHz]"),
    ("--channel-width", "FREQUENCY", "of it [default: 244.140625kHz]"),
    ("--max-baseline", "LENGTH", "of it [default: 3km]"),
    ("--telescope", "ALMA|VLA", "of it: whose dishes [default: ALMA]"),
)


def _no_arguments(_: Parser) -> None:
    pass


# What the commands do ------------------------------------------------------------------------------------------------

def _image(given: dict[str, Any], comm: Comm) -> int:
    config = resolve(given, comm)
    inputs = list(config.selection.vis)
    # Behind the checks: kernels and file formats take a second to load, which a mistyped option need not wait for.
    from radps_mpi import pipeline

    if not given.get("dry_run"):
        pipeline.make_cube(config, inputs, comm, **_lock_override(given))
        return EXIT_OK
    plan = pipeline.dry_run(config, inputs, comm)
    if comm.rank == 0:
        say(config.to_toml())
        say(plan.text)
    if plan.lacking:
        raise StorageError(plan.lacking)
    return EXIT_OK


def resolve(given: Mapping[str, Any], comm: Comm) -> RunConfig:
    """The configuration: parameters of the file named by ``given["config"]``, under those of the flags. Collective."""
    from radps_mpi.config import RunConfig
    from radps_mpi.given_parameters import gather_parameters

    flat, labels = gather_parameters(given, comm)
    config = RunConfig.from_flat(flat, labels)
    if not config.selection.vis:
        raise UsageError("no inputs: name MeasurementSets behind the command, as in radps image obs.ms ...")
    return config


def _lock_override(given: dict[str, Any]) -> dict[str, bool]:
    return {"break_lock": True} if given.pop("break_lock", False) else {}


def _ingest(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi import alarm
    from radps_mpi.config import ParallelConfig, SelectionConfig, build_section
    from radps_mpi.io.ingest import ingest, report_lines
    from radps_mpi.io.ingest_lock import writing_alone
    from radps_mpi.io.selection import selection_per_source
    from radps_mpi.io.visibility_store import forget_finished_ingest, refuse_output
    from radps_mpi.parallel import on_root
    from radps_mpi.parallel.stints import WallTime
    from radps_mpi.planning.wall_time import wall_time_left_s

    sources, path, overwrite = given.pop("inputs"), given.pop("output"), given.pop("overwrite", False)
    on_root(comm, f"looking at {path}", lambda: refuse_output(path, overwrite=True))  # before a lock is made beside it
    labels = {name: "--" + name.replace("_", "-") for name in given}
    per_job: dict[str, Any] = {name: given.pop(name) for name in ("max_time", "stall_timeout") if name in given}
    selection = build_section(SelectionConfig, {**given, "vis": sources}, labels)
    job = build_section(ParallelConfig, per_job, labels)
    with writing_alone(comm, Path(path)), alarm.listening(job.stall_timeout_s):
        on_root(comm, f"looking at {path}", lambda: forget_finished_ingest(Path(path)))
        on_root(comm, f"looking at {path}", lambda: refuse_output(path, overwrite=overwrite))
        limit = WallTime(comm, wall_time_left_s(job.max_time_s))
        try:
            observations = ingest(comm, sources, selection_per_source(selection, len(sources)), path, limit=limit)
        except OutOfTimeError as stop:
            raise OutOfTimeError(f"{stop}; the same command goes on") from stop
    if comm.rank == 0:
        say("\n".join(printable(line) for observation in observations for line in report_lines(observation)))
    return EXIT_OK


def _simulate(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi.io.simulation_outputs import simulate
    from radps_mpi.simulation.config import SimulationConfig

    sky, output, ms = (given.pop(name, None) for name in ("sky", "output", "ms"))
    if output is None and ms is None:
        raise UsageError("nothing to write: name a store with -o/--output, a MeasurementSet with --ms, or both")
    config = SimulationConfig.from_flat(given, {name: "--" + name.replace("_", "-") for name in given})
    lines = simulate(comm, config, sky, output, ms)
    if comm.rank == 0:
        say("\n".join(lines))
    return EXIT_OK


def _resume(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi import pipeline

    imagename, override = given.pop("imagename"), _lock_override(given)
    try:
        pipeline.resume(imagename, comm, given, **override)
    except FinishedRunError:  # to ask again for what is done is no error: a batch job may have been queued once too often
        if given:
            raise
        if comm.rank == 0:
            say(f"{printable(imagename)}: finished already, nothing to resume")
    return EXIT_OK


def _status(given: dict[str, Any], _: None) -> int:
    from radps_mpi.io.run_directory import run_directory_of
    from radps_mpi.io.run_status import read_status

    imagename = given["imagename"]
    lines = format_status(imagename, read_status(run_directory_of(imagename))).splitlines()
    say("\n".join(map(printable, lines)))
    return EXIT_OK


def format_status(imagename: str, report: StatusReport) -> str:
    """What people want to know of a run, in a few lines."""
    running = {True: "running", False: "not running", None: "running, as far as this host can tell"}[report.running]
    holder = f" ({report.holder})" if report.holder and report.running is not False else ""
    lines = [f"{imagename}: {running}{holder}"]
    status = report.status
    if status is None:
        return "\n".join([*lines, "  nothing done yet"])
    eta = f", {format_duration(status.eta_s)} to go" if status.eta_s is not None else ""
    lines.append(f"  {status.phase}: {status.done} of {status.total}, major cycle {status.cycle}{eta}")
    if status.peak_jy is not None:
        lines.append(f"  peak residual {format_flux_density(status.peak_jy)}/beam, {status.iterations} iterations")
    lines.append(f"  {status.ranks} ranks, {status.updated}")
    return "\n".join([*lines, f"  {status.message}"] if status.message else lines)


def _verify(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi.io.run_directory import run_directory_of
    from radps_mpi.io.store_verification import stores_of_run, verify_store
    from radps_mpi.io.verification import verify
    from radps_mpi.parallel import on_root

    name = given["imagename"]
    findings, stores = [], [name]
    if not name.endswith(".vis.h5"):
        root = run_directory_of(name)
        on_root(comm, f"looking into {root}", lambda: _require_state(name, root))
        findings = verify(comm, root)
        stores = on_root(comm, f"looking into {root}", lambda: stores_of_run(root))
    findings += [finding for path in stores for finding in verify_store(comm, path)]
    damages = sum(finding.damage for finding in findings)
    if comm.rank == 0:
        checked = ", ".join(dict.fromkeys([name, *stores]))
        verdict = f"damage in {damages} place{'s' * (damages > 1)}" if damages else "no damage"
        say("\n".join([*(printable(str(finding)) for finding in findings), f"{checked}: {verdict}"]))
    return EXIT_DATA if damages else EXIT_OK


def _require_state(imagename: str, root: Path) -> None:
    from radps_mpi.io.commit import exists

    if not root.is_dir():
        raise DataError(f"{imagename}: no such run: {root} is not there")
    if not exists(root):
        raise DataError(f"{imagename}: no state to verify: the run is finished and its state was not kept, or had not begun")


def _hash(given: dict[str, Any], _: None) -> int:
    from radps_mpi.config import PRODUCTS
    from radps_mpi.io.product_hash import hash_product

    imagename = given["imagename"]
    paths = [f"{imagename}.{product}.fits" for product in (*PRODUCTS, "image.pbcor")]
    found = [path for path in paths if os.path.exists(path)]
    if not found:
        raise DataError(f"{imagename}: no products, such as {paths[0]}")
    for path in found:
        say(hash_product(path).line)
    return EXIT_OK


def _doctor(_: dict[str, Any], comm: Comm) -> int:
    from radps_mpi import doctor
    from radps_mpi.parallel import on_root

    findings = doctor.diagnose(comm)
    return int(on_root(comm, "reporting", lambda: doctor.report(findings)))


def _plan(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi import plan_command

    return plan_command.run(given, comm)


def _slurm(given: dict[str, Any], comm: Comm) -> int:
    from radps_mpi import slurm_command

    return slurm_command.run(given, comm)


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: its line in the overview, its usage, its arguments, and the function that does it."""

    summary: str
    usage: str
    arguments: Callable[[Parser], None]
    run: Callable[[dict[str, Any], Any], int]
    ranks: Ranks
    description: str = ""
    stops_in_time: bool = False


_COMMANDS = {
    "image": Entry(
        "make an image cube or a continuum image", "INPUT ... --imagename NAME --imsize N --cell ANGLE [options]",
        _image_arguments, _image, "all",
        "Image MeasurementSets. Names are tclean's; quantities carry their units. Values that start with '-' are fine "
        "if a digit follows; an option of several values takes them one after another; selections take one value for "
        "all inputs or one for each.", stops_in_time=True),
    "ingest": Entry("turn MeasurementSets into a channel-major visibility store", "INPUT ... -o FILE [options]",
                    _ingest_arguments, _ingest, "all", stops_in_time=True),
    "resume": Entry("continue from the last committed major cycle, on any number of ranks", "IMAGENAME [options]",
                    _resume_arguments, _resume, "all", stops_in_time=True),
    "status": Entry("how far a run is", "IMAGENAME", _imagename_argument, _status, "first"),
    "hash": Entry("one line per product: hash of the pixels, shape, name", "IMAGENAME", _imagename_argument, _hash,
                  "first"),
    "verify": Entry("check the checksums of state and store", "IMAGENAME", _imagename_argument, _verify, "all"),
    "doctor": Entry("what this machine offers, and what is wrong with it", "", _no_arguments, _doctor, "all"),
    "plan": Entry(
        "what a run will take, and how to spread it over ranks and nodes",
        "[INPUT ...] [--calibrate] [--channels N --rows N] [options of radps image]", _plan_arguments, _plan, "all",
        "Predict time, memory and disk from metadata alone, for the parameters of radps image; cell and imsize are proposed "
        "where they are left out. Without inputs, --channels and --rows stand for an observation. Runs that are finished "
        "correct the next plan of their name."),
    "slurm": Entry(
        "write, and submit, the batch script of a run",
        "INPUT ... --imagename NAME --site FILE [--submit] [options of radps image]", _slurm_arguments, _slurm, "all",
        "Plan a run as radps plan does, from metadata alone, and write a script for Slurm that asks for what the plan says: "
        "nodes, ranks, threads, memory and time, with the site's margins and within its limits. The job makes the image; it "
        "is told to stop before its time is up, is queued again when it was stopped or killed, and goes on from its last "
        "commit. docs/clusters.md describes the site file."),
    "simulate": Entry(
        "make visibilities of a known sky", "[SKY] -o FILE [--ms PATH] [options]", _simulate_arguments, _simulate, "all",
        "Predict the visibilities of points, gaussians and rotating discs by direct summation, with noise, flags and NaNs "
        "that don't depend on the number of ranks. docs/simulation.md describes the sky file."),
}
