"""What ingest does to rows, channels and bad data, against MeasurementSets of known content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from casacore.tables import table
from support.measurement_sets import (
    FREQ_HZ,
    add_float_data,
    change,
    data_of,
    make_set,
    remove_column,
    uvw_of,
)

from radps_mpi import alarm
from radps_mpi.errors import DataError, OutOfTimeError, StorageError, UsageError
from radps_mpi.io import ingest_turn
from radps_mpi.io.ingest import ingest, report_lines
from radps_mpi.io.selection import Selection
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import world

NROW_ALL, NROW = 90, 60
"""Rows of the made set with 5 antennas at 6 times, with and without autocorrelations."""


def store_of(source: Path, path: Path, *, row_chunk: int = 16, memory_bytes: int = 1 << 30,
             **selection: str) -> VisibilityStore:  # fmt: skip
    ingest(world(), [str(source)], [Selection(**selection)], path, row_chunk=row_chunk, memory_bytes=memory_bytes)
    return VisibilityStore.open(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("original") / "made.ms")


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Path:
    """A set of its own for a test to spoil."""
    return Path(shutil.copytree(original, tmp_path / "made.ms"))


def everything(store: VisibilityStore, obs: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    meta = store.observations[obs]
    return (store.read_rows(obs, 0, meta.nchunk), store.read(obs, 0, meta.nchan, 0, meta.nchunk),
            store.read_weight(obs, 0, meta.nchan, 0, meta.nchunk))  # fmt: skip


def expected_vis(rows: np.ndarray, npol: int = 2) -> np.ndarray:
    return data_of(rows, 8, npol).astype(np.complex64).transpose(1, 2, 0)


def test_every_sample_is_where_its_source_row_says(made: Path, tmp_path: Path) -> None:
    with store_of(made, tmp_path / "a.vis.h5") as store:
        rows, vis, weight = everything(store)
        meta = store.observations[0]
    assert sorted(rows.source_row) == sorted(set(rows.source_row)) and len(rows.source_row) == NROW
    np.testing.assert_array_equal(vis, expected_vis(rows.source_row))
    np.testing.assert_array_equal(rows.uvw_m, uvw_of(rows.source_row))
    np.testing.assert_array_equal(weight, np.tile(1.0 + rows.source_row % 7, (2, 1)))
    np.testing.assert_array_equal(meta.freq_hz, FREQ_HZ)
    assert (rows.antenna1 < rows.antenna2).all()
    assert meta.report.autocorrelation_rows == NROW_ALL - NROW
    assert meta.report.good_samples == meta.report.samples == NROW * 8 * 2
    assert (meta.telescope, meta.frequency_frame, meta.corr_types) == ("ALMA", "TOPO", ("XX", "YY"))
    assert len(report_lines(meta)) == 2


def test_neither_memory_budget_nor_bands_change_the_store(made: Path, tmp_path: Path) -> None:
    with (store_of(made, tmp_path / "a.vis.h5") as roomy,
          store_of(made, tmp_path / "b.vis.h5", memory_bytes=1) as tight):  # fmt: skip
        assert roomy.fingerprint() == tight.fingerprint()


def test_a_real_set_holds_the_values_that_casacore_reads(dataset: Callable[[str], Path], tmp_path: Path) -> None:
    source = dataset("1102865728_small.ms")
    with store_of(source, tmp_path / "a.vis.h5", row_chunk=1000) as store:
        rows, vis, weight = everything(store)
    with table(str(source), ack=False) as main:
        data, flag, spectrum = (main.getcol(name)[rows.source_row].transpose(1, 2, 0)
                                for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"))  # fmt: skip
        uvw = main.getcol("UVW")[rows.source_row]
    good = ~flag & (spectrum > 0) & np.isfinite(data)
    np.testing.assert_array_equal(np.isnan(vis), ~good)
    np.testing.assert_array_equal(vis[good], data[good])
    np.testing.assert_array_equal(weight[good], spectrum[good])
    np.testing.assert_array_equal(rows.uvw_m, uvw)


def test_rows_are_sorted_along_a_curve_that_keeps_neighbours_together(tmp_path: Path) -> None:
    source = make_set(tmp_path / "many.ms", nantenna=20, ntime=8)
    with store_of(source, tmp_path / "a.vis.h5", row_chunk=4096) as store:
        uv = store.read_rows(0, 0, 1).uvw_m[:, :2]
    uv = uv * np.where(uv[:, :1] < 0, -1.0, 1.0)
    steps = np.hypot(*np.diff(uv, axis=0).T)
    unsorted = uvw_of(np.arange(len(uv)))[:, :2]
    assert steps.mean() < 0.2 * np.hypot(*np.diff(unsorted, axis=0).T).mean()


def test_descending_channels_are_reversed_and_counted(tmp_path: Path) -> None:
    source = make_set(tmp_path / "down.ms", freq_hz=FREQ_HZ[::-1].copy())
    with store_of(source, tmp_path / "a.vis.h5", spw="0:1~6", memory_bytes=1) as store:
        rows, vis, _ = everything(store)
        meta = store.observations[0]
    np.testing.assert_array_equal(meta.freq_hz, FREQ_HZ[1:7])
    assert (meta.width_hz > 0).all()
    np.testing.assert_array_equal(vis, expected_vis(rows.source_row)[::-1][1:7])
    assert meta.report.descending_channels == 6 and meta.first_channel == 6


def test_swapped_antennas_are_conjugated_with_cross_hands_exchanged(tmp_path: Path) -> None:
    source = make_set(tmp_path / "four.ms", correlations=("XX", "XY", "YX", "YY"))
    with table(str(source), ack=False) as main:
        antenna1, antenna2 = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
    turned = np.flatnonzero(antenna1 != antenna2)[::3]
    change(source, "ANTENNA1", turned, antenna2[turned])
    change(source, "ANTENNA2", turned, antenna1[turned])
    with store_of(source, tmp_path / "a.vis.h5") as store:
        rows, vis, _ = everything(store)
        assert store.observations[0].report.swapped_rows == len(turned)
    expected = expected_vis(rows.source_row, 4)
    here = np.isin(rows.source_row, turned)
    expected[:, :, here] = expected[:, [0, 2, 1, 3]][:, :, here].conj()
    np.testing.assert_array_equal(vis, expected)
    np.testing.assert_array_equal(rows.uvw_m[here], -uvw_of(rows.source_row[here]))
    assert (rows.antenna1 < rows.antenna2).all()


@pytest.mark.fault("data", "rows out of order and twice", "kept and counted")
def test_unsorted_and_duplicate_rows_are_kept_and_counted(made: Path, tmp_path: Path) -> None:
    with table(str(made), ack=False) as main:
        time, antenna1, antenna2 = (main.getcol(name) for name in ("TIME", "ANTENNA1", "ANTENNA2"))
    cross = np.flatnonzero(antenna1 != antenna2)
    change(made, "TIME", cross[40:50], time[cross[0]])  # the fifth time becomes the first one: baselines come again
    with store_of(made, tmp_path / "a.vis.h5") as store:
        meta = store.observations[0]
        times, _ = store.read_times(0)
        rows = store.read_rows(0, 0, meta.nchunk)
    assert meta.report.rows == NROW
    assert meta.report.duplicate_rows == 10
    assert meta.report.unsorted_rows == 1
    assert len(times) == 5 and (np.diff(times) > 0).all()
    assert times[rows.time_index[rows.source_row == cross[45]]][0] == time[cross[0]]


@pytest.mark.fault("data", "bad flags, weights, data and uvw in single rows", "blanked, counted by reason", times=8)
def test_bad_samples_are_blanked_and_counted_by_reason(made: Path, tmp_path: Path) -> None:
    with table(str(made), ack=False) as main:
        cross = np.flatnonzero(main.getcol("ANTENNA1") != main.getcol("ANTENNA2"))
    change(made, "FLAG_ROW", cross[0], True)
    change(made, "FLAG", (cross[1], 3, 1), True)
    change(made, "WEIGHT", cross[2], [np.inf, 1.0])
    change(made, "WEIGHT", cross[3], [-1.0, np.nan])
    change(made, "WEIGHT", cross[4], [0.0, 2.0])
    change(made, "DATA", (cross[5], 2, 0), np.nan)
    change(made, "DATA", (cross[6], 7, 1), complex(1.0, np.inf))
    change(made, "UVW", cross[7], [np.nan, 1.0, 1.0])
    with store_of(made, tmp_path / "a.vis.h5") as store:
        rows, vis, weight = everything(store)
        meta = store.observations[0]
    report = meta.report
    assert report.row_flag_samples == 2 * 16 and report.bad_uvw_rows == 1
    assert report.flag_samples == 1
    assert report.bad_weight_samples == 3 * 8 and report.zero_weight_samples == 8
    assert report.nonfinite_samples == 2
    assert np.isnan(vis).sum() == report.samples - report.good_samples
    assert np.isfinite(rows.uvw_m).all() and np.isfinite(weight).all() and (weight >= 0).all()
    np.testing.assert_array_equal(meta.samples, np.isfinite(vis).sum(axis=2))


@pytest.mark.fault("data", "spectral weights NaN in one channel", "blanked and counted; the other hand is kept")
def test_spectral_weights_are_taken_channel_by_channel(tmp_path: Path) -> None:
    source = make_set(tmp_path / "spectral.ms", spectral_weight=True)
    change(source, "WEIGHT_SPECTRUM", (slice(None), 4, 0), np.nan)
    with store_of(source, tmp_path / "a.vis.h5") as store:
        rows, vis, weight = everything(store)
        assert store.observations[0].weight_column == "WEIGHT_SPECTRUM"
        assert store.observations[0].report.bad_weight_samples == NROW
    expected = 1.0 + rows.source_row % 7 + np.arange(8)[:, None, None] * np.ones((1, 2, 1))
    expected[4, 0] = 0.0
    np.testing.assert_array_equal(weight, expected)
    assert np.isnan(vis[4, 0]).all() and np.isfinite(vis[4, 1]).all()


@pytest.mark.fault("data", "a set flagged altogether, radps ingest", "blank channels, counted")
def test_a_set_that_is_flagged_altogether_gives_blank_channels(made: Path, tmp_path: Path) -> None:
    change(made, "FLAG", slice(None), True)
    with store_of(made, tmp_path / "a.vis.h5") as store:
        meta = store.observations[0]
        assert meta.report.blank_channels == 8 and list(meta.blank_channels()) == list(range(8))
        assert np.isnan(store.read(0, 0, 8, 0, meta.nchunk)).all()


def test_channels_between_chosen_ones_are_blank(made: Path, tmp_path: Path) -> None:
    with store_of(made, tmp_path / "a.vis.h5", spw="0:1~2;5") as store:
        meta = store.observations[0]
        np.testing.assert_array_equal(meta.freq_hz, FREQ_HZ[1:6])
        np.testing.assert_array_equal(meta.blank_channels(), [2, 3])


@pytest.mark.parametrize(("selection", "rows"), [
    ({"scan": "1"}, 20), ({"scan": ">1"}, 40), ({"antenna": "DA41&DA42"}, 6), ({"antenna": "!0"}, 36),
    ({"intent": "*TARGET*"}, 30), ({"intent": "OBSERVE_CHECK#ON_SOURCE"}, 30), ({"observation": "0"}, 60),
    ({"timerange": "02:40:00~02:40:19"}, 20), ({"field": "field0"}, 60), ({"spw": "band"}, 60),
])  # fmt: skip
def test_row_selections_take_the_rows_they_name(made: Path, tmp_path: Path, selection: dict[str, str], rows: int) -> None:
    with store_of(made, tmp_path / "a.vis.h5", **selection) as store:
        assert store.observations[0].nrow == rows


def test_uv_range_counts_metres_or_wavelengths(made: Path, tmp_path: Path) -> None:
    wavelength = 299792458.0 / FREQ_HZ[0]
    for text, limit_m in (("<90m", 90.0), ("<0.4klambda", 400 * wavelength)):
        with store_of(made, tmp_path / "a.vis.h5", uvrange=text) as store:
            uv = np.hypot(*store.read_rows(0, 0, 9).uvw_m[:, :2].T)
            every = np.hypot(*uvw_of(np.arange(NROW_ALL))[:, :2].T)
        assert uv.max() <= limit_m
        assert len(uv) == ((every <= limit_m) & np.tile(np.subtract(*np.triu_indices(5)) != 0, 6)).sum()


@pytest.mark.parametrize(("selection", "says"), [
    ({"field": "feild0"}, r"made.ms: field 'feild0': nothing is called 'feild0' \(did you mean 'field0'\?\)"),
    ({"spw": "3"}, "spw '3': 3 selects nothing"), ({"spw": "0:20~30"}, "window 0 has no channel 20~30; it has 0 to 7"),
    ({"spw": "0:2~3GHz"}, "no channel in 2~3GHz"), ({"antenna": "DA4"}, "antenna 'DA4': nothing is called"),
    ({"intent": "TARGET"}, "no intent matches"), ({"timerange": "yesterday"}, "is not a time"),
    ({"uvrange": "5"}, "is not a uv range"), ({"scan": "a"}, "is not a number"), ({"observation": "7"}, "selects nothing"),
    ({"datacolumn": "corected"}, r"did you mean 'corrected'\?"),
])  # fmt: skip
def test_a_selection_of_what_is_not_there_is_a_usage_error(made: Path, tmp_path: Path, selection: dict[str, str],
                                                           says: str) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=says):
        store_of(made, tmp_path / "a.vis.h5", **selection)
    assert list(tmp_path.glob("*.h5*")) == []


def test_several_sets_with_several_fields_become_one_observation_each(tmp_path: Path) -> None:
    one, two = make_set(tmp_path / "one.ms", fields=2), make_set(tmp_path / "two.ms", fields=3)
    ingest(world(), [str(one), str(two)], [Selection(), Selection(field="1~2")], tmp_path / "a.vis.h5")
    with VisibilityStore.open(tmp_path / "a.vis.h5") as store:
        found = [(m.source_index, m.field_id, m.nrow) for m in store.observations]
        assert found == [(0, 0, 30), (0, 1, 30), (1, 1, 20), (1, 2, 20)]
        assert store.observations[2].direction_rad == pytest.approx((1.001, -0.4), abs=1e-15)


def test_corrected_data_are_preferred_and_named(tmp_path: Path) -> None:
    source = make_set(tmp_path / "both.ms", data_columns=("DATA", "CORRECTED_DATA"))
    change(source, "CORRECTED_DATA", slice(None), 5.0)
    for choice, column, value in (("auto", "CORRECTED_DATA", 5.0), ("data", "DATA", None),
                                  ("corrected", "CORRECTED_DATA", 5.0)):  # fmt: skip
        with store_of(source, tmp_path / "a.vis.h5", datacolumn=choice) as store:
            assert store.observations[0].data_column == column
            assert (store.read(0, 0, 1, 0, 1) == 5.0).all() == (value is not None)


def test_an_ephemeris_field_is_marked(made: Path, tmp_path: Path) -> None:
    change(made, "NUM_POLY", 0, 1, "FIELD")
    with table(f"{made}/FIELD", readonly=False, ack=False) as field:
        field.putcell("PHASE_DIR", 0, np.array([[1.0, -0.4], [1e-9, 0.0]]))
    with store_of(made, tmp_path / "a.vis.h5") as store:
        assert store.observations[0].ephemeris


def _drop(column: str) -> Callable[[Path], None]:
    return lambda path: remove_column(path, column)


def _single_dish(path: Path) -> None:
    remove_column(path, "DATA")
    add_float_data(path)


def _truncate_data(path: Path) -> None:
    with table(str(path), ack=False) as main:
        info = main.getdminfo("DATA")
    for name in path.glob(f"table.f{info['SEQNR']}*"):
        with open(name, "r+b") as file:
            file.truncate(100)


def _truncate_description(path: Path) -> None:
    with open(path / "table.dat", "r+b") as file:
        file.truncate(300)


@pytest.mark.parametrize(("break_it", "says"), [
    (_drop("DATA"), "column DATA is missing"), (_drop("UVW"), "column UVW is missing"),
    (_drop("FLAG"), "column FLAG is missing"), (_drop("WEIGHT"), "column WEIGHT is missing"),
    (_single_dish, "FLOAT_DATA"), (_truncate_data, r"column \w+ can't be read"),
    (_truncate_description, "table.dat can't be read"),
    (lambda path: shutil.rmtree(path / "ANTENNA"), "ANTENNA: no such MeasurementSet or table"),
    (lambda path: change(path, "MEAS_FREQ_REF", 0, 0, "SPECTRAL_WINDOW"), "MEAS_FREQ_REF of window 0 is REST"),
    (lambda path: change(path, "ANTENNA2", 3, 77), "column ANTENNA2 has ids outside"),
    (lambda path: change(path, "FEED1", 0, 0) or (path / "table.dat").unlink(), "not a casacore table"),
])  # fmt: skip
@pytest.mark.fault(
    "data", "missing columns, tables cut short or missing, wrong ids and frames, replacing an older store",
    "one line naming set and column; the older store is untouched",
)  # fmt: skip
def test_a_broken_set_is_one_clear_line_and_leaves_an_older_store_alone(made: Path, tmp_path: Path, says: str,
                                                                        break_it: Callable[[Path], Any]) -> None:  # fmt: skip
    store = tmp_path / "a.vis.h5"
    store.write_bytes(b"an older store")
    break_it(made)
    with pytest.raises(DataError, match=says) as caught:
        store_of(made, store)
    assert str(made) in str(caught.value) and "\n" not in str(caught.value)
    assert store.read_bytes() == b"an older store"
    assert not store.with_name("a.vis.h5.partial").exists()


@pytest.mark.fault("data", "a set without rows, radps ingest", "refused in one line")
def test_a_set_without_rows_is_refused(tmp_path: Path) -> None:
    source = make_set(tmp_path / "empty.ms", ntime=0)
    with pytest.raises(DataError, match="no rows are selected: the MeasurementSet has no rows"):
        store_of(source, tmp_path / "a.vis.h5")


# Going on with what an earlier job has left --------------------------------------------------------------------------


@pytest.fixture
def stopped(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store will be of an ingest that was stopped behind two of its four chunks."""
    monkeypatch.setattr("radps_mpi.parallel.stints.alarm.asked", lambda: "SIGUSR1" if turned(tmp_path) >= 2 else "")
    with pytest.raises(OutOfTimeError):
        store_of(made, tmp_path / "a.vis.h5")
    monkeypatch.undo()
    assert progress_of(tmp_path)["observations"][0]["chunks"] == 2
    return tmp_path / "a.vis.h5"


