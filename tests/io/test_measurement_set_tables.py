"""Tables that name data managers: only those of MeasurementSets are opened."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import makescacoldesc, maketabdesc, table
from support.measurement_sets import make_set

from radps_mpi.errors import DataError
from radps_mpi.io.measurement_set import describe
from radps_mpi.io.measurement_set_tables import declared_data_managers, open_table, refuse_unsafe_table


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("original") / "made.ms")


def make_table(path: Path, manager: str) -> Path:
    description = maketabdesc([makescacoldesc("A", 1.0, datamanagertype=manager, datamanagergroup="mine")])
    with table(str(path), description, nrow=3, ack=False) as made:
        made.putcol("A", np.arange(3.0))
    return path


def rename_manager(path: Path, old: str, new: str) -> None:
    """Change the last mention of a data manager's type, which is the one that casacore loads."""
    data = bytearray((path / "table.dat").read_bytes())
    name = struct.pack(">I", len(old)) + old.encode()
    last = bytes(data).rfind(name, 0, bytes(data).rfind(b"SSM") if b"SSM" in data else len(data))
    data[last + 4 : last + 4 + len(old)] = new.encode().ljust(len(old), b"x")
    (path / "table.dat").write_bytes(bytes(data))


def test_declared_managers_are_those_that_casacore_reports(original: Path) -> None:
    for path in (original, *sorted(p.parent for p in original.glob("*/table.dat"))):
        with table(str(path), ack=False) as opened:
            reported = sorted(info["TYPE"] for info in opened.getdminfo().values())
        assert sorted(declared_data_managers((path / "table.dat").read_bytes())) == reported


@pytest.mark.fault("hostile", "a table with a data manager that names a library", "refused before casacore sees it")
def test_an_unknown_manager_is_refused_before_casacore_sees_it(tmp_path: Path) -> None:
    path = make_table(tmp_path / "t", "StandardStMan")
    rename_manager(path, "StandardStMan", "../../evil")
    with pytest.raises(DataError, match=r"data manager '\.\./\.\./evilxxx' is not one that MeasurementSets need"):
        refuse_unsafe_table(path)


@pytest.mark.fault("hostile", "a table with a data manager that names a library", "refused before casacore sees it")
def test_an_evil_subtable_is_refused_too(original: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(original, tmp_path / "evil.ms"))
    rename_manager(path / "FIELD", "StandardStMan", "evilmanager")
    with pytest.raises(DataError, match=r"evil\.ms/FIELD: data manager 'evilmanagerxx'"):
        describe(str(path))


@pytest.mark.timeout(20, method="signal")
@pytest.mark.fault(
    "hostile", "a pipe or a device among a set's files",
    "refused before casacore sees it",
)  # fmt: skip
def test_a_pipe_or_device_among_a_table_s_files_is_refused_before_casacore_waits_for_it(original: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(original, tmp_path / "made.ms"))
    (source / "FIELD" / "table.f0").unlink()
    os.mkfifo(source / "FIELD" / "table.f0")
    with pytest.raises(DataError, match=r"FIELD/table\.f0: is neither a file nor a folder"):
        describe(str(source))
    (source / "table.f9").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"table\.f9: is neither"):
        open_table(source)


@pytest.mark.fault("data", "a reference table in place of a set", "refused with advice")
def test_a_reference_table_is_refused_with_advice(original: Path, tmp_path: Path) -> None:
    with table(str(original), ack=False) as main:
        main.selectrows([0, 1]).copy(str(tmp_path / "view.ms"), deep=False).close()
    with pytest.raises(DataError, match=r"RefTable .*deep copy"):
        open_table(tmp_path / "view.ms")


@pytest.mark.parametrize("length", [0, 4, 20, 50, 200])
@pytest.mark.fault("data", "a table's description cut short", "an error, no crash")
def test_a_description_cut_short_is_an_error_and_not_a_crash(original: Path, length: int) -> None:
    with pytest.raises(ValueError, match=r"ends too early|doesn't start|unknown|isn't"):
        declared_data_managers((original / "table.dat").read_bytes()[:length])


def test_descriptions_in_the_tables_are_read(original: Path) -> None:
    tables = describe(str(original))
    assert (tables.telescope, tables.time_scale, tables.correlations_of) == ("ALMA", "UTC", (("XX", "YY"),))
    assert tables.windows[0].frame == "TOPO" and tables.windows[0].name == "band"
    assert tables.fields[0].direction_frame == "J2000" and not tables.fields[0].moving
