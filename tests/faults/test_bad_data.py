"""What becomes of bad data: docs/bad_data.md has a row for every case here, and these tests hold it to its word."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casacore.tables import table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from support import jobs
from support.measurement_sets import change, make_set, remove_column

from radps_mpi.errors import DataError, RadpsError
from radps_mpi.io.ingest import ingest
from radps_mpi.io.selection import Selection
from radps_mpi.io.visibility_store import VisibilityStore

pytestmark = pytest.mark.launches_mpi

PIXELS = ("--imsize", "32", "--cell", "100arcsec")
DOCS = jobs.REPOSITORY / "docs" / "bad_data.md"


@dataclass(frozen=True)
class Case:
    """A set made by ``make`` (arguments of make_set) and spoiled, and what ``radps image`` makes of it."""

    name: str
    spoil: Callable[[Path], Any] = lambda path: None
    status: int = 0
    says: tuple[str, ...] = ()
    make: dict[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    pixels: tuple[str, ...] = PIXELS
    second: dict[str, Any] | None = None

    @property
    def outcome(self) -> str:
        """What the table of faults says of it."""
        said = " and ".join(f'"{words}"' for words in self.says)
        handled = "handled: imaged" + (f", and told: {said}" if said else "")
        return f"exit {self.status}, one line with {said}; nothing written" if self.status else handled


def drop(column: str) -> Callable[[Path], None]:
    return lambda path: remove_column(path, column)


def cut(pattern: str, nbytes: int) -> Callable[[Path], None]:
    def shorten(path: Path) -> None:
        for name in path.glob(pattern):
            with open(name, "r+b") as file:
                file.truncate(nbytes)

    return shorten


def cut_data(path: Path) -> None:
    with table(str(path), ack=False) as main:
        number = main.getdminfo("DATA")["SEQNR"]
    cut(f"table.f{number}*", 100)(path)


def evil_manager(path: Path) -> None:
    data = (path / "FIELD" / "table.dat").read_bytes()
    old = b"StandardStMan"
    at = data.rfind(struct.pack(">I", len(old)) + old, 0, data.rfind(b"SSM")) + 4
    (path / "FIELD" / "table.dat").write_bytes(data[:at] + b"EvilStManager" + data[at + len(old) :])


def unit(subtable: str, column: str, text: str) -> Callable[[Path], None]:
    def declare(path: Path) -> None:
        with table(f"{path}/{subtable}" if subtable else str(path), readonly=False, ack=False) as opened:
            opened.putcolkeyword(column, "QuantumUnits", [text])

    return declare


def cross_rows(path: Path) -> np.ndarray:
    with table(str(path), ack=False) as main:
        return np.flatnonzero(main.getcol("ANTENNA1") != main.getcol("ANTENNA2"))


def weights(value: float) -> Callable[[Path], None]:
    return lambda path: change(path, "WEIGHT", cross_rows(path)[:9], value)


def one_baseline(path: Path) -> None:
    with table(str(path), readonly=False, ack=False) as main:
        others = (main.getcol("ANTENNA1") != 0) | (main.getcol("ANTENNA2") != 1)
        main.removerows(np.flatnonzero(others).tolist())


def second_window(path: Path) -> None:
    with table(f"{path}/SPECTRAL_WINDOW", readonly=False, ack=False) as windows:
        windows.copyrows(windows)
    with table(f"{path}/DATA_DESCRIPTION", readonly=False, ack=False) as descriptions:
        descriptions.copyrows(descriptions)
        descriptions.putcell("SPECTRAL_WINDOW_ID", 1, 1)
    change(path, "DATA_DESC_ID", slice(None, None, 2), 1)


def repeat_times(path: Path) -> None:
    change(path, "TIME", slice(None), table(str(path), ack=False).getcell("TIME", 0))


TABLE = [
    Case("table cut short: table.dat", cut("table.dat", 300), 65, ("table.dat",)),
    Case("table cut short: data", cut_data, 65, ("can't be read",)),
    Case("table cut short: a subtable", cut("SPECTRAL_WINDOW/table.f0", 50), 65, ("SPECTRAL_WINDOW",)),
    Case("subtable missing", lambda path: shutil.rmtree(path / "ANTENNA"), 65, ("ANTENNA",)),
    *[Case(f"column missing: {name}", drop(name), 65, (name, "missing")) for name in
      ("DATA", "FLAG", "FLAG_ROW", "UVW", "WEIGHT", "TIME", "ANTENNA2", "FIELD_ID")],
    Case("unknown data manager", evil_manager, 65, ("FIELD", "EvilStManager")),
    Case("no rows", make={"ntime": 0}, status=65, says=("no rows",)),
    Case("all flagged", lambda path: change(path, "FLAG", slice(None), True), 65, ("no good visibility",)),
    Case("all rows flagged", lambda path: change(path, "FLAG_ROW", slice(None), True), 65, ("no good visibility",)),
    Case("one channel flagged", lambda path: change(path, "FLAG", (slice(None), 2), True), 0,
         ("flag samples 120", "blank channels 1")),
    Case("weights NaN", weights(np.nan), 0, ("bad weight samples 144",)),
    Case("weights infinite", weights(np.inf), 0, ("bad weight samples 144",)),
    Case("weights negative", weights(-1.0), 0, ("bad weight samples 144",)),
    Case("weights zero", weights(0.0), 0, ("zero weight samples 144",)),
    Case("all weights negative", lambda path: change(path, "WEIGHT", slice(None), -1.0), 65, ("no good visibility",)),
    Case("data NaN or infinite", lambda path: change(path, "DATA", (cross_rows(path)[:3], 4, 0), np.inf), 0,
         ("nonfinite samples 3",)),
    Case("uvw NaN", lambda path: change(path, "UVW", cross_rows(path)[:2], np.nan), 0, ("bad uvw rows 2",)),
    Case("uvw huge", lambda path: change(path, "UVW", cross_rows(path)[:2], 1e30), 0,
         ("bad uvw rows 2",)),
    Case("times NaN", lambda path: change(path, "TIME", 5, np.nan), 65, ("TIME", "finite")),
    Case("one channel", make={"freq_hz": np.array([1.4e9])}),
    Case("one baseline", one_baseline),
    Case("same window twice", second_window, 0, ("spw 0: 30 rows", "spw 1: 30 rows")),
    Case("unit of UVW", unit("", "UVW", "lambda"), 65, ("UVW", "lambda", "m")),
    Case("unit of TIME", unit("", "TIME", "d"), 65, ("TIME", "'d'")),
    Case("unit of CHAN_FREQ", unit("SPECTRAL_WINDOW", "CHAN_FREQ", "GHz"), 65, ("CHAN_FREQ", "GHz")),
    Case("unit of PHASE_DIR", unit("FIELD", "PHASE_DIR", "deg"), 65, ("PHASE_DIR", "deg")),
    Case("ids outside their table", lambda path: change(path, "ANTENNA2", 3, 77), 65, ("ANTENNA2",)),
    Case("frequencies zero", lambda path: change(path, "CHAN_FREQ", 0, 0.0, "SPECTRAL_WINDOW"), 65, ("CHAN_FREQ",)),
    Case("polarisations differ between sets", make={"correlations": ("XX", "YY")},
         second={"correlations": ("XX", "XY", "YX", "YY")}),
    Case("the same rows twice", repeat_times, 0, ("duplicate rows 50",)),
    Case("field's name that commands the terminal",
         lambda path: change(path, "NAME", 0, "\x1b[2Jf", "FIELD"), 0, (r"\x1b[2Jf",)),
    Case("image of 1 pixel", status=64, says=("--imsize", "16"), pixels=("--imsize", "1", "--cell", "100arcsec")),
    Case("image of an odd size", pixels=("--imsize", "33", "31", "--cell", "100arcsec")),
    Case("cell of 0", status=64, says=("--cell",), pixels=("--imsize", "32", "--cell", "0arcsec")),
]  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2])
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Name of a case -> what each rank made of it."""
    scratch, work = tmp_path_factory.mktemp("bad"), []
    for number, case in enumerate(TABLE):
        path = make_set(scratch / f"{number}.ms", **case.make)
        case.spoil(path)
        second = [make_set(scratch / f"{number}b.ms", **case.second)] if case.second else []
        work.append(["image", *map(str, [path, *second]), "--imagename", str(scratch / f"image{number}"), "--wterm", "ignore",
                     "--pblimit=-0.1", "--outframe", "TOPO", *case.pixels])  # fmt: skip
    (scratch / "work.json").write_text(json.dumps(work))
    done = jobs.run_script("commands_job.py", [scratch / "work.json", scratch], request.param, timeout=200)
    of_ranks = [[json.loads(line) for line in (scratch / f"rank{rank}.jsonl").read_text().splitlines()]
                for rank in range(request.param)]  # fmt: skip
    assert done.returncode == 0, f"stopped after {[len(lines) for lines in of_ranks]} of {len(TABLE)}: {done.stderr}"
    return {
        case.name: [{**lines[at], "made": (scratch / f"image{at}.image.fits").exists()} for lines in of_ranks]
        for at, case in enumerate(TABLE)
    }


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
@pytest.mark.fault("data", "{case.name}", "{case.outcome}")
def test_bad_data_are_handled_and_counted_or_refused_in_one_line(outcomes: dict[str, Any], case: Case) -> None:
    of_ranks = outcomes[case.name]
    assert [outcome["status"] for outcome in of_ranks] == [case.status] * len(of_ranks), of_ranks[0]["stderr"]
    lines = [line for line in of_ranks[0]["stderr"].splitlines() if line.startswith("radps: error:")]
    assert len(lines) == (case.status != 0), lines
    said = lines[0] if lines else of_ranks[0]["stderr"]
    assert all(word in said for word in case.says), said
    assert of_ranks[0]["made"] == (case.status == 0), "products of what is handled, of nothing else"
    assert "\x1b" not in of_ranks[0]["stderr"]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_the_table_in_the_documentation_has_the_case_and_its_status(case: Case) -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (row,) = [row for row in rows if row[0] == case.name]
    assert row[1] == ("handled" if case.status == 0 else str(case.status))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("sound") / "a.ms", nantenna=3, ntime=2, spectral_weight=True)


