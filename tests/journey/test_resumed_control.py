"""A run that is resumed decides as one that was never interrupted; with other limits, as one that had them from the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from mpi4py import MPI

from radps_mpi import make_cube
from radps_mpi.errors import UsageError
from radps_mpi.imaging.stopping import Control, StopCode, begin, reopen
from radps_mpi.io.product_hash import hash_product
from radps_mpi.parallel import on_root, world
from radps_mpi.pipeline import Result, resume

MASK = ["circle[[28pix,24pix],3pix]"]
"""About the weaker source: the brightest pixel of the image lies outside."""


FOUR: dict[str, Any] = {"start": 0, "nchan": 4}
"""Few enough channels for the small limits of these tests."""


def image(prefix: Path, store: str, comm: MPI.Intracomm = MPI.COMM_SELF, **parameters: Any) -> Result:
    options = {"imsize": 32, "cell": "0.5arcsec", "outframe": "TOPO", "pblimit": -0.2, "cycleniter": 10, "keep_state": True,
               "products": ["image", "residual", "model"]}  # fmt: skip
    return make_cube(store, imagename=prefix, comm=comm, **(options | parameters))


def hashes(prefix: Path) -> list[str]:
    return [hash_product(path).digest for path in sorted(prefix.parent.glob(f"{prefix.name}.*.fits"))]


def outcome(result: Result) -> tuple[int, int, int]:
    return result.stop_code, result.iterations, result.major_cycles


@pytest.mark.parametrize("control", ["global", "plane"])
@pytest.mark.parametrize(("limits", "code"), [
    ({"niter": 0}, StopCode.NO_CLEAN), ({"niter": 25}, StopCode.ITERATIONS),
    ({"niter": 100, "nmajor": 2}, StopCode.MAJOR_CYCLES),
    ({"niter": 5000, "cycleniter": 200, "threshold": "0.5Jy"}, StopCode.THRESHOLD),
])  # fmt: skip
def test_resuming_a_finished_run_gives_its_stop_code_and_its_bits(
    tmp_path: Path, chunked_store: str, control: str, limits: dict[str, Any], code: StopCode
) -> None:
    prefix = tmp_path / "small"
    first = image(prefix, chunked_store, control=control, **FOUR, **limits)
    assert first.stop_code == code
    before, table = hashes(prefix), (tmp_path / "small.radps" / "convergence.csv").read_text()
    assert outcome(resume(str(prefix), MPI.COMM_SELF)) == outcome(first)
    assert hashes(prefix) == before
    assert (tmp_path / "small.radps" / "convergence.csv").read_text() == table


@pytest.mark.parametrize("control", ["global", "plane"])
@pytest.mark.parametrize(("at_first", "later"), [
    ({"niter": 200, "nmajor": 1}, {"nmajor": 3}), ({"niter": 0}, {"niter": 60}),
    ({"niter": 10}, {"niter": 60}),
])  # fmt: skip
def test_other_limits_on_resume_give_the_bits_of_a_run_that_had_them_from_the_start(
    tmp_path: Path, chunked_store: str, control: str, at_first: dict[str, Any], later: dict[str, Any]
) -> None:
    whole = image(tmp_path / "whole", chunked_store, control=control, **FOUR, **(at_first | later))
    short = image(tmp_path / "small", chunked_store, control=control, **FOUR, **at_first)
    assert short.iterations < whole.iterations
    assert outcome(resume(str(tmp_path / "small"), MPI.COMM_SELF, later)) == outcome(whole)
    assert hashes(tmp_path / "small") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("control", ["global", "plane"])
def test_a_lower_threshold_on_resume_is_reached_too(tmp_path: Path, chunked_store: str, control: str) -> None:
    prefix = tmp_path / "small"
    first = image(prefix, chunked_store, control=control, niter=2000, threshold="2Jy")
    deeper = resume(str(prefix), MPI.COMM_SELF, {"threshold": "0.5Jy"})
    assert first.stop_code == deeper.stop_code == StopCode.THRESHOLD
    assert deeper.iterations > 2 * first.iterations
    residual = fits.getdata(f"{prefix}.residual.fits")
    assert 0.4 < np.abs(residual).max() < 0.505


def test_another_mask_on_resume_counts_in_the_peaks_too(tmp_path: Path, chunked_store: str) -> None:
    whole = image(tmp_path / "whole", chunked_store, niter=60, mask=MASK)
    image(tmp_path / "small", chunked_store, niter=0)
    assert outcome(resume(str(tmp_path / "small"), MPI.COMM_SELF, {"niter": 60, "mask": MASK})) == outcome(whole)
    assert hashes(tmp_path / "small") == hashes(tmp_path / "whole")


def test_groups_that_diverged_stay_stopped_and_those_at_a_limit_run_again() -> None:
    state = begin(Control(niter=5, mode="plane"), 4)
    peaks = np.array([1.0, 2.0, 3.0, 4.0])
    again = reopen(replace(state, stop_code=np.array([0, 1, 5, 2], np.uint8), peak_jy=peaks, image_peak_jy=peaks))
    assert again.stop_code.tolist() == [0, 0, 5, 0]
    assert again.peak_jy.tolist() == again.image_peak_jy.tolist() == [1.0, -1.0, 3.0, -1.0]


def test_a_new_run_never_deletes_the_store_that_it_shall_image(tmp_path: Path, chunked_store: str) -> None:
    own = tmp_path / "small.radps" / "visibilities.vis.h5"
    image(tmp_path / "small", chunked_store, niter=0)
    own.write_bytes(Path(chunked_store).read_bytes())
    with pytest.raises(UsageError, match="belongs to an earlier run of this name"):
        image(tmp_path / "small", str(own), niter=0, overwrite=True)
    assert own.read_bytes() == Path(chunked_store).read_bytes()


def test_a_corrected_image_is_not_overwritten_unasked(tmp_path: Path, chunked_store: str) -> None:
    (tmp_path / "small.image.pbcor.fits").write_text("somebody's")
    with pytest.raises(UsageError, match=r"small\.image\.pbcor\.fits exists"):
        image(tmp_path / "small", chunked_store, niter=0, pbcor=True, products=["image"])
    assert (tmp_path / "small.image.pbcor.fits").read_text() == "somebody's"


@pytest.mark.mpi
@pytest.mark.parametrize("specmode", ["cube", "mfs"])
def test_ranks_that_share_a_blocks_leaves_give_the_bits_of_one_rank(
    mpi_tmp_path: Path, chunked_store: str, specmode: str
) -> None:
    parameters = {"niter": 40, "nmajor": 2, "weighting": "briggs", "row_groups": 7, "specmode": specmode}
    together = image(mpi_tmp_path / "together", chunked_store, world(), **parameters)
    if world().rank == 0:
        assert outcome(image(mpi_tmp_path / "alone", chunked_store, **parameters)) == outcome(together)
    on_root(world(), "comparing", lambda: compare(mpi_tmp_path))


def compare(folder: Path) -> None:
    assert hashes(folder / "together") == hashes(folder / "alone")
    assert len(hashes(folder / "alone")) == 3
