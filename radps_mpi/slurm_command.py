"""What ``radps slurm`` does with its options: plan a run, write its batch script, submit it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from radps_mpi import __version__
from radps_mpi.config import parameters
from radps_mpi.errors import EXIT_OK, UsageError, printable
from radps_mpi.given_parameters import gather_parameters
from radps_mpi.io import commit
from radps_mpi.io.durable import naming, replace_file
from radps_mpi.io.run_status import SUFFIX as RUN_SUFFIX
from radps_mpi.journey.plan import Plan, make_plan
from radps_mpi.journey.plan_report import spread, subject
from radps_mpi.journey.products import product_path
from radps_mpi.parallel import on_root
from radps_mpi.parallel.types import Comm
from radps_mpi.plan_command import machine_of, request_of
from radps_mpi.planning.allocation import Allocation, Pool, allocate
from radps_mpi.planning.resources import human_bytes
from radps_mpi.slurm.script import Request, image_arguments, job_name_of, memory_mib, run_script
from radps_mpi.slurm.site import Site, check_word, default_path, read_site
from radps_mpi.slurm.submission import submit
from radps_mpi.units import format_duration


@dataclass(frozen=True, slots=True)
class Script:
    """A script to be written."""

    path: Path
    text: str
    said: tuple[str, ...]
    """What is told of it."""
    log: str


def run(given: Mapping[str, Any], comm: Comm) -> int:
    """Carry out the command; collective, rank 0 writes. Returns the exit status."""
    if given.get("submit") and comm.size > 1:
        raise UsageError("--submit is for one process: leave the launcher out")
    site = on_root(comm, "reading the site file", lambda: _site(given))
    machine, source = on_root(comm, "reading the machine file", lambda: machine_of(given))
    flat, labels = gather_parameters(given, comm)
    _require(flat)
    pools = _pools(given, site)
    node = replace(  # no partition may have such nodes; what fits into which is looked at when one is chosen
        machine, cores_per_node=max(pool.cores_per_node for pool in pools),
        memory_per_node_bytes=max(pool.memory_per_node_bytes for pool in pools),
    )
    plan = make_plan(comm, flat, labels, request_of(given), node)
    script = on_root(comm, "planning the job", lambda: _script(given, flat, site, pools, plan, source))
    on_root(comm, f"writing {script.path}", lambda: _write(script, replaces=bool(given.get("overwrite_script"))))
    job = on_root(comm, "submitting the job", lambda: submit(script.path)) if given.get("submit") else ""
    if comm.rank == 0:
        print("\n".join(map(printable, script.said)))
        by_hand = f"sbatch {shlex.quote(str(script.path))} submits it"
        print(printable(f"submitted as job {job}, log {script.log.replace('%j', job)}" if job else by_hand))
    return EXIT_OK


def _site(given: Mapping[str, Any]) -> Site:
    if "site" not in given and not default_path().exists():
        raise UsageError(f"no site file: name one with --site, or keep it as {default_path()}; jobs/site.toml is an example")
    return read_site(Path(given["site"]) if "site" in given else default_path())


def _require(flat: Mapping[str, Any]) -> None:
    if not flat.get("vis"):
        raise UsageError("no inputs: name MeasurementSets or a store behind the command, as in radps slurm obs.ms ...")
    if "imagename" not in flat:
        raise UsageError(f"--imagename is missing: {parameters()['imagename'].description}")


def _pools(given: Mapping[str, Any], site: Site) -> list[Pool]:
    """The partitions that the job may go to, with no more nodes than the user wants."""
    chosen = [site.partition(given["partition"])] if "partition" in given else site.partitions
    most = request_of(given).most_nodes if "max_nodes" in given else 1 << 30
    return [replace(p.pool, most_nodes=min(p.pool.most_nodes, most)) for p in chosen]


# The job -------------------------------------------------------------------------------------------------------------


def _script(
    given: Mapping[str, Any], flat: Mapping[str, Any], site: Site, pools: list[Pool], plan: Plan, source: str
) -> Script:
    imagename, log = plan.config.output.imagename, site.common.log
    notes = _notes(plan)
    asked = _allocate(flat, site, pools, plan)
    layout = asked.prediction.layout
    image = plan.config.image
    request = Request(
        imagename, site.partition(asked.pool.name), _account(given, site), layout.nodes, layout.ranks_per_node, layout.threads,
        asked.memory_per_node_bytes, asked.time_s, (f"--precision={image.precision}", f"--epsilon={image.epsilon!r}"),
    )  # fmt: skip
    chosen: dict[str, Any] = {**plan.proposed, **given}
    if layout.threads > 1 and "threads" not in flat:
        chosen["threads"] = layout.threads
    names = ["config", *(name for name in parameters() if name != "vis")]
    arguments = image_arguments(chosen, given.get("inputs") or [], names)
    summary = _summary(asked, site)
    facts = [f"{imagename}, by radps slurm {__version__}: submit it with sbatch, change what you like.", "", *subject(plan),
             f"machine: {source}", *summary, *notes]  # fmt: skip
    path = Path(given.get("output") or f"{imagename}.sbatch")
    name = log.replace("%x", job_name_of(imagename))
    return Script(path, run_script(request, site, facts, imagename, arguments, Path.cwd()), (*summary, *notes), name)


def _allocate(flat: Mapping[str, Any], site: Site, pools: list[Pool], plan: Plan) -> Allocation:
    per_job = plan.config.parallel
    if per_job.max_time_s is not None:  # the run stops by itself then
        longest_s = 60.0 + per_job.max_time_s + site.common.margins.stop_before_s
        pools = [replace(pool, longest_s=min(pool.longest_s, longest_s)) for pool in pools]
    return allocate(
        plan.work, plan.machine, pools, site.common.margins, plan.corrections,
        threads=per_job.threads if "threads" in flat else 0,
    )


def _account(given: Mapping[str, Any], site: Site) -> str:
    try:
        return check_word(given["account"]) if "account" in given else site.common.account
    except UsageError as error:
        raise UsageError(f"--account: {error}") from None


def _notes(plan: Plan) -> list[str]:
    """What the user should know before the job runs. UsageError if it would not do what is asked, perhaps after days in the
    queue."""
    imagename, output = plan.config.output.imagename, plan.config.output
    root = Path(imagename + RUN_SUFFIX)
    if not commit.exists(root):
        for path in (product_path(imagename, product) for product in output.products):
            if os.path.exists(path) and not output.overwrite:
                raise UsageError(f"{path} exists: choose another imagename, or replace it with --overwrite")
        return list(plan.notes)
    there = f"an unfinished run of {imagename} is there"
    if output.overwrite:
        raise UsageError(f"--overwrite: {there}, which a job would go on with: finish it with radps resume, or remove {root}")
    return [f"warning: {there}: the job goes on with it, under its own parameters", *plan.notes]


def _summary(asked: Allocation, site: Site) -> list[str]:
    p, margins = asked.prediction, site.common.margins
    memory = f"{memory_mib(asked.memory_per_node_bytes)} MiB per node"
    lines = [
        f"planned: {spread(p.layout)}: {format_duration(p.seconds)}, {human_bytes(p.memory.peak_bytes)} per rank",
        f"asked for, of {asked.pool.name}: {memory} (margin {margins.memory:g}), {format_duration(asked.time_s)} (margin "
        f"{margins.time:g}, and {format_duration(margins.stop_before_s)} to stop in)",
    ]  # fmt: skip
    if asked.jobs > 1:
        lines.append(f"longer than the time of one job: about {asked.jobs} of them in a row")
    if asked.jobs > site.common.most_attempts:
        lines.append(f"warning: most_attempts is {site.common.most_attempts}: the last of them leaves the rest to radps resume")
    return lines


# Writing -------------------------------------------------------------------------------------------------------------


def _write(script: Script, *, replaces: bool) -> None:
    """Write the script, whole or not at all; nothing is replaced unasked, but by the same text."""
    path, data = script.path, os.fsencode(script.text)  # names may hold any bytes
    with naming(path, "writing the script"):
        there = os.path.lexists(path)
        if there and not replaces and not (path.is_file() and path.read_bytes() == data):
            raise UsageError(f"{path} exists: choose another name with --output, or replace it with --overwrite-script")
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data, durable=False)
