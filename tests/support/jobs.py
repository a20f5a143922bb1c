"""Jobs of radps_mpi as a user starts them: the program under mpirun, its output, its exit status, its products."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

CLEAN = [
    "--imsize", "64", "--cell", "30arcsec", "--nchan", "36", "--start", "5", "--weighting", "briggs", "--niter", "4000",
    "--cycleniter", "40", "--threshold", "8mJy", "--nmajor", "2",
]  # fmt: skip
"""A cube of the galaxy: three blocks, the last of four channels, and two major cycles."""

IMAGE = ["--imsize", "32", "--cell", "1arcsec", "--niter", "60", "--cycleniter", "10", "--outframe", "TOPO", "--pblimit=-0.1"]
"""One of four channels of a simulated sky, in one block."""

LAUNCH = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RADPS_FAULT": "",
}
"""More ranks than cores, as root in a container, without ranks that burn the core that another one needs, and without a search
for fabrics, which takes 0.15 s of every start."""

_OF_THIS_PROCESS = ("PMIX_", "OMPI_COMM_WORLD", "MPI4PY_RC")
"""Variables that a process which has been a rank, or a command that must not be one, leaves in its environment."""

_SECONDS_TO_DIE = 5.0

Happening = Callable[[], bool]
"""Asked again and again: has it happened yet?"""


def command(args: Sequence[object], ranks: int = 1) -> list[str]:
    """``mpirun -n RANKS python -m mpi4py -m radps_mpi ARGS``."""
    return ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", "-m", "radps_mpi", *map(str, args)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a job of its own, with ``extra`` on top."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THIS_PROCESS)}
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "kernels")))
    return {**inherited, **LAUNCH, "PYTHONPATH": paths, **(extra or {})}


class Job:
    """A running job; ``with`` it, so that it never outlives the test."""

    def __init__(
        self, args: Sequence[object], ranks: int = 1, env: Mapping[str, str] | None = None,
        launch: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.args = command(args, ranks) if launch is None else [*launch, *map(str, args)]
        self.ranks = ranks
        self.process = subprocess.Popen(
            self.args, env=environment(env), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def finish(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Output and exit status; subprocess.TimeoutExpired, with the job ended, if it takes longer."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as late:
            self.end()
            out, err = self.process.communicate()
            raise subprocess.TimeoutExpired(self.args, timeout, out, err) from late
        return subprocess.CompletedProcess(self.args, self.process.returncode, out, err)

    def end(self) -> None:
        """End what still runs: mpirun, told to, ends its ranks."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_SECONDS_TO_DIE)
            except subprocess.TimeoutExpired:
                self.kill_ranks()
                self.process.kill()

    def rank_pids(self) -> list[int]:
        """Processes of the ranks that live now, in the order in which they were started; they are mpirun's children."""
        pid = self.process.pid
        children: set[int] = set()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children |= {int(word) for word in task.read_text().split()}
            except OSError:  # that thread has just ended
                continue
        return sorted(children)

    def kill_ranks(self, which: int | None = None) -> None:
        """SIGKILL to one rank, or to all of them."""
        pids = self.rank_pids()
        for pid in pids if which is None else pids[which : which + 1]:
            os.kill(pid, signal.SIGKILL)

    def wait_until(self, happened: Happening, timeout: float = 60.0) -> bool:
        """True as soon as something has ``happened``; False if the job ends before."""
        deadline = time.monotonic() + timeout
        while not happened():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return True


def run_radps(
    args: Sequence[object], ranks: int = 1, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``radps ARGS`` on so many ranks; text of stdout and stderr, and mpirun's exit status. Never raises for a
    failing job, only for one that takes longer than ``timeout`` seconds."""
    with Job(args, ranks, env) as job:
        return job.finish(timeout)


def run_script(
    name: str, args: Sequence[object], ranks: int, timeout: float = 120, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script of tests/support under mpirun."""
    script = ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", str(Path(__file__).with_name(name))]
    with Job(args, ranks, env, launch=script) as job:
        return job.finish(timeout)


def succeed(args: Sequence[object], ranks: int = 1, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A job that must end well; its stderr is the message if it doesn't."""
    done = run_radps(args, ranks, timeout=timeout)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines in which radps says what is wrong."""
    return [line for line in done.stderr.splitlines() if line.startswith("radps: error:")]


def product_hashes(imagename: object) -> dict[str, str]:
    """Product -> what ``radps hash`` says of it, without its name: xxh3-128 of the pixels, and shape."""
    from radps_mpi.io.product_hash import hash_product

    hashes = {}
    for path in sorted(Path(str(imagename)).parent.glob(f"{Path(str(imagename)).name}.*.fits")):
        found = hash_product(path)
        product = path.name.removeprefix(f"{Path(str(imagename)).name}.").removesuffix(".fits")
        hashes[product] = f"{found.digest}  {found.shape}"
    return hashes
