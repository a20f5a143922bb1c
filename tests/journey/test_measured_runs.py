"""What a plan takes from provenance.json: runs that were measured, whatever else the file has come to hold."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from radps_mpi.journey.plan import measured_runs
from radps_mpi.planning.work import Work

WORK = {f.name: {"int": 4, "float": 4.0, "bool": False}[str(f.type)] for f in fields(Work)}
MEASURED = {"ranks": 2, "threads": 1, "nodes": 1, "seconds": {"ingest": 2.5}, "peak_memory_bytes": 10**9, "work": WORK}


def runs_of(root: Path, *events: Any) -> int:
    (root / "provenance.json").write_text(json.dumps(events))
    return len(measured_runs(root))


def finished(**changed: Any) -> list[dict[str, Any]]:
    return [{"event": "started"}, {"event": "finished", "measured": {**MEASURED, **changed}}]


def test_a_run_in_one_go_is_learned_from_and_one_that_was_resumed_is_not(tmp_path: Path) -> None:
    assert runs_of(tmp_path, *finished()) == 1
    assert runs_of(tmp_path, finished()[0], {"event": "imaging"}, finished()[1]) == 1
    assert runs_of(tmp_path, *finished(), {"event": "resumed"}, finished()[1]) == 1


@pytest.mark.parametrize("changed", [
    {"ranks": 0}, {"ranks": -5}, {"nodes": 0}, {"ranks": "two"}, {"ranks": 1e999}, {"peak_memory_bytes": 1e999},
    {"seconds": {"ingest": "long"}}, {"seconds": {"ingest": float("nan")}}, {"seconds": [1.0]}, {"work": {}}, {"work": None},
    {"work": {**WORK, "rows": 0}}, {"work": {**WORK, "padded_u": -4}}, {"work": {**WORK, "support": 10**200}},
    {"work": {**WORK, "passes": float("nan")}}, {"work": {**WORK, "line_blocks": 0}}, {"work": {**WORK, "line_halves": 0}},
    {"work": {name: value for name, value in WORK.items() if name != "line_halves"}},
])  # fmt: skip
def test_what_no_run_can_have_taken_is_passed_over(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert runs_of(tmp_path, *finished(**changed), *finished()) == 1


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    assert runs_of(tmp_path, 1, "started", None, [], *finished()) == 1
