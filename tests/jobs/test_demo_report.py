"""The demo's table of measured and known numbers, on made-up products."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

REPOSITORY = Path(__file__).resolve().parents[2]
PEAK_CHANNEL = 38


def load_report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_report", REPOSITORY / "jobs" / "demo_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_report"] = module
    spec.loader.exec_module(module)
    return module


report = load_report()


def header() -> fits.Header:
    cards: dict[str, Any] = {
        "CTYPE1": "RA---SIN", "CRVAL1": 230.5, "CDELT1": -15 / 3600, "CRPIX1": 17.0, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": 5.07, "CDELT2": 15 / 3600, "CRPIX2": 17.0, "CUNIT2": "deg",
        "CTYPE3": "FREQ", "CRVAL3": 1.4127e9, "CDELT3": 24414.0625, "CRPIX3": 1.0, "CUNIT3": "Hz",
        "RESTFRQ": 1.420405752e9, "SPECSYS": "LSRK", "BUNIT": "Jy/beam",
    }  # fmt: skip
    return fits.Header(cards.items())


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Cubes with the demo's known numbers, 32 x 32 pixels, without any astronomy in them."""
    name = tmp_path / "ngc5921"
    shape = (46, 32, 32)
    signs = np.where(np.indices(shape).sum(axis=0) % 2, 1.0, -1.0)
    cubes = {product: np.zeros(shape, "f4") for product in report.PRODUCTS}
    cubes["residual"] = (1.870e-3 * signs).astype("f4")
    cubes["image"] = cubes["residual"].copy()
    cubes["image"][PEAK_CHANNEL, 16, 16] = 0.0549
    cubes["model"][PEAK_CHANNEL, 16, 16] = 3.952
    beams = fits.BinTableHDU.from_columns(
        [fits.Column("BMAJ", "E", array=np.full(46, 52.0)), fits.Column("BMIN", "E", array=np.full(46, 47.03)),
         fits.Column("BPA", "E", array=np.full(46, 4.7))], name="BEAMS")  # fmt: skip
    for product, cube in cubes.items():
        extensions = [beams] if product == "image" else []
        fits.HDUList([fits.PrimaryHDU(cube, header()), *extensions]).writeto(f"{name}.{product}.fits")
    write_convergence(name, 2455, "threshold reached")
    return name


def write_convergence(name: Path, iterations: int, stop: str) -> None:
    folder = Path(f"{name}.radps")
    folder.mkdir(exist_ok=True)
    (folder / "convergence.csv").write_text(f"cycle,total_iterations,stop\n0,0,\n2,{iterations},{stop}\n")


def test_the_known_numbers_are_near_and_channel_maps_are_drawn(
    products: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(str(products)) == 0
    printed = capsys.readouterr().out
    assert printed.count(" ok\n") == 9
    assert "FAR" not in printed
    assert f"{products}.mask.fits" in printed
    assert Path(f"{products}.image.png").read_bytes().startswith(b"\x89PNG")


def test_a_peak_two_percent_too_high_is_far(products: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fits.open(f"{products}.image.fits", mode="update") as hdus:
        hdus[0].data[PEAK_CHANNEL, 16, 16] = 0.056
    assert report.main(str(products)) == 1
    far = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAR")]
    assert len(far) == 1
    assert far[0].startswith("peak ")


@pytest.mark.parametrize(("iterations", "stop"), [(2400, "threshold reached"), (2455, "iterations used up")])
def test_another_course_of_clean_is_far(products: Path, iterations: int, stop: str) -> None:
    write_convergence(products, iterations, stop)
    assert report.main(str(products)) == 1


def test_a_residual_that_is_blank_everywhere_is_far(products: Path) -> None:
    with fits.open(f"{products}.residual.fits", mode="update") as hdus:
        hdus[0].data[:] = np.nan
    with pytest.warns(RuntimeWarning):
        assert report.main(str(products)) == 1


def test_a_missing_product_is_named(products: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"{products}.psf.fits").unlink()
    assert report.main(str(products)) == 1
    assert "missing products" in capsys.readouterr().out


def test_a_run_without_a_convergence_table_is_named(products: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(f"{products}.radps") / "convergence.csv").unlink()
    assert report.main(str(products)) == 1
    assert "convergence.csv" in capsys.readouterr().out