def turned(folder: Path) -> int:
    """Chunks of the unfinished store that have a checksum."""
    with h5py.File(folder / "a.vis.h5.partial", "r") as file:
        return int(file["observation_00000/row_checksum"][...].any(axis=1).sum())


def progress_of(folder: Path) -> Any:
    return json.loads((folder / "a.vis.h5.partial.progress").read_text().splitlines()[0])


def chunks_turned(monkeypatch: pytest.MonkeyPatch, made: Path, path: Path) -> int:
    """How many chunks finishing the ingest takes; what comes of it is what comes of one in a go."""
    done = []
    real = ingest_turn.write_rows
    monkeypatch.setattr(ingest_turn, "write_rows", lambda *args: (done.append(args), real(*args)))
    with store_of(made, path) as store, store_of(made, path.with_name("straight.vis.h5")) as straight:
        assert store.fingerprint() == straight.fingerprint()
        store.verify(0, 0, 8)
    assert sorted(p.name for p in path.parent.glob("*.h5*")) == ["a.vis.h5", "straight.vis.h5"]
    return len(done) - 4


@pytest.mark.fault(
    "time", "SIGUSR1 heard (injected) behind the second of four chunks of an ingest",
    "goes on behind them to the same store",
)  # fmt: skip
def test_an_ingest_goes_on_behind_the_chunks_that_are_done(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chunks_turned(monkeypatch, made, stopped) == 2


@pytest.mark.parametrize("table_name", ["SPECTRAL_WINDOW", "FIELD", "ANTENNA"])
@pytest.mark.fault("data", "a subtable changed between a stopped ingest and the next", "starts over, to the same store")
def test_a_subtable_that_has_changed_makes_ingest_start_over(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch, table_name: str
) -> None:
    data = made / table_name / "table.f0"
    os.utime(data, ns=(1, 1))
    assert chunks_turned(monkeypatch, made, stopped) == 4


def test_a_lock_that_a_reader_has_written_changes_nothing(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "table.lock").touch()
    assert chunks_turned(monkeypatch, made, stopped) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "junk", "device"])
