"""What a site's Slurm is like: partitions, account, modules, options, margins; read from one TOML file and checked.

Whatever gets into a script is checked here: values of #SBATCH lines can't leave them, and set-up lines are shell that ends.
"""

from __future__ import annotations

import math
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from radps_mpi import config_values as values
from radps_mpi import units
from radps_mpi.config import Section, build_section
from radps_mpi.config_values import ParameterError, Strings
from radps_mpi.errors import UsageError
from radps_mpi.planning.allocation import Margins, Pool
from radps_mpi.user_files import read_user_file, user_file

SITE_VERSION = 1
"""``site_version`` of a file; files of another version are refused."""

SET_BY_THE_PLAN = frozenset(
    {"job-name", "partition", "account", "nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "mem", "mem-per-cpu",
     "mem-per-gpu", "time", "requeue", "no-requeue", "open-mode", "output", "error", "signal", "array", "wrap"}
)
"""Options of sbatch that a script has already, or that would make another kind of job of it."""

_WORD = re.compile(r"[!-~]+")
_OPTION = re.compile(r"--([a-z][a-z-]*)(=[!-~]+)?")
_LEAVES_A_LINE = set("\"'\\#")
_MINUTE_S = 60.0


def check_word(text: str) -> str:
    """A value that stays one word of an #SBATCH line. ParameterError if Slurm would read it otherwise."""
    if not _WORD.fullmatch(text) or _LEAVES_A_LINE & set(text):
        raise ParameterError(f"{text!r} can't stand in an #SBATCH line: no spaces, quotes, backslashes, '#' or other letters "
                             "than ASCII's")
    return text


def _check_name(text: str) -> str:
    return check_word(text) if text else text


def _check_options(options: Strings) -> Strings:
    """Options of sbatch, each as ``--name`` or ``--name=value``."""
    for option in options:
        found = _OPTION.fullmatch(option)
        if found is None:
            raise ParameterError(f"{option!r} is not an option of sbatch in one word: write --name or --name=value")
        check_word(option)
        if found[1] in SET_BY_THE_PLAN:
            raise ParameterError(f"{option!r}: --{found[1]} is set for each job: leave it out")
    return options


def _check_arguments(words: Strings) -> Strings:
    """Words for a launcher; they are quoted, so that they may hold anything that can be seen."""
    for word in words:
        if not word or not word.isprintable():
            raise ParameterError(f"{word!r} is not a word for a command line")
    return words


def _as_lines(value: Any) -> Any:
    """One text or several -> its lines, as they are."""
    texts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ParameterError(f"{value!r} is not a text or a list of texts")
    return tuple(line for text in texts for line in text.splitlines())


