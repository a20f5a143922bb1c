"""Strong scaling: one cube, more and more ranks.

    python benchmarks/strong_scaling.py [--scale toy|small|full] [--ranks 1 2 4] [--launcher "srun --mpi=pmix -n {ranks}"]

T_ideal is the first time divided by how many times more ranks there are, E = T_ideal / wall; for the whole job and for its
compute phases. The products must have the same bits on all numbers of ranks. jobs/scaling/submit.py makes a batch job for each
number of ranks; --collect puts their results together.
"""

from __future__ import annotations

import scaling

CHANNELS = {"toy": 4, "small": 64, "full": 512}


def main() -> None:
    arguments = scaling.arguments_of(__doc__, "of the cube [default: 4, 64 or 512, by the scale]")
    nchan = arguments.channels or CHANNELS[arguments.scale]
    cube = scaling.Cube(nchan, nchan, ("--niter", scaling.ITERATIONS_PER_CHANNEL * nchan))
    found = scaling.results("strong_scaling", arguments, lambda _: cube)
    scaling.report("strong_scaling", arguments, found, fixed_cube=True)


if __name__ == "__main__":
    main()
