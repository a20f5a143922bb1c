"""What a start costs: seconds to the first block, and the modules and files that every rank reads on the way.

    python benchmarks/start_up.py [--scale toy|small|full] [--ranks 1 2 8] [--launcher "srun --mpi=pmix -n {ranks}"]

One small cube, a block for each of the most ranks, on every number of ranks; the kernels are compiled before. More ranks than
cores take turns: their times say that such a job starts and ends, not how fast a cluster would start it. Files are those that
Python opens, and extension modules; libraries that the system's loader opens for those are not among them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Row, finish, parser, repeats_of, require
from programs import Observation, add_launcher, hashes, radps, run, simulate

BLOCK = 16
RANKS = {"toy": (1, 2), "small": (1, 2, 8), "full": (1, 2, 64)}

COUNTING = """
import json, os, sys
opened = set()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.add(os.path.abspath(arguments[0]))
sys.addaudithook(hook)
from radps_mpi.__main__ import main
status = main()
files = {f for f in (getattr(m, "__file__", None) for m in list(sys.modules.values())) if f and f.endswith(".so")} | opened
files = {f for f in files if os.path.isfile(f) and not f.startswith(("/proc", "/sys", os.path.abspath(FOLDER)))}
print(json.dumps({"modules": len(sys.modules), "files": len(files), "MB": sum(map(os.path.getsize, files)) / 1e6}))
sys.exit(status)
"""


def main() -> None:
    p = parser(__doc__)
    add_launcher(p)
    p.add_argument("--ranks", type=int, nargs="+", help="numbers of ranks; where left out 1 2, 1 2 8 or 1 2 64, by the scale")
    arguments = p.parse_args()
    numbers = arguments.ranks or RANKS[arguments.scale]
    store, _ = simulate(arguments.launcher, arguments.output / "data", Observation(BLOCK * max(numbers), 6, 4))
    folder = arguments.output / "start_up"
    folder.mkdir(parents=True, exist_ok=True)
    job = ["image", store, "--imagename", folder / "cube", "--imsize", 64, "--cell", "0.15arcsec", "--products", "image",
           "--overwrite"]  # fmt: skip
    counted = count(job, folder)  # compiles, too
    rows: list[Row] = []
    found: dict[str, str] = {}
    for ranks in numbers:
        runs = [radps(arguments.launcher, ranks, job, folder / "cube.radps") for _ in range(repeats_of(arguments))]
        firsts = [finished.seconds_of("making PSFs") for finished in runs]
        require(all(firsts), "the log names no phases")
        rows.append({
            "ranks": ranks, "to first block": statistics.median(first[0] for first in firsts),
            "whole job": statistics.median(finished.timing.wall_s for finished in runs),
            "cpu per rank": statistics.median(finished.timing.cpu_s for finished in runs) / ranks,
            "largest rank GB": max(finished.peak_gb for finished in runs), **counted,
        })  # fmt: skip
        found = found or hashes(folder / "cube")
        require(hashes(folder / "cube") == found, f"{ranks} ranks made another image than {numbers[0]}")
    finish("start_up", arguments, rows, draw)


def count(job: Sequence[object], folder: Path) -> dict[str, Any]:
    """Modules and files of one rank, and the files' size."""
    code = COUNTING.replace("FOLDER", repr(str(folder)))
    counts: dict[str, Any] = json.loads(run([sys.executable, "-c", code, *job]).lines[-1][1])
    return counts


def draw(axes: Any, rows: Sequence[Row]) -> None:
    """Seconds against ranks."""
    for key in ("to first block", "whole job"):
        axes.plot([row["ranks"] for row in rows], [row[key] for row in rows], "o-", label=key)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("ranks")
    axes.set_ylabel("seconds")
    axes.legend(fontsize="small")


if __name__ == "__main__":
    main()
