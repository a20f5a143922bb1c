"""Batch scripts as text: the #SBATCH lines, the site's set-up, and the command of a run."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radps_mpi.errors import printable
from radps_mpi.slurm.site import PartitionConfig, Site, check_word
from radps_mpi.units import duration_s

ATTEMPT = Path(__file__).absolute().with_name("attempt.sh")
"""What every script does, sourced by it."""

ENVIRONMENT = ATTEMPT.parents[2] / "jobs" / "environment.sh"
"""What selects the checkout's virtual environment, where this is a checkout."""

STAGE = ENVIRONMENT.with_name("stage.sh")
"""What copies the environment to the nodes of a job."""

WARM = ENVIRONMENT.with_name("warm.sh")
"""What compiles the kernels."""

COMPILE_BEFORE_RANKS = 64
"""Jobs of at least so many ranks wait for one process to compile, where nothing is compiled yet: each rank would write the same
hundreds of files into one cache. Of fewer ranks each compiles only what the run needs, which takes less time."""

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks Slurm for."""

    job_name: str
    partition: PartitionConfig
    account: str
    nodes: int
    ranks_per_node: int
    threads: int
    memory_per_node_bytes: int
    """0 is all of it."""
    time_s: float
    kernel_options: Sequence[str] = ()
    """What jobs/warm.sh is told for a run whose kernels must be there before its ranks start."""


def head(request: Request, site: Site, extra: Sequence[str] = ()) -> list[str]:
    """The #SBATCH lines of a job; ``extra`` are options of this kind of job."""
    options = [
        f"--job-name={job_name_of(request.job_name)}",
        f"--partition={check_word(request.partition.name)}",
        *([f"--account={check_word(request.account)}"] if request.account else []),
        f"--nodes={request.nodes}",
        f"--ntasks-per-node={request.ranks_per_node}",
        f"--cpus-per-task={request.threads}",
        f"--mem={memory_mib(request.memory_per_node_bytes)}M",
        f"--time={slurm_time(request.time_s)}",
        f"--output={check_word(site.common.log)}",
        *extra, *site.common.sbatch_options, *request.partition.sbatch_options,
    ]  # fmt: skip
    return [f"#SBATCH {option}" for option in options]


def memory_mib(nbytes: int) -> int:
    """Whole MiB, what Slurm calls M. Rounded down: a node has no more."""
    return nbytes // _MIB


def slurm_time(seconds: float) -> str:
    """days-hours:minutes:seconds, rounded up to the second."""
    minutes, s = divmod(math.ceil(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days}-{h:02d}:{m:02d}:{s:02d}" if days else f"{h:02d}:{m:02d}:{s:02d}"


def job_name_of(imagename: str) -> str:
    """The last part of an image's name, with nothing in it that Slurm or a file name could stumble over."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", Path(imagename).name).strip("-.") or "radps"


def preparation(site: Site, folder: Path) -> list[str]:
    """The lines between head and command: settings, the folder that names are relative to, set-up, environment."""
    common = site.common
    python = shlex.quote(str(Path(sys.executable).parent))
    own = f". {shlex.quote(str(ENVIRONMENT))}" if ENVIRONMENT.exists() else f"export PATH={python}:$PATH"
    return [
        "set -eo pipefail  # no -u: what modules run may use variables that are not set",
        "",
        f"launcher={common.launcher}",
        f"srun_options=({shlex.join(common.srun_options)})",
        f"mpirun_options=({shlex.join(common.mpirun_options)})",
        "",
        f"cd {shlex.quote(str(folder))}",
        f". {shlex.quote(str(ATTEMPT))}",
        *common.setup,
        own,
    ]


def staging(request: Request, site: Site) -> list[str]:
    """The line that has a job of many ranks start from copies; none where this is no checkout."""
    ranks = request.nodes * request.ranks_per_node
    wanted = 0 < site.common.stage_ranks <= ranks and STAGE.exists()
    return [f". {shlex.quote(str(STAGE))}"] if wanted else []


def compiling(request: Request, site: Site) -> list[str]:
    """The lines that have kernels compiled before many ranks would do it, here or by what stages."""
    ranks = request.nodes * request.ranks_per_node
    options = [f"kernel_options=({shlex.join(request.kernel_options)})"]
    staged = staging(request, site)
    if staged or ranks < COMPILE_BEFORE_RANKS or not WARM.exists():
        return [*options, *staged] if staged else []
    missing = '[ -z "$(find "$NUMBA_CACHE_DIR" -name "*.nbi" -print -quit)" ]'
    return [*options, f'if {missing}; then bash {shlex.quote(str(WARM))} "${{kernel_options[@]}}" || true; fi']


def run_script(
    request: Request, site: Site, facts: Sequence[str], imagename: str, arguments: Sequence[str], folder: Path
) -> str:
    """The whole script of a run.

    Parameters
    ----------
    facts : lines of comment, what was planned.
    imagename : the run's.
    arguments : of ``radps image``, as a shell should read them; names in them are relative to ``folder``.
    """
    stop_s = math.ceil(duration_s(site.common.stop_before))
    extra = ["--requeue", "--open-mode=append", f"--signal=B:USR1@{stop_s}"]
    words = [f"attempt {shlex.quote(imagename)} image", *(f"  {argument}" for argument in arguments)]
    lines = [
        "#!/usr/bin/env bash",
        *(f"# {printable(fact)}".rstrip() for fact in facts),
        "#",
        *head(request, site, extra),
        *preparation(site, folder),
        *compiling(request, site),
        "",
        f"# Starts the run, or goes on with it; asks for another attempt where it was stopped or killed: see {ATTEMPT.name}.",
        f"most_attempts={site.common.most_attempts}",
        " \\\n".join(words),
    ]
    return "\n".join(lines) + "\n"


def image_arguments(given: Mapping[str, Any], inputs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Arguments of ``radps image`` as a shell should read them, one by one.

    Parameters
    ----------
    given : values by name: texts, lists of them, truth values, numbers.
    inputs : plain arguments.
    names : of the options that are taken from ``given``, in this order.
    """
    flags = [argument for name in names if name in given for argument in _option(name, given[name])]
    behind = any(name.startswith("-") for name in inputs)
    quoted = [shlex.quote(name) for name in inputs]
    return [*flags, "--", *quoted] if behind else [*quoted, *flags]


def _option(name: str, value: Any) -> list[str]:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    items = value if isinstance(value, list | tuple) else [value]
    return [f"--{dashed}={shlex.quote(str(item))}" for item in items]
