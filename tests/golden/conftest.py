"""Runs of the program that the tests of this folder share, and the table of what they reached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import data, golden

Record = Callable[[str, float, float], None]

_ROWS = pytest.StashKey[list[tuple[str, float, float]]]()


@pytest.fixture(scope="session")
def topocentric(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """``topocentric(days)``: the set declared topocentric and observed so much later, as the goldens' were made."""
    folder, made = tmp_path_factory.mktemp("topocentric"), {}

    def make(days: int) -> Path:
        if days not in made:
            made[days] = folder / f"topo{days}.ms"
            source = data.dataset("ngc5921_src_contsub.ms")
            command = [sys.executable, shared / "data" / "make_topo.py", source, made[days], str(days)]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
        return made[days]

    return make


@pytest.fixture(scope="session")
def input_named(shared: Path, topocentric: Callable[[int], Path]) -> Callable[[str], Path]:
    """Path of a MeasurementSet by the name that the goldens give it."""
    made = {"topo0.ms": 0, "topo120.ms": 120}
    return lambda name: topocentric(made[name]) if name in made else data.dataset(name)


@pytest.fixture(scope="session")
def made(input_named: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], golden.Made]:
    """``made(case)``: the program's images of a golden's request; one run per case and session."""
    folder, runs = tmp_path_factory.mktemp("golden"), {}

    def run(case: str) -> golden.Made:
        if case not in runs:
            asked = golden.golden(case)
            runs[case] = golden.make(asked.parameters, [input_named(name) for name in asked.inputs], folder / case)
        return runs[case]

    return run


@pytest.fixture(scope="session")
def descending_set(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set with its channels in the other order, frequencies falling and widths negative."""
    from casacore.tables import table

    path = tmp_path_factory.mktemp("descending") / "descending.ms"
    shutil.copytree(data.dataset("ngc5921_src_contsub.ms"), path)
    with table(str(path), readonly=False, ack=False) as main:
        for column in {"DATA", "CORRECTED_DATA", "FLAG", "WEIGHT_SPECTRUM"} & set(main.colnames()):
            main.putcol(column, np.ascontiguousarray(main.getcol(column)[:, ::-1]))
    with table(f"{path}/SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        for column in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            sign = -1.0 if column == "CHAN_WIDTH" else 1.0
            window.putcol(column, sign * np.ascontiguousarray(window.getcol(column)[:, ::-1]))
    return path


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """``record(what, reached, allowed)``: a row of the table at the end of the run."""
    rows = request.config.stash.setdefault(_ROWS, [])
    return lambda what, reached, allowed: rows.append((what, reached, allowed))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("agreement with CASA tclean")
    width = max(len(what) for what, _, _ in rows)
    terminalreporter.write_line(f"{'case':{width}}   reached   allowed")
    for what, reached, allowed in rows:
        terminalreporter.write_line(f"{what:{width}}  {reached:8.2e}  {allowed:8.2e}")
