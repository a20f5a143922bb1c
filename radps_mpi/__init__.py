"""Spectral-line cubes and continuum images from radio-interferometer visibilities, on any number of MPI ranks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radps_mpi.parallel.types import Comm

__all__ = ["__version__", "make_cube"]
__version__ = "0.1.0"


def make_cube(inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, imagename: str | os.PathLike[str],
              comm: Comm | None = None, **parameters: Any) -> Any:
    """Image MeasurementSets (or a visibility store) into FITS products named ``imagename``; collective over ``comm``.

    Parameters
    ----------
    inputs
        One path or several.
    imagename
        Prefix of all products, as "runs/ngc5921".
    comm
        mpi4py communicator; all processes of the job where it is None.
    **parameters
        As ``radps image --help`` lists them, by the same names: ``imsize=256, cell="15arcsec", niter=1000,
        threshold="8mJy"``. ``imsize`` and ``cell`` are required.

    Returns
    -------
    What :func:`radps_mpi.pipeline.make_cube` returns, on every rank.

    Raises
    ------
    radps_mpi.errors.UsageError
        For an unknown parameter or a value that can't be used.
    radps_mpi.errors.DataError
        For an input that is missing, broken or not supported.
    """
    # Imported here, not above: `radps --help` and `radps status` import this package too and must not start MPI.
    from radps_mpi import pipeline
    from radps_mpi.config import RunConfig

    paths = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    vis = [os.fspath(path) for path in paths]
    config = RunConfig.from_flat({**parameters, "vis": vis, "imagename": os.fspath(imagename)})
    if comm is None:
        from radps_mpi.parallel import world

        comm = world()
    return pipeline.make_cube(config, vis, comm)
