"""A run in little memory keeps fewer visibilities rather than being killed, and says when even that won't do."""

from __future__ import annotations

from pathlib import Path

import pytest

from radps_mpi import pipeline
from radps_mpi.config import RunConfig
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.journey.blocks import gridder_of
from radps_mpi.journey.describe import Description, describe
from radps_mpi.journey.provision import cache_within
from radps_mpi.parallel import world

GB = 10**9


@pytest.fixture(scope="module")
def description(chunked_store: str) -> Description:
    flat = {"vis": [chunked_store], "imagename": "x", "imsize": 1024, "cell": "0.5arcsec", "niter": 100}
    with VisibilityStore.open(Path(chunked_store)) as store:
        return describe(RunConfig.from_flat(flat, {}), store)


def test_the_cache_is_a_quarter_of_ample_memory_and_the_rest_of_little(description: Description) -> None:
    gridder = gridder_of(description)
    assert cache_within(description, gridder, 1, 10 * GB) == (10 * GB // 4, "")
    kept = {share: cache_within(description, gridder, 1, share) for share in range(GB // 5, GB, 1_000_000)}
    enough = min(share for share, (_, warning) in kept.items() if not warning)
    assert enough > GB // 5 and 0 <= kept[enough][0] < 1_000_000
    assert kept[enough + 9_000_000][0] == kept[enough][0] + 9_000_000


def test_a_rank_with_less_memory_than_it_needs_is_warned_of(description: Description) -> None:
    kept, warning = cache_within(description, gridder_of(description), 1, GB // 4)
    assert kept == 0
    assert "may need" in warning and "has 250.0 MB" in warning and "fewer ranks" in warning


def test_the_memory_that_is_there_when_a_run_starts_or_resumes_decides(
    tmp_path: Path, chunked_store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from radps_mpi import make_cube

    options = {"imsize": 32, "cell": "0.5arcsec", "niter": 20, "keep_state": True, "comm": world()}
    folder = Path(world().bcast(str(tmp_path)))
    monkeypatch.setattr(pipeline, "memory_per_rank_bytes", lambda ranks: 50_000_000)
    make_cube(chunked_store, imagename=folder / "little", **options)
    assert capfd.readouterr().err.count("may need") == (world().rank == 0)
    monkeypatch.setattr(pipeline, "memory_per_rank_bytes", lambda ranks: 10 * GB)
    pipeline.resume(str(folder / "little"), world(), {"niter": 40})
    assert "may need" not in capfd.readouterr().err
