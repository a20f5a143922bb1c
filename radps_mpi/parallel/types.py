"""Types of the MPI objects that other rooms pass around without importing mpi4py."""

from __future__ import annotations

from typing import TypeAlias

from mpi4py import MPI

Comm: TypeAlias = MPI.Intracomm
"""A communicator; passed, never looked up."""
