"""Simulated stores: the sky that was asked for, on any number of ranks, in the form of an ingested store."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from support.imaged import image, peak_of
from support.jobs import error_lines, run_radps, succeed
from support.measurement_sets import make_set

from radps_mpi.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from radps_mpi.data.observation import ObservationMeta
from radps_mpi.errors import RadpsError
from radps_mpi.io import simulated_store
from radps_mpi.io.ingest import ingest
from radps_mpi.io.selection import Selection
from radps_mpi.io.simulated_store import plan_simulation, simulate_store
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import world
from radps_mpi.simulation.config import SimulationConfig

REST_HZ = 230.538e9
ALONG, UP = 3.0 * ARCSEC_RAD, -2.0 * ARCSEC_RAD
POINT = '[[component]]\noffset = ["3arcsec", "-2arcsec"]\nflux = 1.5\n'
SKY = POINT + """line = {peak = 0.7, velocity = "2km/s", fwhm = "40km/s"}
[[component]]
kind = "gaussian"
offset = ["-4arcsec", "1arcsec"]
size = ["4arcsec", "2arcsec", "30deg"]
flux = "0.3Jy"
spectral_index = 2.0
"""
SMALL = {"nantenna": 6, "max_baseline": "300m", "nchan": 5, "nintegration": 7, "integration": "60s", "width": "10MHz",
         "restfreq": "230.538GHz"}  # fmt: skip


def make(folder: Path, sky: str = SKY, row_chunk: int = 40, slab_bytes: int = 1 << 20, **parameters: Any) -> VisibilityStore:
    """A store with several chunks, written by this process."""
    (folder / "sky.toml").write_text(sky)
    simulation = plan_simulation(MPI.COMM_SELF, SimulationConfig.from_flat(SMALL | parameters), folder / "sky.toml")
    path = folder / "sim.vis.h5"
    simulate_store(MPI.COMM_SELF, simulation, path, row_chunk=row_chunk, slab_bytes=slab_bytes)
    return VisibilityStore.open(path)


def direct_sum(store: VisibilityStore) -> np.ndarray:
    """(nchan, nrow): SKY, term by term, in numpy."""
    meta, rows = store.observations[0], store.read_rows(0, 0, 99)
    lsrk = store.read_times(0)[1][:, 1][rows.time_index]
    total = np.zeros((meta.nchan, meta.nrow), complex)
    for channel, freq_hz in enumerate(meta.freq_hz):
        u, v, w = rows.uvw_m.T * freq_hz / SPEED_OF_LIGHT_M_S
        velocity = SPEED_OF_LIGHT_M_S * (1.0 - freq_hz * lsrk / REST_HZ)
        flux = 1.5 + 0.7 * np.exp(-4.0 * np.log(2.0) * ((velocity - 2e3) / 40e3) ** 2)
        n_1 = np.sqrt(1.0 - ALONG**2 - UP**2) - 1.0
        total[channel] += flux * np.exp(2j * np.pi * (u * ALONG + v * UP + w * n_1))
        l, m = -4.0 * ARCSEC_RAD, 1.0 * ARCSEC_RAD  # noqa: E741
        s, c = np.sin(np.radians(30.0)), np.cos(np.radians(30.0))
        major, minor = (u * s + v * c) * 4.0 * ARCSEC_RAD, (u * c - v * s) * 2.0 * ARCSEC_RAD
        taper = np.exp(-np.pi**2 / (4.0 * np.log(2.0)) * (major**2 + minor**2))
        n_1 = np.sqrt(1.0 - l * l - m * m) - 1.0
        flux = 0.3 * (freq_hz / (0.5 * (meta.freq_hz[0] + meta.freq_hz[-1]))) ** 2
        total[channel] += flux * taper * np.exp(2j * np.pi * (u * l + v * m + w * n_1))
    return total


@pytest.mark.parametrize("frame", ["TOPO", "LSRK"])
def test_both_hands_see_the_sky_summed_directly_and_cross_hands_nothing(tmp_path: Path, frame: str) -> None:
    with make(tmp_path, npol=4, frame=frame) as store:
        meta, vis = store.observations[0], store.read(0, 0, 5, 0, 99)
        assert (meta.corr_types, meta.frequency_frame, meta.nchunk) == (("XX", "XY", "YX", "YY"), frame, 3)
        expected = direct_sum(store)
    assert np.ptp(np.abs(expected)) > 0.5
    np.testing.assert_allclose(vis[:, 0], expected, rtol=0, atol=3e-7)
    np.testing.assert_array_equal(vis[:, 3], vis[:, 0])
    assert not vis[:, 1:3].any()


def test_rows_are_sorted_as_ingest_sorts_them_and_slabs_do_not_show(tmp_path: Path) -> None:
    with make(tmp_path, noise="1mJy", flagged=0.1) as store:
        meta, fingerprint = store.observations[0], store.fingerprint()
        rows = [store.read_rows(0, chunk, chunk + 1) for chunk in range(meta.nchunk)]
    assert [sorted(r.source_row.tolist()) for r in rows] == [list(range(40)), list(range(40, 80)), list(range(80, 105))]
    assert any(np.diff(r.source_row).min() < 0 for r in rows)
    assert (rows[0].antenna1 < rows[0].antenna2).all()
    with make(tmp_path, noise="1mJy", flagged=0.1, slab_bytes=1) as again:
        assert again.fingerprint() == fingerprint


def test_noise_has_the_rms_asked_for_and_the_weight_that_goes_with_it(tmp_path: Path) -> None:
    with make(tmp_path, "", noise="20mJy", nantenna=20, nchan=10, npol=1, telescope="VLA") as store:
        meta = store.observations[0]
        vis, weight = store.read(0, 0, 10, 0, 99), store.read_weight(0, 0, 10, 0, 99)
    assert meta.corr_types == ("RR",)
    for part in (vis.real, vis.imag):
        assert part.std() == pytest.approx(0.02, rel=5.0 / np.sqrt(2 * vis.size))
        assert abs(part.mean()) < 5.0 * 0.02 / np.sqrt(vis.size)
    np.testing.assert_allclose(weight, 2500.0, rtol=1e-6)


def test_noise_and_blanks_stay_with_their_rows_when_the_sky_changes(tmp_path: Path) -> None:
    with make(tmp_path, "", noise="20mJy", flagged=0.2, nans=0.1) as empty:
        noise = empty.read(0, 0, 5, 0, 99)
        report, samples = empty.observations[0].report, empty.observations[0].samples
    with make(tmp_path, noise="20mJy", flagged=0.2, nans=0.1) as full:
        vis, expected = full.read(0, 0, 5, 0, 99), direct_sum(full)
    np.testing.assert_allclose((vis - noise)[:, 1], np.where(np.isnan(noise[:, 1]), np.nan, expected), rtol=0, atol=1e-6)
    assert report.samples == noise.size == 5 * 2 * 105
    assert report.flag_samples / noise.size == pytest.approx(0.2, abs=0.05)
    assert report.nonfinite_samples / noise.size == pytest.approx(0.08, abs=0.035), "those that aren't flagged too"
    assert report.good_samples == samples.sum() == np.isfinite(noise).sum()


def test_a_set_flagged_altogether_is_blank(tmp_path: Path) -> None:
    with make(tmp_path, flagged=1.0) as store:
        assert np.isnan(store.read(0, 0, 5, 0, 99)).all()
        assert store.observations[0].report.blank_channels == 5


@pytest.mark.launches_mpi
def test_any_number_of_ranks_writes_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "sky.toml").write_text(SKY)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    fingerprints = set()
    for ranks in (1, 2, 3):
        out = tmp_path / f"{ranks}.vis.h5"
        noise = ["--noise", "5mJy", "--flagged=0.1", "--nans=0.1"]
        succeed(["simulate", tmp_path / "sky.toml", "-o", out, *options, *noise], ranks)
        with VisibilityStore.open(out) as store:
            store.verify(0, 0, 5)
            fingerprints.add(store.fingerprint())
    assert len(fingerprints) == 1


@pytest.mark.mpi
def test_more_ranks_than_channels_write_the_right_data(mpi_tmp_path: Path) -> None:
    simulation = plan_simulation(world(), SimulationConfig.from_flat(SMALL | {"nchan": 1, "noise": "1Jy"}))
    meta = simulate_store(world(), simulation, mpi_tmp_path / "a.vis.h5", row_chunk=40)
    alone = simulate_store(MPI.COMM_SELF, simulation, mpi_tmp_path / f"{world().rank}.vis.h5", row_chunk=40)
    assert not differing_fields(meta, alone)
    with VisibilityStore.open(mpi_tmp_path / "a.vis.h5") as one, \
            VisibilityStore.open(mpi_tmp_path / f"{world().rank}.vis.h5") as other:
        assert one.fingerprint() == other.fingerprint()


@pytest.mark.mpi
@pytest.mark.fault("ranks", "no memory left on one rank of a simulation", "all ranks raise; nothing left")
def test_a_failure_on_one_rank_is_everyones_and_leaves_nothing(mpi_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = plan_simulation(world(), SimulationConfig.from_flat(SMALL))

    def broken(*_: object) -> None:
        raise MemoryError("the memory is full")

    if world().rank == world().size - 1:
        monkeypatch.setattr(simulated_store, "visibilities", broken)
    with pytest.raises((RadpsError, MemoryError), match="the memory is full"):
        simulate_store(world(), simulation, mpi_tmp_path / "a.vis.h5")
    world().Barrier()
    assert list(mpi_tmp_path.iterdir()) == []


@pytest.mark.launches_mpi
def test_errors_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "sky.toml").write_text("[[component]]\nflx = 1")
    done = run_radps(["simulate", tmp_path / "sky.toml", "-o", tmp_path / "a.vis.h5"], ranks=2)
    assert done.returncode == 65
    assert error_lines(done) == [f"radps: error: {tmp_path}/sky.toml: component 0: unknown name 'flx' (did you mean 'flux'?)"]
    assert list(tmp_path.iterdir()) == [tmp_path / "sky.toml"]


def test_radps_image_finds_the_point_with_its_flux_and_place(tmp_path: Path) -> None:
    with make(tmp_path, POINT, nantenna=20, nchan=2, hour_angles=("-2h", "2h"), integration="600s", noise="1mJy",
              nintegration=-1) as store:  # fmt: skip
        path = store.path
    made = image(tmp_path / "cube", path, imsize=128, cell="0.25arcsec", niter=200)
    plane = made.planes()[1]
    x, y, height = peak_of(plane)
    assert (x, y) == (pytest.approx(64 - 12, abs=0.05), pytest.approx(64 - 8, abs=0.05))
    assert height == pytest.approx(1.5, abs=0.01)


# MeasurementSets -----------------------------------------------------------------------------------------------------


def differing_fields(one: ObservationMeta, other: ObservationMeta) -> list[str]:
    pairs = ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return [name for name, a, b in pairs if not (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)]


@pytest.mark.parametrize("parameters", [
    {"noise": "5mJy", "flagged": 0.1, "nans": 0.05, "npol": 4},
    {"frame": "LSRK", "telescope": "VLA", "restfreq": "", "nchan": 1},
    {"direction": "ICRS 3h00m00 -20d00m00", "npol": 1},
])
def test_the_measurement_set_ingests_to_the_bits_of_the_store(tmp_path: Path, parameters: dict[str, Any]) -> None:
    from radps_mpi.io.simulation_outputs import simulate

    (tmp_path / "sky.toml").write_text(POINT)
    config = SimulationConfig.from_flat(SMALL | parameters)
    simulate(MPI.COMM_SELF, config, tmp_path / "sky.toml", tmp_path / "a.vis.h5", tmp_path / "a.ms")
    ingest(MPI.COMM_SELF, [str(tmp_path / "a.ms")], [Selection()], tmp_path / "b.vis.h5")
    with VisibilityStore.open(tmp_path / "a.vis.h5") as simulated, VisibilityStore.open(tmp_path / "b.vis.h5") as ingested:
        assert differing_fields(simulated.observations[0], ingested.observations[0]) == ["source"]
        for name, table in simulated.checksum_tables(0).items():
            np.testing.assert_array_equal(ingested.checksum_tables(0)[name], table, err_msg=name)
        for one, other in zip(simulated.read_times(0), ingested.read_times(0), strict=True):
            np.testing.assert_array_equal(other, one)


def test_the_measurement_set_keeps_its_columns_as_sets_of_alma_do(tmp_path: Path) -> None:
    from casacore.tables import table

    from radps_mpi.io.simulation_outputs import simulate

    (tmp_path / "sky.toml").write_text(POINT)
    simulate(MPI.COMM_SELF, SimulationConfig.from_flat(SMALL), tmp_path / "sky.toml", None, tmp_path / "a.ms")
    with table(str(tmp_path / "a.ms"), ack=False) as main:
        kept = {column: manager["TYPE"] for manager in main.getdminfo().values() for column in manager["COLUMNS"]}
        untouched = [main.getcol(name) for name in ("ARRAY_ID", "FEED1", "FIELD_ID", "FLAG_ROW", "STATE_ID")]
        nrow = main.nrows()
    assert kept["TIME"] == kept["FLAG_ROW"] == "IncrementalStMan" and kept["ANTENNA1"] == "StandardStMan"
    assert kept["UVW"] == kept["DATA"] == "TiledColumnStMan" and kept["WEIGHT"] == "TiledShapeStMan"
    assert all(len(values) == nrow and not values.any() for values in untouched)


@pytest.mark.launches_mpi
def test_a_measurement_set_alone_leaves_no_store_and_an_old_one_is_kept(tmp_path: Path) -> None:
    command = ["simulate", "--ms", f"{tmp_path}/a.ms/", "--nantenna=4", "--nchan=3", "--nintegration=2"]
    succeed(command, ranks=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ms"]
    kept = make_set(tmp_path / "b.ms")
    done = run_radps([*command[:2], kept, *command[3:]], ranks=2)
    assert done.returncode == 64
    assert "b.ms: it exists already" in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.ms", "b.ms"]


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "nothing to write"),
    (["-o", "a.vis.h5", "--npol", "3"], "--npol = 3"),
    (["-o", "a.vis.h5", "--hour-angles", "1h", "-1h"], "--hour-angles"),
    (["-o", "a.vis.h5", "--width", "-1MHz"], "--width"),
    (["-o", "a.vis.h5", "--date", "yesterday"], "--date"),
    (["-o", "a.vis.h5", "--flagged", "1.5"], "--flagged"),
    (["-o", "a.vis.h5", "--max-baseline", "500"], "--max-baseline: '500' has no unit"),
])
def test_options_that_cannot_be_meant_are_refused(
        arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from radps_mpi.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *arguments]) == 64
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
