"""Reading images back, and their hashes."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash
from astropy.io import fits
from support.products import GEOMETRY, beams, plane, write_cube

from radps_mpi.errors import DataError
from radps_mpi.io.fits_reader import count_channels, find_image, read_cube
from radps_mpi.io.product_hash import hash_product


def test_a_cube_comes_back_in_native_float32(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    cube, header = read_cube(path)
    assert (cube.shape, cube.dtype, cube.dtype.isnative) == ((7, 24, 37), np.float32, True)
    assert header["OBJECT"] == "N5921_2"
    for chan in range(7):
        np.testing.assert_array_equal(cube[chan], plane(chan, GEOMETRY.shape))


def test_single_planes_are_those_of_the_cube_also_when_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    packed = tmp_path / "cube.fits.gz"
    with gzip.open(packed, "wb") as file:
        file.write(path.read_bytes())
    for source in (path, packed):
        assert count_channels(source) == 7
        planes, _ = read_cube(source, [5, 1])
        np.testing.assert_array_equal(planes, read_cube(path)[0][[5, 1]])


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 4, 5, 6), (4, 1, 5, 6)])
def test_images_of_two_to_four_axes_are_cubes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "image.fits"
    data = np.arange(np.prod(shape), dtype=">f8").reshape(shape)
    fits.writeto(path, data)
    expected = data.reshape(-1, 5, 6)
    np.testing.assert_array_equal(read_cube(path)[0], expected)
    np.testing.assert_array_equal(read_cube(path, [len(expected) - 1])[0], expected[-1:])


def test_what_is_no_cube_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    for data in (np.zeros(9), np.zeros((2, 3, 4, 5)), None):
        fits.PrimaryHDU(data).writeto(path, overwrite=True)
        with pytest.raises(DataError, match=r"image\.fits"):
            read_cube(path)
    polarised = fits.PrimaryHDU(np.zeros((4, 1, 5, 6)))
    polarised.header["CTYPE4"] = "STOKES"
    polarised.writeto(path, overwrite=True)
    with pytest.raises(DataError, match="4 Stokes planes"):
        read_cube(path)


@pytest.mark.fault("hostile", "a FITS mask or image that is missing, cut short or something else", "refused by name", times=5)
def test_missing_truncated_and_foreign_files_are_data_errors(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    with pytest.raises(DataError, match="No such file"):
        read_cube(path)
    write_cube(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000])
    for read in (read_cube, hash_product, find_image):
        with pytest.raises(DataError, match=r"ends .* bytes before its header says"):
            read(path)
    for text in (b"", b"\x89HDF\r\n\x1a\n" + bytes(9000), b"SIMPLE  =                    T"):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"cube\.fits"):
            hash_product(path)
        with pytest.raises(DataError, match=r"cube\.fits"):
            read_cube(path)


@pytest.mark.timeout(20, method="signal")
@pytest.mark.fault(
    "hostile", "a pipe in place of a FITS image",
    "refused; nobody waits",
)  # fmt: skip
def test_a_pipe_is_no_image_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cube.fits")
    with pytest.raises(DataError, match="is not a regular file"):
        hash_product(tmp_path / "cube.fits")


@pytest.mark.fault("hostile", "a FITS header that declares terabytes", "refused without allocating them")
def test_a_header_that_declares_terabytes_is_refused_without_allocating_them(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    text = path.read_bytes().replace(b"NAXIS3  =                    7", b"NAXIS3  =           9999999999")
    path.write_bytes(text)
    with pytest.raises(DataError, match="before its header says"):
        read_cube(path)


def test_the_hash_is_of_the_pixels_alone(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.fits" for name in "abc")
    write_cube(first, history=["run on one machine"])
    write_cube(second, history=["run on another"] * 99, beams=beams(7))
    write_cube(third, blank=[6])
    pixels = b"".join(plane(chan, GEOMETRY.shape).astype(">f4").tobytes() for chan in range(7))
    assert hash_product(first).digest == xxhash.xxh3_128_hexdigest(pixels)
    assert hash_product(second).digest == hash_product(first).digest
    assert hash_product(third).digest != hash_product(first).digest
    assert hash_product(first).line == f"{xxhash.xxh3_128_hexdigest(pixels)}  1x7x24x37  a.fits"


@pytest.mark.golden
def test_casa_products_are_read_and_hashed(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "ngc5921_briggs05_clean.image.fits.gz"
    cube, header = read_cube(golden)
    assert cube.shape == (46, 128, 128)
    assert header["SPECSYS"] == "LSRK"
    assert np.nanmax(cube) == pytest.approx(0.0549, abs=1e-4)
    plain = tmp_path / "golden.fits"
    with gzip.open(golden) as packed, open(plain, "wb") as file:
        shutil.copyfileobj(packed, file)
    assert hash_product(plain).digest == xxhash.xxh3_128_hexdigest(cube.astype(">f4").tobytes())