BAD_NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-40, 3e38])
SPOILS = st.lists(
    st.tuples(st.sampled_from(["DATA", "WEIGHT_SPECTRUM", "FLAG", "FLAG_ROW", "UVW", "TIME", "ANTENNA1", "FIELD_ID",
                               "DATA_DESC_ID", "SCAN_NUMBER"]), st.integers(0, 11), BAD_NUMBERS), min_size=1, max_size=6
)  # fmt: skip


@given(spoils=SPOILS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@pytest.mark.fault(
    "data", "sets with NaN, infinite, negative or huge numbers anywhere (hypothesis)",
    "blanked and counted, or refused in one line; none reaches a store",
)  # fmt: skip
def test_any_bad_numbers_are_blanked_or_refused_and_never_reach_a_store(
    sound: Path, tmp_path: Path, injected: Callable[..., None], spoils: list[tuple[str, int, float]]
) -> None:
    injected()
    shutil.rmtree(tmp_path / "a.ms", ignore_errors=True)
    path = Path(shutil.copytree(sound, tmp_path / "a.ms"))
    for column, row, value in spoils:
        whole = column in ("ANTENNA1", "FIELD_ID", "DATA_DESC_ID", "SCAN_NUMBER", "FLAG", "FLAG_ROW")
        change(path, column, row, (int(value) if np.isfinite(value) and abs(value) < 9 else -7) if whole else value)
    try:
        ingest(MPI.COMM_SELF, [str(path)], [Selection()], tmp_path / "a.vis.h5")
    except RadpsError as error:
        assert isinstance(error, DataError) and str(path) in str(error) and "\n" not in str(error)
        return
    with VisibilityStore.open(tmp_path / "a.vis.h5") as store:
        for meta in store.observations:
            vis, weight = (read(meta.index, 0, meta.nchan, 0, 9) for read in (store.read, store.read_weight))
            good = np.isfinite(vis)
            assert good.sum() == meta.report.good_samples == meta.samples.sum()
            assert np.isfinite(weight).all() and (weight >= 0).all() and (weight[good] > 0).all()
            assert (np.abs(store.read_rows(meta.index, 0, 9).uvw_m) <= 1e9).all()
