"""Weak scaling: as many channels per rank, more and more ranks.

    python benchmarks/weak_scaling.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

T_ideal is the first time, E = T_ideal / wall; for the whole job and for its compute phases. Memory per rank should not grow.
jobs/scaling/submit.py makes a batch job for each number of ranks; --collect puts their results together.
"""

from __future__ import annotations

import scaling

CHANNELS_PER_RANK = {"toy": 16, "small": 32, "full": 256}
"""Whole blocks of 16."""


def main() -> None:
    arguments = scaling.arguments_of(__doc__, "of each rank [default: 16, 32 or 256, by the scale]")
    per_rank = arguments.channels or CHANNELS_PER_RANK[arguments.scale]
    found = scaling.results("weak_scaling", arguments, lambda ranks: ranks * per_rank)
    scaling.report("weak_scaling", arguments, found, fixed_cube=False)


if __name__ == "__main__":
    main()
