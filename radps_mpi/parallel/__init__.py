"""The only importer of mpi4py: start-up, collective errors, fixed-tree reductions, rank logs."""

import os

# Open MPI's shared file pointers, which nobody here uses, crash for files whose path is longer than 240 characters.
os.environ.setdefault("OMPI_MCA_sharedfp", "^lockedfile")

from radps_mpi.parallel.collective import (
    RemoteRankError,
    all_or_none,
    any_rank,
    broadcast,
    every_rank,
    gathered_on_node,
    largest,
    merge_disjoint,
    on_root,
    ranks_on_node,
    same_everywhere,
    split,
    total,
)
from radps_mpi.parallel.runtime import abort_on_uncaught_errors, library_version, world
from radps_mpi.parallel.tree import TreeSum, leaf_owner, reduce_tree

__all__ = [
    "RemoteRankError",
    "TreeSum",
    "abort_on_uncaught_errors",
    "all_or_none",
    "any_rank",
    "broadcast",
    "every_rank",
    "gathered_on_node",
    "largest",
    "leaf_owner",
    "library_version",
    "merge_disjoint",
    "on_root",
    "ranks_on_node",
    "reduce_tree",
    "same_everywhere",
    "split",
    "total",
    "world",
]