def _check_setup(lines: Strings) -> Strings:
    """Lines of shell that are complete in themselves: an open quote would swallow the rest of the script."""
    for line in lines:
        if not line.replace("\t", " ").isprintable():
            raise ParameterError(f"{line!r} has control characters")
    try:
        checked = subprocess.run(["bash", "-n"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=20,
                                 check=False)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ParameterError(f"bash, which jobs run under, can't read them: {error}") from None
    if checked.stderr:
        raise ParameterError(f"bash can't read these lines: {checked.stderr.splitlines()[0]}")
    return lines


def _check_duration(text: str) -> str:
    if text and units.duration_s(text) < _MINUTE_S:
        raise ParameterError(f"{text!r} is shorter than a minute, which is what Slurm counts in")
    return text


Words = Annotated[Strings, BeforeValidator(values.as_strings), AfterValidator(_check_arguments)]
Options = Annotated[Strings, BeforeValidator(values.as_strings), AfterValidator(_check_options)]
Line = Annotated[str, StringConstraints(strip_whitespace=False)]
Lines = Annotated[tuple[Line, ...], BeforeValidator(_as_lines), AfterValidator(_check_setup)]
Name = Annotated[str, AfterValidator(_check_name)]
Duration = Annotated[str, AfterValidator(_check_duration)]
Size = Annotated[str, AfterValidator(values.check_size)]


class PartitionConfig(Section):
    """Nodes of one kind: a [[partition]] of the file. Of several, the first in which a job can end in one go is taken."""

    name: Annotated[Name, Field(min_length=1)] = Field(description="what Slurm calls it")
    cores_per_node: int = Field(description="cores that jobs may use of a node", ge=1, le=1 << 16)
    memory_per_node: Annotated[Size, Field(min_length=1)] = Field(
        description="memory that jobs may ask for of a node (RealMemory of scontrol show node), as 250GB")
    most_nodes: int = Field(16, description="nodes of a job at most", ge=1, le=1 << 20)
    time_limit: Duration = Field("", description="longest time of a job, as 24h; '' for any")
    sbatch_options: Options = Field((), description="more options of its jobs, as --qos=long or --constraint=icelake")

    @property
    def pool(self) -> Pool:
        """The same in plain numbers."""
        longest_s = units.duration_s(self.time_limit) if self.time_limit else math.inf
        memory_bytes = units.size_bytes(self.memory_per_node)
        return Pool(self.name, self.cores_per_node, memory_bytes, self.most_nodes, longest_s)


class SiteConfig(Section):
    """What holds for all jobs of a site."""

    account: Name = Field("", description="what jobs are charged to; '' is the user's default")
    setup: Lines = Field((), description="lines of shell before anything is run, as module load openmpi hdf5/parallel")
    launcher: Literal["auto", "srun", "mpirun"] = Field(
        "auto", description="what starts the ranks; auto is srun where Slurm has pmix, else mpirun")
    srun_options: Words = Field((), description="options of srun, as --mpi=pmix_v4")
    mpirun_options: Words = Field((), description="options of mpirun")
    sbatch_options: Options = Field((), description="more options of all jobs, as --exclusive")
    stage_ranks: int = Field(
        0, description="jobs of at least so many ranks start from copies on their nodes' own disks (jobs/stage.sh); 0: none",
        ge=0)
    most_attempts: int = Field(20, description="attempts of a job: how often it may be queued again, and one", ge=1, le=1000)
    stop_before: Duration = Field("5min", description="how long before its limit a job is told to stop", min_length=1)
    least_time: Duration = Field("10min", description="shortest time asked for: kernels may have to be compiled", min_length=1)
    memory_margin: float = Field(1.25, description="memory asked for, over the plan's", ge=1.0, le=10.0)
    time_margin: float = Field(1.5, description="time asked for, over the plan's", ge=1.0, le=100.0)
    log: Annotated[Name, Field(min_length=1)] = Field(
        "%x-%j.log", description="log of all attempts, in the folder of submission; as sbatch's --output")

    @property
    def margins(self) -> Margins:
        """The same in plain numbers."""
        stop_s, least_s = units.duration_s(self.stop_before), units.duration_s(self.least_time)
        return Margins(self.memory_margin, self.time_margin, stop_s, least_s)


@dataclass(frozen=True, slots=True)
class Site:
    """A site's settings, and its partitions in the order of the file."""

    common: SiteConfig
    partitions: tuple[PartitionConfig, ...]

    def partition(self, name: str) -> PartitionConfig:
        """The partition of that name. UsageError, with the nearest one, if there is none."""
        for partition in self.partitions:
            if partition.name == name:
                return partition
        known = [partition.name for partition in self.partitions]
        raise UsageError(f"no partition {name!r} in the site file{units.did_you_mean(name, known)}: one of {', '.join(known)}")


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/radps/site.toml``, by default in ``~/.config``."""
    return user_file("site.toml")


def read_site(path: Path) -> Site:
    """The settings of a file. UsageError naming file and key if it can't be read or used."""
    return site_of_toml(read_user_file(path, "site file"), str(path))


def site_of_toml(text: str, source: str) -> Site:
    """Parse and check a site file's text; ``source`` names it in messages.

    Raises
    ------
    UsageError
        If it isn't TOML, has another version, no partition, or a key or value that can't be used.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not valid TOML: {error}") from None
    version = found.pop("site_version", SITE_VERSION)
    if version != SITE_VERSION:
        raise UsageError(f"{source}: site_version {version} is not known; this radps reads version {SITE_VERSION}")
    tables = found.pop("partition", [])
    tables = [tables] if isinstance(tables, dict) else tables
    common: SiteConfig = _section(SiteConfig, found, source, ("partition",))
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{source}: no partition: describe at least one under [[partition]]")
    partitions = tuple(_partition(table, f"{source}: partition {number}", common) for number, table in enumerate(tables, 1))
    names = [partition.name for partition in partitions]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{source}: partition {twice[0]!r} is described twice")
    return Site(common, partitions)


def _partition(table: Mapping[str, Any], source: str, common: SiteConfig) -> PartitionConfig:
    made: PartitionConfig = _section(PartitionConfig, table, source, ())
    shortest_s = units.duration_s(common.stop_before) + _MINUTE_S
    if made.pool.longest_s < shortest_s:
        raise UsageError(f"{source}: time_limit: {made.time_limit!r} leaves no time to work before stop_before, "
                         f"{common.stop_before!r}")
    return made


def _section(kind: type[Section], found: Mapping[str, Any], source: str, others: tuple[str, ...]) -> Any:
    known = (*kind.model_fields, *others)
    for name in found:
        if name not in kind.model_fields:
            raise UsageError(f"{source}: unknown key {name!r}{units.did_you_mean(name, known)}")
    return build_section(kind, found, {name: f"{source}: {name}" for name in kind.model_fields})
