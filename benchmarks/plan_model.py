"""The cost model's predictions against runs: seconds by part and in all, memory of the largest rank.

Three real sets, as far as the repository or the folder of --data has them, and a simulated one, on each number of ranks; of
the repeats the quickest counts, since other load on the machine only adds. Calibrate first: `radps plan --calibrate` with as
many ranks.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import REPOSITORY, Row, finish, parser, repeats_of, require
from programs import Observation, add_launcher, radps, simulate

from radps_mpi.journey.plan import measured_runs, with_host
from radps_mpi.planning.fitting import MeasuredRun, quickest
from radps_mpi.planning.machine_constants import Machine, default_path, read_machine
from radps_mpi.planning.model import predict

SETS: dict[str, tuple[str, list[object]]] = {
    "NGC 5921": ("ngc5921_src_contsub.ms", ["--imsize", 512, "--cell", "15arcsec", "--weighting", "briggs", "--niter", 6000]),
    "HD 142527": ("FREQ78.ms", ["--imsize", 512, "--cell", "0.06arcsec", "--weighting", "briggs", "--niter", 1000]),
    "DM Tau": ("dmtau_co21.ms", ["--imsize", 512, "--cell", "0.3arcsec", "--niter", 2000, "--pb-model", "none",
                                 "--pblimit", -1e-9]),
}  # fmt: skip

WITHIN = {"time": 0.30, "memory": 0.15}
"""The targets."""


def arguments_of() -> argparse.Namespace:
    """The command line."""
    p = parser(__doc__)
    add_launcher(p)
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks")
    p.add_argument("--data", type=Path, help="folder with more archives of real sets, NAME.tar.xz, than the repository's data")
    p.add_argument("--machine", type=Path, help="machine file (the user's own, else built-in constants)")
    return p.parse_args()


def machine_of(arguments: argparse.Namespace) -> Machine:
    """The constants that ``radps plan`` would take."""
    path = arguments.machine or default_path()
    return with_host(read_machine(path) if arguments.machine or path.exists() else Machine())


def unpacked(name: str, archives: Sequence[Path], folder: Path) -> Path | None:
    """A real set from the first of the folders of archives that has it, unpacked into ``folder``; None where none has."""
    for archive in (place / f"{name}.tar.xz" for place in archives):
        if archive.exists():
            if not (folder / name).exists():
                with tarfile.open(archive) as tar:
                    tar.extractall(folder)
            return folder / name
    return None


def jobs_of(arguments: argparse.Namespace) -> dict[str, tuple[Path, list[object]]]:
    """Name -> (input, parameters)."""
    folder = arguments.output / "data"
    folder.mkdir(parents=True, exist_ok=True)
    toy = arguments.scale == "toy"
    observation = Observation(16, 8, 6) if toy else Observation(64, nintegration=40)
    store, _ = simulate(arguments.launcher, folder, observation)
    size = 64 if toy else 1024 if arguments.scale == "full" else 512
    found: dict[str, tuple[Path, list[object]]] = {
        "simulated": (store, ["--imsize", size, "--cell", "0.15arcsec", "--niter", 10 * size, "--pblimit", -0.2])
    }
    archives = [REPOSITORY / "data", *([arguments.data] if arguments.data else [])]
    for label, (name, parameters) in SETS.items() if not toy else ():
        path = unpacked(name, archives, folder)
        if path is None:
            print(f"{label} left out: no {name}.tar.xz in {' or '.join(map(str, archives))} (--data)")
        else:
            found[label] = (path, parameters)
    return found


def measure(arguments: argparse.Namespace, ranks: int, path: Path, parameters: Sequence[object]) -> tuple[MeasuredRun, float]:
    """The quickest parts of the repeats, and the least processor time per rank, without the first run, which may compile."""
    name = arguments.output / "plan" / "cube"
    name.parent.mkdir(parents=True, exist_ok=True)
    repeats = repeats_of(arguments)
    job = ["image", path, "--imagename", name, "--overwrite", *parameters]
    done = [radps(arguments.launcher, ranks, job) for _ in range(1 + repeats)]
    runs = measured_runs(Path(f"{name}.radps"))
    require(len(runs) >= 1 + repeats, "a run kept no measured times")
    return quickest(runs[-repeats:]), min(one.timing.cpu_s for one in done[1:]) / ranks


def row_of(name: str, run: MeasuredRun, cpu_s: float, machine: Machine) -> Row:
    """Predicted and measured of one job; ratios are predicted / measured. ``cpu_s`` per rank, the launcher's included: what the
    measured seconds on the wall would be at least if nobody else used the machine."""
    predicted = predict(run.work, machine, run.layout)
    spent = sum(run.seconds.get(part.name, 0.0) for part in predicted.parts)
    row: dict[str, Any] = {
        "job": name, "ranks": run.layout.ranks, "predicted s": predicted.seconds, "measured s": spent, "cpu s": cpu_s,
        "time x": predicted.seconds / spent, "predicted MB": predicted.memory.peak_bytes / 1e6,
        "measured MB": run.peak_memory_bytes / 1e6, "memory x": predicted.memory.peak_bytes / run.peak_memory_bytes,
    }  # fmt: skip
    for part in predicted.parts:
        row[part.name] = f"{part.seconds:.2f}/{run.seconds.get(part.name, 0.0):.2f}"
    return row


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Predicted over measured, with the targets."""
    labels = [f"{row['job']}, {row['ranks']}" for row in rows]
    for key, colour in (("time", "tab:blue"), ("memory", "tab:orange")):
        axes.plot([row[f"{key} x"] for row in rows], labels, "o", color=colour, label=key)
        axes.axvspan(1 - WITHIN[key], 1 + WITHIN[key], color=colour, alpha=0.1)
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel("predicted / measured")
    axes.legend(fontsize="small")


def main() -> None:
    """Run all jobs."""
    arguments = arguments_of()
    machine, rows = machine_of(arguments), []
    for name, (path, parameters) in jobs_of(arguments).items():
        rows += [row_of(name, *measure(arguments, ranks, path, parameters), machine) for ranks in arguments.ranks]
    finish("plan_model", arguments, rows, draw)
    for key, within in WITHIN.items():
        missed = [f"{r['job']} on {r['ranks']}: {r[f'{key} x']:.2f}" for r in rows if abs(r[f"{key} x"] - 1) > within]
        print(f"{key} within {100 * within:.0f} %: {len(rows) - len(missed)} of {len(rows)} {'; '.join(missed)}".rstrip())


if __name__ == "__main__":
    main()
