"""Strong and weak scaling on a cluster: one batch job for each number of ranks, and one that puts their results together.

    python jobs/scaling/submit.py [strong] [weak] --site site.toml --ranks 64 128 256 512 --output DIR [--channels 8192 128]

The jobs run one after the other, so that none disturbs another's file system and the first has simulated the data when the next
one starts; each has whole nodes to itself. The last writes DIR/strong_scaling-SCALE.json and .png, and the same for weak, from
the jobs that have ended well, and says in its log which have not. DIR must be on a file system that all nodes see. Scripts,
logs and the result of each job are in DIR too; what is measured, and how, is benchmarks/strong_scaling.py and weak_scaling.py.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radps_mpi.errors import EXIT_OK, RadpsError, StorageError, UsageError
from radps_mpi.slurm.script import Request, compiling, head, preparation, staging
from radps_mpi.slurm.site import PartitionConfig, Site, default_path, read_site
from radps_mpi.slurm.submission import submit
from radps_mpi.units import duration_s

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = {"strong": "strong_scaling", "weak": "weak_scaling"}
COLLECTING_BYTES = 1 << 30
COLLECTING_S = 600.0


class Parser(argparse.ArgumentParser):
    """One that reports as the program does."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see {self.prog} --help")


@dataclass(frozen=True)
class Job:
    """A batch job: its name, how its ranks are spread, and the commands behind the preparation."""

    name: str
    nodes: int
    ranks_per_node: int
    memory_bytes: int
    """0 for all of the nodes'."""
    time_s: float
    options: tuple[str, ...]
    commands: tuple[str, ...]


