"""One job killed somewhere, then gone on with: what a drawn number makes of it. For tests/faults and jobs/soak.sh.

    python tests/support/kills.py KILLS MEASUREMENT_SET [SEED [JOBS]]

JOBS runs go on at once, each with several ranks: more of everything than there are cores, memory for it and disks.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import jobs

POINTS = {
    "run-directory": 1, "ingest-chunk": 1, "ingest-before-sync": 1, "ingest-before-rename": 1, "ingest-after-rename": 1,
    "reserve": 9, "room": 5,
    "state-before-rename": 1, "before-write": 60, "mid-write": 60, "before-sync": 6, "before-rename": 6, "mid-rename": 6,
    "after-rename": 6, "before-done": 6, "product-before-write": 60, "product-before-rename": 7, "product-after-rename": 7,
}  # fmt: skip
"""Named points, and how often a rank reaches them at most."""

LONGEST_S = 4.0
"""Jobs take about so long where nobody disturbs them: instants are drawn from there."""

MOST_KILLS = 3
"""Of one run; half of the runs may be killed more than once."""

_GONE_S = 20.0
_PATIENCE_S = 120.0
"""A job that takes longer hangs."""


@dataclass(frozen=True)
class Outcome:
    """What happened to a run: ``kills`` that struck, ``where`` the first one did, ``fault`` "" if all is well."""

    kills: int
    where: str
    fault: str


def disturbed_run(source: Path, folder: Path, expected: dict[str, str], seed: int, slower: float = 1.0) -> Outcome:
    """Start a job that is killed up to MOST_KILLS times, each time on another number of ranks, and let it end.

    ``slower``: how many times longer than by itself a job may take here; instants are drawn from so long, too.
    """
    draw = random.Random(seed)
    imagename = folder / "cube"
    args: list[object] = ["image", source, "--imagename", imagename, *jobs.CLEAN]
    struck: list[str] = []
    for _ in range(MOST_KILLS if draw.random() < 0.5 else 1):
        where, done = _kill_somewhere(args, draw, slower)
        if done.returncode in (0, 64):
            break
        struck.append(where)
        args = ["resume", imagename] if Path(f"{imagename}.radps").exists() and _has_config(imagename) else args
    else:
        done = jobs.run_radps(args, draw.randint(1, 7), timeout=_PATIENCE_S * slower)
    return Outcome(len(struck), struck[0] if struck else "not struck", _fault(done, imagename, expected))


def _has_config(imagename: Path) -> bool:
    return (Path(f"{imagename}.radps") / "config.toml").exists()


def _kill_somewhere(args: list[object], draw: random.Random, slower: float) -> tuple[str, object]:
    ranks = draw.randint(1, 4)
    if draw.random() < 0.5:
        point = draw.choice(sorted(POINTS))
        fault = f"{point}:{draw.randint(1, POINTS[point])}:{draw.choice(['', str(draw.randrange(ranks))])}"
        return point, jobs.run_radps(args, ranks, {"RADPS_FAULT": fault}, timeout=_PATIENCE_S * slower)
    victim = draw.choice(["a rank", "all ranks", "mpirun"])
    with jobs.Job(args, ranks) as job:
        time.sleep(draw.uniform(0.0, LONGEST_S * slower))
        pids = job.rank_pids()
        if victim == "mpirun":
            job.process.send_signal(signal.SIGKILL)
        else:
            job.kill_ranks(draw.randrange(ranks) if victim == "a rank" else None)
        done = job.finish(0.5 * _PATIENCE_S * slower)
        _wait_for_the_end_of(pids)
    return victim, done


def _wait_for_the_end_of(pids: list[int]) -> None:
    """Ranks that have lost their mpirun end by themselves, a little later."""
    deadline = time.monotonic() + _GONE_S
    while (left := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def _fault(done: object, imagename: Path, expected: dict[str, str]) -> str:
    finished_before = done.returncode == 0 and "finished already" in done.stdout
    if done.returncode != 0:
        return f"exit status {done.returncode}: {done.stderr[-2000:]}"
    if jobs.product_hashes(imagename) != expected:
        return "other bits than those of an undisturbed run"
    left = [p.name for p in imagename.parent.rglob("*") if p.name.endswith((".partial", ".tmp", ".progress"))]
    return f"left behind: {left}" if left and not finished_before else ""


def undisturbed_run(source: Path, folder: Path) -> dict[str, str]:
    """Hashes of the products of a run that nothing happens to."""
    jobs.succeed(["image", source, "--imagename", folder / "cube", *jobs.CLEAN], ranks=2)
    return jobs.product_hashes(folder / "cube")


def soak(source: Path, folder: Path, kills: int, seed: int, at_once: int) -> Iterator[tuple[int, Outcome]]:
    """(seed, what happened) of run after run, ``at_once`` at the same time, until so many kills have struck."""
    (straight := folder / "straight").mkdir()
    expected = undisturbed_run(source, straight)
    running: dict[Future[Outcome], int] = {}

    def run(number: int) -> Outcome:
        (own := folder / str(number)).mkdir()
        try:
            return disturbed_run(source, own, expected, number, float(at_once))
        except subprocess.TimeoutExpired as late:
            return Outcome(0, "hung", f"hung: not finished after {late.timeout:.0f} s")
        finally:
            shutil.rmtree(own)

    with ThreadPoolExecutor(at_once) as pool:
        while kills > 0 or running:
            while kills > 0 and len(running) < at_once:
                running[pool.submit(run, seed)] = seed
                seed += 1
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = done.result()
                kills -= outcome.kills
                yield running.pop(done), outcome


def main() -> int:
    """So many kills; a line for each run that went wrong, and a table of where the first kill struck."""
    wanted, source = int(sys.argv[1]), Path(sys.argv[2]).resolve()
    seed, at_once = (int(sys.argv[i]) if len(sys.argv) > i else 1 for i in (3, 4))
    began, kills, wrong, places = time.monotonic(), 0, 0, Counter()
    with tempfile.TemporaryDirectory() as name:
        for number, outcome in soak(source, Path(name), wanted, seed, at_once):
            kills += outcome.kills
            places[outcome.where] += 1
            if outcome.fault:
                wrong += 1
                print(f"seed {number}: {outcome.where}: {outcome.fault}", flush=True)
    for where, count in places.most_common():
        print(f"{count:6d}  {where}")
    together = f", {at_once} at once" if at_once > 1 else ""
    print(f"{kills} kills in {sum(places.values())} runs{together}, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
