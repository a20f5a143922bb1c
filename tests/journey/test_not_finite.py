"""NaN that comes out of finite visibilities, whatever it comes out of."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpi4py import MPI

from radps_mpi import faults, make_cube
from radps_mpi.errors import DataError


@pytest.mark.parametrize("where", ["psf", "residual", "model", "image"])
@pytest.mark.fault("ranks", "NaN in a PSF, residual, model or restored image", "refused with channel and node")
def test_nan_from_a_processor_is_in_no_image(tmp_path: Path, chunked_store: str, where: str) -> None:
    faults.arm(f"{where}:1::nan")
    try:
        with pytest.raises(DataError, match=f"the {where} of channel . came out as NaN"):
            make_cube(
                chunked_store, imagename=tmp_path / "x", comm=MPI.COMM_SELF, imsize=32, cell="0.5arcsec", outframe="TOPO",
                pblimit=-0.2, niter=20, nchan=2, start=0,
            )
    finally:
        faults.arm("")
    assert not (tmp_path / "x.image.fits").exists()
