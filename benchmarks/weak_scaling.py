"""Weak scaling: as many channels per rank, more and more ranks.

    python benchmarks/weak_scaling.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

T_ideal is the first time, E = T_ideal / wall; for the whole job and for its compute phases. Memory per rank should not grow.
"""

from __future__ import annotations

import scaling
from common import finish, require

CHANNELS_PER_RANK = {"toy": 16, "small": 32, "full": 256}
"""Whole blocks of 16."""


def main() -> None:
    arguments = scaling.arguments_of(__doc__)
    rows = []
    for ranks in arguments.ranks:
        row, found = scaling.measure(arguments, ranks, ranks * CHANNELS_PER_RANK[arguments.scale])
        require("image.fits" in found, f"{ranks} ranks made no image")
        rows.append(row)
    finish("weak_scaling", arguments, scaling.with_efficiency(rows, fixed_cube=False), scaling.draw)


if __name__ == "__main__":
    main()