@pytest.mark.fault(
    "corruption", "an ingest's progress with a changed digit, cut short, rubbish, or a device in its place",
    "starts over, to the same store",
)  # fmt: skip
def test_damaged_progress_makes_ingest_start_over(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = stopped.with_name(stopped.name + ".partial.progress")
    text = path.read_bytes()
    if damage == "device":
        path.unlink()
        path.symlink_to("/dev/zero")
    else:
        digit = text.index(b'"chunks": 2') + len(b'"chunks": ')
        flipped = text[:digit] + b"3" + text[digit + 1 :]
        path.write_bytes({"flip": flipped, "cut": text[:-20], "junk": b"\xff\n[["}[damage])
    assert chunks_turned(monkeypatch, made, stopped) == 4


def test_every_long_part_of_an_ingest_says_that_it_gets_on(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(alarm, "beat", lambda doing, *, waiting=False: said.append(doing.split()[0]))
    ingest(world(), [str(made)], [Selection()], made.with_name("heard.vis.h5"))
    assert {"scanning", "listing", "converting", "turning", "counting"} <= set(said)


@pytest.mark.fault("corruption", "a torn list of rows in an unfinished store", "starts over, to the same store")
def test_a_list_of_rows_that_was_torn_makes_ingest_start_over(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(stopped.with_name(stopped.name + ".partial"), "r+") as file:
        rows = file["observation_00000/source_row"]
        rows[33] = rows[34]  # half of the chunk's in the order of the store, half as they were listed
    assert chunks_turned(monkeypatch, made, stopped) == 4


@pytest.mark.parametrize("bit", [0, 3, 5, 20, 62])
@pytest.mark.fault("corruption", "a bit of the list of rows of an unfinished store", "starts over, to the same store")
def test_a_bit_of_the_list_of_rows_makes_ingest_start_over(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch, bit: int
) -> None:
    with h5py.File(stopped.with_name(stopped.name + ".partial"), "r+") as file:
        rows = file["observation_00000/source_row"]
        rows[35] ^= 1 << bit  # of the third chunk: another row, or none
    assert chunks_turned(monkeypatch, made, stopped) == 4


@pytest.mark.fault("corruption", "an unfinished store cut short", "starts over, to the same store")
def test_an_unfinished_store_that_is_damaged_makes_ingest_start_over(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(stopped.with_name(stopped.name + ".partial"), 1000)
    assert chunks_turned(monkeypatch, made, stopped) == 4


@pytest.mark.fault(
    "disk", "an error of storage (injected) when an ingest is to be finished",
    "the next goes on behind the chunks that were done",
)  # fmt: skip
def test_a_file_system_that_refuses_costs_no_chunk_that_was_done(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="full"):
        patch.setattr("radps_mpi.io.ingest.finish", full)
        store_of(made, stopped)
    assert chunks_turned(monkeypatch, made, stopped) == 2


@pytest.mark.fault("data", "a column removed between a stopped ingest and the next", "refused; what was done is untouched")
def test_data_that_cannot_be_used_leave_nothing_behind(stopped: Path, made: Path) -> None:
    with table(str(made), readonly=False, ack=False) as main:
        main.removecols(["FLAG_ROW"])
    with pytest.raises(DataError):
        store_of(made, stopped)
    assert progress_of(stopped.parent)["observations"][0]["chunks"] == 2, "what can't be planned touches nothing"


@pytest.mark.fault("hostile", "a symbolic link in place of an unfinished store", "what it leads to is untouched")
def test_a_link_in_the_place_of_an_unfinished_store_leads_nowhere(made: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "a.vis.h5.partial").symlink_to(victim)
    store_of(made, tmp_path / "a.vis.h5").close()
    assert victim.read_text() == "untouched" and not (tmp_path / "a.vis.h5").is_symlink()


@pytest.mark.parametrize("name", ["a.vis.h5.partial", "a.vis.h5.partial.progress"])
@pytest.mark.fault("disk", "a folder in place of an unfinished store or its progress", "refused by name")
def test_a_folder_in_the_way_is_refused_by_name(made: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match=name):
        store_of(made, tmp_path / "a.vis.h5")