def arguments_of(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = Parser(prog="submit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kinds", nargs="*", metavar="strong|weak", help="which of the two [default: both]")
    p.add_argument("--site", type=Path, default=default_path(), help="site file, as of radps slurm [default: %(default)s]")
    p.add_argument("--partition", help="one of the site file's [default: its first]")
    p.add_argument("--ranks", type=int, nargs="+", required=True, help="numbers of ranks")
    p.add_argument("--ranks-per-node", type=int, help="at most [default: the partition's cores]")
    p.add_argument("--scale", choices=("toy", "small", "full"), default="full", help="of the benchmarks [default: full]")
    p.add_argument("--channels", type=int, nargs=2, metavar=("STRONG", "WEAK"), default=(0, 0),
                   help="channels of the strong cube, and of each weak rank [default: the scale's]")
    p.add_argument("--repeats", type=int, default=0, help="measured runs of each [default: the scale's]")
    p.add_argument("--time", help="limit of each job, as 2h [default: the partition's]")
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of scripts, data, logs and results")
    p.add_argument("--overwrite", action="store_true", help="measure again what has been measured into DIR")
    p.add_argument("--dry-run", action="store_true", help="write the scripts, submit nothing")
    arguments = p.parse_args(argv)
    for kind in arguments.kinds:
        if kind not in BENCHMARKS:
            raise UsageError(f"{kind!r} is neither strong nor weak")
    arguments.kinds = list(dict.fromkeys(arguments.kinds)) or list(BENCHMARKS)
    arguments.ranks = sorted(set(arguments.ranks))
    arguments.output = arguments.output.absolute()
    return arguments


# Jobs ----------------------------------------------------------------------------------------------------------------


def jobs_of(arguments: argparse.Namespace, partition: PartitionConfig) -> list[Job]:
    """All jobs, in the order in which they are to run."""
    measuring = [_measuring(arguments, partition, kind, ranks) for kind in arguments.kinds for ranks in arguments.ranks]
    return [*measuring, _collecting(arguments, partition)]


def _measuring(arguments: argparse.Namespace, partition: PartitionConfig, kind: str, ranks: int) -> Job:
    nodes = nodes_of(ranks, arguments.ranks_per_node or partition.cores_per_node, partition)
    name = f"{kind}-{ranks}"
    command = [
        "python", f"benchmarks/{BENCHMARKS[kind]}.py", "--scale", arguments.scale, "--ranks", str(ranks),
        "--channels", str(arguments.channels[kind == "weak"]), "--repeats", str(arguments.repeats),
        "--data", str(arguments.output / "data"), "--output", str(arguments.output / name),
    ]  # fmt: skip
    launch = '--launcher "${launch[*]@Q} -n {ranks}"'
    return Job(name, nodes, ranks // nodes, 0, _time_s(arguments, partition), ("--exclusive", "--no-requeue"),
               ("find_launcher", f"{shlex.join(command)} {launch}"))  # fmt: skip


def nodes_of(ranks: int, per_node: int, partition: PartitionConfig) -> int:
    """Nodes for so many ranks, the same number on each. UsageError where that can't be."""
    if ranks < 1 or not 1 <= per_node <= partition.cores_per_node:
        raise UsageError(f"{ranks} ranks, {per_node} per node: a node of {partition.name} has {partition.cores_per_node} cores")
    nodes = -(-ranks // per_node)
    if ranks % nodes:
        raise UsageError(f"{ranks} ranks can't be shared out evenly among {nodes} nodes of up to {per_node}")
    if nodes > partition.most_nodes:
        raise UsageError(f"{ranks} ranks take {nodes} nodes, more than the {partition.most_nodes} of {partition.name}")
    return nodes


def _time_s(arguments: argparse.Namespace, partition: PartitionConfig) -> float:
    longest_s = partition.pool.longest_s
    if not arguments.time and longest_s == float("inf"):
        raise UsageError(f"--time is missing: {partition.name} has no time limit")
    wanted_s = duration_s(arguments.time) if arguments.time else longest_s
    if not 60.0 <= wanted_s <= longest_s:
        raise UsageError(f"--time: {arguments.time!r} is not between a minute and {partition.name}'s limit")
    return wanted_s


def _collecting(arguments: argparse.Namespace, partition: PartitionConfig) -> Job:
    commands = ["status=0"]
    for kind in arguments.kinds:
        files = [str(result_of(arguments, kind, ranks)) for ranks in arguments.ranks]
        command = ["python", f"benchmarks/{BENCHMARKS[kind]}.py", "--scale", arguments.scale, "--output", str(arguments.output)]
        commands.append(f"{shlex.join([*command, '--collect', *files])} || status=$?")
    memory = min(COLLECTING_BYTES, partition.pool.memory_per_node_bytes)
    time_s = min(COLLECTING_S, partition.pool.longest_s)
    return Job("results", 1, 1, memory, time_s, ("--no-requeue",), (*commands, "exit $status"))


def result_of(arguments: argparse.Namespace, kind: str, ranks: int) -> Path:
    """Where a measuring job leaves its row."""
    return Path(arguments.output) / f"{kind}-{ranks}" / f"{BENCHMARKS[kind]}-{arguments.scale}.json"


def script_of(job: Job, site: Site, partition: PartitionConfig) -> str:
    """The whole script of a job."""
    request = Request(
        job.name, partition, site.common.account, job.nodes, job.ranks_per_node, 1, job.memory_bytes, job.time_s
    )
    lines = [
        "#!/usr/bin/env bash", f"# {job.name} of a scaling test, by jobs/scaling/submit.py", "#",
        *head(request, site, job.options), *preparation(site, REPOSITORY), *_copied(request, site), "", *job.commands,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _copied(request: Request, site: Site) -> list[str]:
    """What makes a job of many ranks start from copies, or with compiled kernels, as those of radps slurm do; results name the
    commit all the same."""
    checkout = shlex.quote(str(REPOSITORY))
    staged = staging(request, site)
    if not staged:
        return compiling(request, site)
    return [*staged, 'cd "$RADPS_ROOT"  # the copy, if it could be made',
            f"export GIT_DIR={checkout}/.git GIT_WORK_TREE={checkout}"]  # fmt: skip


# Writing and submitting ----------------------------------------------------------------------------------------------


def make_room(arguments: argparse.Namespace) -> None:
    """Remove results that would be taken for those of this test. UsageError if there are any and nobody said so."""
    results = [result_of(arguments, kind, ranks) for kind in arguments.kinds for ranks in arguments.ranks]
    old = [path for path in results if path.exists()]
    if old and not arguments.overwrite:
        raise UsageError(f"{old[0]} has been measured: choose another folder with --output, or measure again with --overwrite")
    for path in old:
        path.unlink()


def write(arguments: argparse.Namespace, jobs: Sequence[Job], site: Site, partition: PartitionConfig) -> list[Path]:
    """The scripts, one for each job."""
    paths = [arguments.output / f"{job.name}.sbatch" for job in jobs]
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        make_room(arguments)
        for path, job in zip(paths, jobs, strict=True):
            path.write_text(script_of(job, site, partition), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{arguments.output}: {error.strerror or error} while writing scripts") from error
    return paths


def submit_all(arguments: argparse.Namespace, jobs: Sequence[Job], paths: Sequence[Path]) -> None:
    """Hand the scripts to sbatch, each to be started when the one before has ended, well or not."""
    before = ""
    for job, path in zip(jobs, paths, strict=True):
        after = [f"--dependency=afterany:{before}"] if before else []
        before = submit(path, after, arguments.output)
        print(f"{job.name}: {job.nodes * job.ranks_per_node} ranks on {job.nodes} nodes, job {before}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Submit everything; returns the exit status."""
    try:
        arguments = arguments_of(argv)
        site = read_site(arguments.site)
        partition = site.partition(arguments.partition) if arguments.partition else site.partitions[0]
        jobs = jobs_of(arguments, partition)
        paths = write(arguments, jobs, site, partition)
        if not arguments.dry_run:
            submit_all(arguments, jobs, paths)
    except RadpsError as error:
        print(f"submit.py: {error.label}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    for kind in arguments.kinds:
        print(f"results: {arguments.output / BENCHMARKS[kind]}-{arguments.scale}.json and .png")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
