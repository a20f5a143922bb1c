"""Jobs killed at random: a rank, all of them or mpirun, at any instant or at a named point, again and again; whatever number of
ranks goes on, the bits are those of an undisturbed run. jobs/soak.sh runs more of the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import kills

pytestmark = [pytest.mark.launches_mpi, pytest.mark.timeout(300)]

KILLS_PER_TEST = 5
MOST_RUNS = 20
"""Not every drawn instant or point comes before a job's end."""
RESUMED = "resumed on 1 to 7 ranks, nothing left behind: same hashes as an undisturbed run"


@pytest.fixture(scope="module")
def source(dataset: Callable[[str], Path]) -> Path:
    return dataset("ngc5921_src_contsub.ms")


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return kills.undisturbed_run(source, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("first", range(1000, 1000 + 6 * MOST_RUNS, MOST_RUNS))
@pytest.mark.fault("kills", "SIGKILL at random", "resumed")
def test_killed_runs_end_with_the_bits_of_an_undisturbed_one(
    source: Path, expected: dict[str, str], tmp_path: Path, first: int, injected: Callable[..., None]
) -> None:
    struck = 0
    for seed in range(first, first + MOST_RUNS):
        (folder := tmp_path / str(seed)).mkdir()
        outcome = kills.disturbed_run(source, folder, expected, seed)
        what = f"SIGKILL at random, the first of the run: {outcome.where}"
        injected(outcome.kills, happened=outcome.fault or RESUMED, what=what)
        assert outcome.fault == "", f"seed {seed}, {outcome.where}"
        struck += outcome.kills
        shutil.rmtree(folder)
        if struck >= KILLS_PER_TEST:
            return
    pytest.fail(f"{struck} kills struck in {MOST_RUNS} runs")
