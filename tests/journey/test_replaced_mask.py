"""A mask image that is replaced under its name is another mask, as one of another name is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from mpi4py import MPI

from radps_mpi import make_cube
from radps_mpi.errors import DataError
from radps_mpi.io.run_status import read_provenance
from radps_mpi.pipeline import resume


def write_mask(path: Path, first: int, last: int) -> None:
    mask = np.zeros((32, 32), np.float32)
    mask[first:last, first:last] = 1.0
    fits.writeto(path, mask, overwrite=True)


@pytest.mark.fault("data", "a mask image replaced under its name between two jobs", "peaks measured anew, as in another mask")
def test_a_mask_image_replaced_under_its_name_is_another_mask(tmp_path: Path, chunked_store: str) -> None:
    for name in ("named", "replaced"):
        write_mask(tmp_path / f"{name}.fits", 1, 6)
        make_cube(
            chunked_store, imagename=tmp_path / name, comm=MPI.COMM_SELF, imsize=32, cell="0.5arcsec", outframe="TOPO",
            pblimit=-0.2, niter=20, nchan=2, start=0, keep_state=True, mask=str(tmp_path / f"{name}.fits"),
        )
    write_mask(tmp_path / "other.fits", 4, 28)
    resume(str(tmp_path / "named"), MPI.COMM_SELF, {"niter": 60, "mask": (str(tmp_path / "other.fits"),)})
    write_mask(tmp_path / "replaced.fits", 4, 28)
    resume(str(tmp_path / "replaced"), MPI.COMM_SELF, {"niter": 60})
    for product in ("image", "residual", "model", "mask"):
        named, replaced = (fits.getdata(tmp_path / f"{name}.{product}.fits") for name in ("named", "replaced"))
        np.testing.assert_array_equal(named, replaced)
    *_, imaging, _ = read_provenance(tmp_path / "replaced.radps")
    assert list(imaging["changed"]) == ["niter", "mask"] and imaging["changed"]["mask"]["to"] == imaging["mask"]
    looks = [(tmp_path / f"{name}.radps/convergence.csv").read_text() for name in ("named", "replaced")]
    assert looks[0] == looks[1]


@pytest.mark.fault("hostile", "a pipe or a device in the place of a mask image", "refused by name")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_no_mask_image(tmp_path: Path, chunked_store: str, kind: str) -> None:
    path = tmp_path / "mask.fits"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file"):
        make_cube(chunked_store, imagename=tmp_path / "x", comm=MPI.COMM_SELF, imsize=32, cell="0.5arcsec", mask=str(path))
