"""The cube that all ranks write: read back by astropy, casacore and spectral-cube, and safe from failures."""

from __future__ import annotations

import errno
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from support.products import GEOMETRY, beams, frequency_axis, optical_axis, plane, write_cube

from radps_mpi import faults
from radps_mpi.data.geometry import ImageGeometry
from radps_mpi.errors import DataError, StorageError
from radps_mpi.io.fits_cards import history_lines
from radps_mpi.io.fits_reader import read_cube
from radps_mpi.io.fits_writer import FitsCubeWriter, footprint_bytes

QUIET_NAN = b"\x7f\xc0\x00\x00"


def open_verified(path: Path) -> fits.HDUList:
    """Open with every checksum verified and every violation of the standard an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hdus = fits.open(path, checksum=True, memmap=False)
        hdus.verify("exception")
        for hdu in hdus:
            assert hdu.data is not None
    return hdus


def test_astropy_reads_the_pixels_and_verifies_the_checksums_and_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path, beams=beams(7, [3]), blank=[3], history=["restart = true", "note = 'été'"])
    hdus = open_verified(path)
    assert hdus[0].data.shape == (1, 7, 24, 37)
    for chan in (0, 1, 2, 4, 5, 6):
        np.testing.assert_array_equal(hdus[0].data[0, chan], plane(chan, GEOMETRY.shape))
    assert np.isnan(hdus[0].data[0, 3]).all()
    assert history_lines(hdus[0].header["HISTORY"]) == ["restart = true", "note = 'été'"]
    assert path.stat().st_size % 2880 == 0
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.fault("corruption", "one flipped bit in a FITS product", "fails the checksum that any FITS reader checks")
def test_a_flipped_bit_fails_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    damaged = bytearray(path.read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    with pytest.warns(Warning, match="verification failed"):
        fits.open(path, checksum=True).close()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.booleans(), st.booleans())
def test_any_shape_down_to_one_pixel_is_a_valid_file(
    tmp_path_factory: pytest.TempPathFactory, ny: int, nx: int, nchan: int, table: bool, optical: bool
) -> None:
    path = tmp_path_factory.mktemp("shape") / "cube.fits"
    geometry = replace(GEOMETRY, nx=nx, ny=ny)
    axis = optical_axis(nchan) if optical else frequency_axis(nchan)
    write_cube(path, geometry, axis, blank=[nchan - 1], beams=beams(nchan) if table else None)
    hdus = open_verified(path)
    assert hdus[0].data.shape == (1, nchan, ny, nx)
    assert len(hdus) == 1 + table
    assert np.isnan(hdus[0].data[0, -1]).all()
    cube, _ = read_cube(path)
    for chan in range(nchan - 1):
        np.testing.assert_array_equal(cube[chan], plane(chan, geometry.shape))


def test_sums_of_weights_are_a_cube_of_one_pixel(tmp_path: Path) -> None:
    path = tmp_path / "cube.sumwt.fits"
    with FitsCubeWriter(MPI.COMM_SELF, path, replace(GEOMETRY, nx=1, ny=1), frequency_axis(), bunit="") as writer:
        for chan in range(7):
            writer.write_plane(chan, np.array([[chan + 0.5]]))
    hdu = open_verified(path)[0]
    assert hdu.data.shape == (1, 7, 1, 1)
    np.testing.assert_array_equal(hdu.data.ravel(), np.arange(7) + 0.5)
    assert (hdu.header["CRPIX1"], hdu.header["CRPIX2"]) == (1.0, 1.0)


def test_masks_become_zeros_and_ones_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "cube.mask.fits"
    mask = np.zeros(GEOMETRY.shape, np.uint8)
    mask[5:9, 7:20] = 1
    with FitsCubeWriter(MPI.COMM_SELF, path, GEOMETRY, frequency_axis(1), bunit="") as writer:
        writer.write_plane(0, mask)
    np.testing.assert_array_equal(open_verified(path)[0].data[0, 0], mask.astype(np.float32))


def test_every_nan_has_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    odd = np.array([[0x7FC00001, 0xFFC00000, 0x7F800001, 0x3F800000]], np.uint32).view(np.float32)
    with FitsCubeWriter(MPI.COMM_SELF, path, replace(GEOMETRY, nx=4, ny=1), frequency_axis(2), bunit="") as writer:
        writer.write_plane(0, odd)
    data = path.read_bytes()[-2880:]
    assert data[:32] == QUIET_NAN * 3 + b"\x3f\x80\x00\x00" + QUIET_NAN * 4


def test_a_plane_written_twice_is_that_of_the_second_time(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.fits", tmp_path / "twice.fits"
    write_cube(once)
    with FitsCubeWriter(MPI.COMM_SELF, twice, GEOMETRY, frequency_axis(), bunit="Jy/beam") as writer:
        for chan in (0, *range(7)):
            writer.write_plane(chan, plane(chan, GEOMETRY.shape) if chan else np.ones(GEOMETRY.shape))
        writer.write_plane(0, plane(0, GEOMETRY.shape))
    np.testing.assert_array_equal(open_verified(twice)[0].data, open_verified(once)[0].data)


def test_the_same_input_gives_the_same_file_at_another_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.fits", tmp_path / "b.fits"
    write_cube(first, beams=beams(7))
    write_cube(second, beams=beams(7))
    assert first.read_bytes() == second.read_bytes()


def test_a_plane_of_another_shape_or_beyond_the_axis_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="channel 7"),
        FitsCubeWriter(MPI.COMM_SELF, tmp_path / "a.fits", GEOMETRY, frequency_axis(7), bunit="") as writer,
    ):
        writer.write_plane(7, np.zeros(GEOMETRY.shape))
    with (
        pytest.raises(ValueError, match=r"\(37, 24\)"),
        FitsCubeWriter(MPI.COMM_SELF, tmp_path / "b.fits", GEOMETRY, frequency_axis(), bunit="") as writer,
    ):
        writer.write_plane(0, np.zeros(GEOMETRY.shape).T)
    assert not list(tmp_path.iterdir())


def test_casacore_opens_it_with_our_coordinates_units_and_beams(tmp_path: Path) -> None:
    images = pytest.importorskip("casacore.images")
    path = tmp_path / "cube.fits"
    axis = frequency_axis()
    write_cube(path, axis=axis, beams=beams(7, [3]), blank=[3], history=["x" * 200])
    image = images.image(str(path))
    assert image.shape() == [1, 7, 24, 37]
    assert image.unit() == "Jy/beam"
    info = image.imageinfo()
    assert (info["objectname"], info["imagetype"]) == ("N5921_2", "Intensity")
    assert info["perplanebeams"]["*3"]["major"]["value"] == pytest.approx(1e-6)
    assert info["perplanebeams"]["*5"]["major"] == {"value": pytest.approx(51.5), "unit": "arcsec"}
    spectral = image.coordinates()["spectral"]
    assert (spectral.get_frame(), spectral.get_restfrequency()) == ("LSRK", axis.restfreq_hz)
    for chan in range(7):
        _, freq_hz, dec, ra = image.toworld([0, chan, 12, 18])
        assert freq_hz == pytest.approx(axis.freq_hz[chan], rel=1e-15)
        assert (ra % (2 * np.pi), dec) == pytest.approx((GEOMETRY.ra_rad, GEOMETRY.dec_rad), abs=1e-12)
    np.testing.assert_array_equal(image.getdata([0, 5, 0, 0], [0, 5, 23, 36]).squeeze(), plane(5, GEOMETRY.shape))
    assert image.getmask([0, 3, 0, 0], [0, 3, 23, 36]).all()


def test_casacore_gives_an_optical_axis_our_frequencies(tmp_path: Path) -> None:
    images = pytest.importorskip("casacore.images")
    path = tmp_path / "cube.fits"
    axis = optical_axis()
    write_cube(path, axis=axis)
    image = images.image(str(path))
    freq_hz = [image.toworld([0, chan, 0, 0])[1] for chan in range(7)]
    np.testing.assert_allclose(freq_hz, axis.freq_hz, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_spectral_cube_has_a_beam_per_channel_and_a_common_beam_in_spite_of_a_blank_one(tmp_path: Path) -> None:
    spectral_cube = pytest.importorskip("spectral_cube")
    path = tmp_path / "cube.fits"
    axis = frequency_axis()
    write_cube(path, axis=axis, beams=beams(7, [3]), blank=[3])
    cube = spectral_cube.SpectralCube.read(path)
    assert type(cube) is spectral_cube.VaryingResolutionSpectralCube
    assert [beam.major.to_value("arcsec") for beam in cube.beams] == pytest.approx(
        [52.0, 51.9, 51.8, 1e-6, 51.6, 51.5, 51.4]
    )
    np.testing.assert_allclose(cube.spectral_axis.to_value("Hz"), axis.freq_hz, rtol=1e-12)
    assert cube.beams.common_beam().major.to_value("arcsec") == pytest.approx(52.0, rel=1e-3)


@pytest.mark.fault("disk", "an exception while a product is written", "the earlier product stays; nothing left")
def test_an_error_in_the_body_leaves_the_earlier_product_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    before = path.read_bytes()
    with (
        pytest.raises(ZeroDivisionError),
        FitsCubeWriter(MPI.COMM_SELF, path, GEOMETRY, frequency_axis(), bunit="Jy/beam") as writer,
    ):
        writer.write_plane(0, np.zeros(GEOMETRY.shape))
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["cube.fits"]


@pytest.mark.parametrize("point", ["product-before-write:3", "mid-write:5", "reserve", "product-before-rename"])
@pytest.mark.fault(
    "disk", "no space left (injected) anywhere in a product",
    "one line with what is free; the earlier product stays",
)  # fmt: skip
def test_a_full_disk_anywhere_is_one_line_and_leaves_the_earlier_product(tmp_path: Path, point: str) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path)
    before = path.read_bytes()
    faults.arm(f"{point}{'' if ':' in point else ':'}::enospc")
    try:
        with pytest.raises(StorageError, match=r"cube\.fits.*No space left on device.*free"):
            write_cube(path, beams=beams(7))
    finally:
        faults.arm("")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["cube.fits"]


@pytest.mark.fault("disk", "a product larger than the disk", "refused before a plane is written")
def test_a_cube_larger_than_the_disk_is_refused_before_a_plane_is_written(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    nchan = 2 * free // (4 * 32768**2) + 1
    with pytest.raises(StorageError, match=r"huge\.fits\.partial: .* while"):
        write_cube(tmp_path / "huge.fits", replace(GEOMETRY, nx=32768, ny=32768), frequency_axis(nchan))
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(
    "disk", "a product's directory that is missing, or a directory of its name",
    "one error that names it", times=2,
)  # fmt: skip
def test_a_missing_directory_and_a_directory_of_that_name_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write_cube(tmp_path / "nowhere" / "cube.fits")
    (tmp_path / "cube.fits").mkdir()
    with pytest.raises(StorageError, match="is a directory"):
        write_cube(tmp_path / "cube.fits")


@pytest.mark.fault(
    "disk", "a read-only file system (injected) that keeps a partial product",
    "the first error is told",
)  # fmt: skip
def test_a_disk_that_refuses_to_remove_the_partial_file_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="the first"), FitsCubeWriter(
        MPI.COMM_SELF, tmp_path / "cube.fits", GEOMETRY, frequency_axis(3), bunit="Jy/beam"
    ):  # fmt: skip
        raise StorageError("the first")


@pytest.mark.fault("hostile", "a symbolic link in place of a product's partial file", "refused; what it leads to is untouched")
def test_a_link_planted_in_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    (tmp_path / "cube.fits.partial").symlink_to(victim)
    with pytest.raises(StorageError, match="symbolic links"):
        write_cube(tmp_path / "cube.fits")
    assert victim.read_text() == "keep me"


@pytest.mark.fault("kills", "a product's partial file left by a dead run", "overwritten by a valid one")
def test_what_a_dead_run_left_behind_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    (tmp_path / "cube.fits.partial").write_bytes(b"\xff" * 100_000)
    write_cube(path)
    open_verified(path)


def test_an_axis_that_no_header_can_describe_is_refused_before_a_file_appears(tmp_path: Path) -> None:
    axis = frequency_axis()
    axis.freq_hz[2] += 1e4
    with pytest.raises(DataError):
        write_cube(tmp_path / "cube.fits", axis=axis)
    assert not list(tmp_path.iterdir())


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100_000))
def test_the_footprint_covers_the_file(ny: int, nx: int, nchan: int) -> None:
    pixels = 4 * nchan * ny * nx
    assert pixels + 20 * nchan < footprint_bytes(["image"], nchan, ny, nx) < pixels + 20 * nchan + 80_000
    assert footprint_bytes(["image", "psf"], nchan, ny, nx) == 2 * footprint_bytes(["image"], nchan, ny, nx)
    assert footprint_bytes(["sumwt"], nchan, ny, nx) == footprint_bytes(["image"], nchan, 1, 1)


def test_the_footprint_is_that_of_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    write_cube(path, beams=beams(7), history=["some line"] * 500)
    assert path.stat().st_size <= footprint_bytes(["image"], 7, *GEOMETRY.shape) <= path.stat().st_size + 5000


def test_geometry_of_any_offset_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    geometry = ImageGeometry(8, 6, 1e-5, 2e-5, -0.1, -1.2, "ICRS")
    write_cube(path, geometry)
    header = read_cube(path)[1]
    assert header["CRVAL1"] == pytest.approx(360.0 - np.degrees(0.1), rel=1e-14)
    assert header["CRVAL2"] == pytest.approx(np.degrees(-1.2), rel=1e-14)
