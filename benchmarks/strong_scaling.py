"""Strong scaling: one cube, more and more ranks.

    python benchmarks/strong_scaling.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

T_ideal is the first time divided by how many times more ranks there are, E = T_ideal / wall; for the whole job and for its
compute phases. The products must have the same bits on all numbers of ranks.
"""

from __future__ import annotations

import scaling
from common import finish, require

CHANNELS = {"toy": 4, "small": 64, "full": 512}


def main() -> None:
    arguments = scaling.arguments_of(__doc__)
    rows, first = [], None
    for ranks in arguments.ranks:
        row, found = scaling.measure(arguments, ranks, CHANNELS[arguments.scale])
        first = first or found
        require(bool(found) and found == first, f"products of {ranks} ranks differ from those of {arguments.ranks[0]}")
        rows.append(row)
    finish("strong_scaling", arguments, scaling.with_efficiency(rows, fixed_cube=True), scaling.draw)


if __name__ == "__main__":
    main()
