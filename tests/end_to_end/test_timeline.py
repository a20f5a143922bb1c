"""``--timeline``: one JSON file that says what every rank did when, and changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

CLEAN = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "40", "--niter", "300", "--weighting", "briggs"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_timeline_shows_every_rank_and_every_part_of_the_run(galaxy: Path, tmp_path: Path, ranks: int) -> None:
    plain, timed = tmp_path / "plain", tmp_path / "timed"
    jobs.succeed(["image", galaxy, "--imagename", plain, *CLEAN], ranks)
    jobs.succeed(["image", galaxy, "--imagename", timed, *CLEAN, "--timeline"], ranks)
    assert jobs.product_hashes(timed) == jobs.product_hashes(plain)
    assert not list(tmp_path.glob("plain.timeline*")) and not list(tmp_path.glob("*.partial"))
    events = json.loads((tmp_path / "timed.timeline.json").read_text())["traceEvents"]
    assert [e["args"]["name"].split(" on ")[0] for e in events if e["ph"] == "M"] == [f"rank {rank}" for rank in range(ranks)]
    spans = [e for e in events if e["ph"] == "X"]
    assert {e["pid"] for e in spans} == set(range(ranks))
    parts = {"read rows", "read", "weight density", "weight", "grid", "transform", "minor cycle", "transform model",
             "predict, subtract, grid", "commit", "exchange records, replace manifest",
             "restore and write products"}  # fmt: skip
    assert parts <= {e["name"] for e in spans}
    assert sorted(e["args"]["channel"] for e in spans if e["name"] == "restore and write products") == list(range(40))
    assert all(e["ts"] >= 0 and e["dur"] >= 0 for e in spans)
    assert sum(e["tdur"] for e in spans if e["name"] == "minor cycle") > 0.0 and all(e["tdur"] >= 0 for e in spans)
    end = max(e["ts"] + e["dur"] for e in spans)
    assert 1e4 < end < 120e6, "microseconds"


def test_a_job_that_stops_in_time_leaves_its_timeline(galaxy: Path, tmp_path: Path) -> None:
    name = tmp_path / "stopped"
    stopped = jobs.run_radps(["image", galaxy, "--imagename", name, *CLEAN, "--timeline", "--max-time", "100ms"], 2)
    assert stopped.returncode == 75
    events = json.loads((tmp_path / "stopped.timeline.json").read_text())["traceEvents"]
    assert {e["pid"] for e in events if e["name"] == "find or make the store"} == {0, 1}
