"""Writes and reads a small file with all ranks of an MPI job: do mpi4py and h5py work together here?

    mpirun -n 2 python -m mpi4py jobs/check_parallel_hdf5.py FOLDER

Exits 0 if they do; otherwise the message says what is wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI


def libmpi_files() -> set[str]:
    """Real paths of the MPI libraries in this process; two of them mean two MPIs that know nothing of each other."""
    names = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split()[-1]
        if os.path.basename(path).startswith("libmpi.so"):
            names.add(os.path.realpath(path))
    return names


def write_and_read(comm: MPI.Intracomm, path: Path) -> None:
    """Each rank writes its own part of one dataset; each rank then reads everything."""
    with h5py.File(path, "w", driver="mpio", comm=comm) as f:
        values = f.create_dataset("values", (comm.size, 1000), "f4")
        values[comm.rank] = np.full(1000, comm.rank + 1, "f4")
    with h5py.File(path, "r", driver="mpio", comm=comm) as f:
        for rank in range(comm.size):
            if not np.array_equal(f["values"][rank], np.full(1000, rank + 1, "f4")):
                sys.exit(f"rank {comm.rank} reads something else than rank {rank} wrote")


def main() -> None:
    """Check, and print what was found on rank 0."""
    comm = MPI.COMM_WORLD
    if not h5py.get_config().mpi:
        sys.exit(f"h5py {h5py.__version__} in {h5py.__file__} was built without MPI")
    libraries = libmpi_files()
    if len(libraries) != 1:
        sys.exit(f"mpi4py and h5py load different MPI libraries: {sorted(libraries)}")
    launched = int(os.environ.get("OMPI_COMM_WORLD_SIZE", os.environ.get("PMI_SIZE", comm.size)))
    if launched != comm.size:
        sys.exit(
            f"the launcher started {launched} processes but MPI sees {comm.size}: "
            f"mpirun belongs to another MPI than {libraries.pop()}"
        )
    path = Path(sys.argv[1]) / "check_parallel_hdf5.h5"
    write_and_read(comm, path)
    comm.Barrier()
    if comm.rank == 0:
        path.unlink()
        print(f"{comm.size} ranks, {libraries.pop()}, HDF5 {h5py.version.hdf5_version}: parallel write and read work")


if __name__ == "__main__":
    main()
