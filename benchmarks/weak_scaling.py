"""Weak scaling: as many channels per rank, more and more ranks.

    python benchmarks/weak_scaling.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

T_ideal is the first time, E = T_ideal / wall; for the whole job and for its compute phases. Memory per rank should not grow.
Each channel is CLEANed by itself (--control plane), so that a rank's work doesn't depend on the others' channels, and channels
are those of the data (TOPO), so that blocks are whole and all cubes begin with the same. Those of the first rank must have the
same bits in all products on all numbers of ranks.
jobs/scaling/submit.py makes a batch job for each number of ranks; --collect puts their results together.
"""

from __future__ import annotations

import scaling

from radps_mpi.decomposition import LANES

CHANNELS_PER_RANK = {"toy": 16, "small": 32, "full": 256}
"""Whole blocks of 16."""


def main() -> None:
    arguments = scaling.arguments_of(__doc__, "of each rank [default: 16, 32 or 256, by the scale]")
    per_rank = arguments.channels or CHANNELS_PER_RANK[arguments.scale]
    if per_rank < LANES // 2:
        raise SystemExit(f"--channels {per_rank}: cubes of fewer than {LANES // 2} channels are not worked in blocks")
    options = ("--outframe", "TOPO", "--niter", scaling.ITERATIONS_PER_CHANNEL, "--control", "plane")
    found = scaling.results("weak_scaling", arguments, lambda ranks: scaling.Cube(ranks * per_rank, per_rank, options))
    scaling.report("weak_scaling", arguments, found, fixed_cube=False)


if __name__ == "__main__":
    main()
