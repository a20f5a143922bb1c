"""Jobs killed at every named point and at random instants, then resumed on another number of ranks: the bits of a run that
nobody disturbed, and nothing left lying about."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi


KILLED = 137


def phase_of(imagename: Path) -> str:
    """What the run was doing, by its own account."""
    status = Path(f"{imagename}.radps") / "status.json"
    return str(json.loads(status.read_text())["phase"]) if status.exists() else ""


def assert_finished(imagename: Path, undisturbed: dict[str, str]) -> None:
    assert jobs.product_hashes(imagename) == undisturbed
    left = sorted(path.name for path in imagename.parent.rglob("*") if path.name.endswith((".partial", ".tmp", ".h5")))
    assert left == []
    assert not (Path(f"{imagename}.radps") / "manifest").exists()


FIRST, PRODUCTS = "making PSFs and dirty images", "writing products"


@pytest.mark.parametrize(
    ("fault", "phase", "ranks", "ranks_after"),
    [
        ("reserve:1:0", "", 3, 2),
        ("state-before-rename:1:0", "", 2, 1),
        ("before-rename:1:0", "", 2, 3),
        ("before-write:5:2", FIRST, 3, 1),
        ("mid-write:20:1", FIRST, 3, 2),
        ("before-sync:1:1", FIRST, 3, 7),
        ("before-rename:2:0", FIRST, 2, 1),
        ("before-done:1:0", FIRST, 2, 3),
        ("mid-rename:3:0", FIRST, 3, 1),
        ("mid-write:35:1", "minor cycles 1", 3, 2),
        ("before-write:48:1", "major cycle 1", 3, 4),
        ("after-rename:5:0", "major cycle 1", 3, 2),
        ("before-done:5", "major cycle 1", 3, 1),
        ("mid-write:72:0", "major cycle 2", 3, 2),
        ("product-before-write:30:1", PRODUCTS, 2, 1),
        ("mid-write:200:0", PRODUCTS, 2, 3),
        ("product-before-rename:4:0", PRODUCTS, 2, 1),
        ("product-after-rename:2:0", PRODUCTS, 2, 1),
    ],
)
@pytest.mark.fault(
    "kills", "SIGKILL at a named point",
    "resumed on another number of ranks, nothing left behind: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_run_killed_at_a_named_point_resumes_to_the_same_bits(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], fault: str, phase: str, ranks: int, ranks_after: int,
    injected: Callable[..., None],
) -> None:  # fmt: skip
    injected(what=f"SIGKILL at the point {fault.split(':')[0]}")
    imagename = tmp_path / "cube"
    killed = jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], ranks, {"RADPS_FAULT": fault})
    assert killed.returncode == KILLED, killed.stderr
    assert phase_of(imagename) == phase
    jobs.succeed(["resume", imagename], ranks_after)
    assert_finished(imagename, undisturbed)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.fault(
    "kills", "SIGKILL of a rank or of all, again and again at random instants",
    "resumed on another number of ranks: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_run_killed_again_and_again_at_random_instants_resumes_to_the_same_bits(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], seed: int, injected: Callable[..., None]
) -> None:
    moments, imagename = random.Random(seed), tmp_path / "cube"
    args: list[object] = ["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN]
    killed = 0
    for ranks in (3, 2, 4):
        victim = moments.choice([None, moments.randrange(ranks)])
        with jobs.Job(args, ranks) as job:
            if job.wait_until(commits(imagename, moments.randint(1, 3))):
                time.sleep(moments.uniform(0.0, 0.3))
                job.kill_ranks(victim)
            done = job.finish(60)
        if done.returncode != KILLED:
            break  # quicker than the kill, or finished by the time of the one before
        killed, args = killed + 1, ["resume", imagename]
    injected(killed)
    assert killed >= 1, "the jobs are to be killed while they work"
    if done.returncode == KILLED:
        done = jobs.run_radps(args, ranks=1)
    if done.returncode == 0:
        assert_finished(imagename, undisturbed)
    else:  # a kill fell behind the removal of the state
        assert "the run is finished" in done.stderr, done.stderr
        assert jobs.product_hashes(imagename) == undisturbed


def commits(imagename: Path, number: int) -> jobs.Happening:
    """Whether so many commits have been made from now on."""
    manifest = Path(f"{imagename}.radps") / "manifest"
    seen = {identity(manifest)}

    def happened() -> bool:
        seen.add(identity(manifest))
        return len(seen) > number

    return happened


def identity(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


@pytest.mark.fault(
    "kills", "SIGKILL of a rank of a team that shares a block",
    "resumed where no block is shared: same hashes as an undisturbed run", times=2,
)  # fmt: skip
def test_a_run_whose_ranks_share_blocks_resumes_to_the_same_bits_where_they_dont(
    two_nights_store: Path, tmp_path: Path
) -> None:
    shared = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "20", "--weighting", "briggs", "--row-groups", "2",
              "--niter", "4000", "--cycleniter", "40", "--nmajor", "1"]  # fmt: skip
    jobs.succeed(["image", two_nights_store, "--imagename", tmp_path / "straight", *shared], ranks=1)
    args = ["image", two_nights_store, "--imagename", tmp_path / "cube", *shared]
    killed = jobs.run_radps(args, 4, {"RADPS_FAULT": "before-done:2:3"})
    assert killed.returncode == KILLED, "rank 3 is the second of the team that shares the second block"
    killed = jobs.run_radps(["resume", tmp_path / "cube"], 4, {"RADPS_FAULT": "mid-write:7:2"})
    assert killed.returncode == KILLED, "half of a residual is written over that of the cycle before"
    again = jobs.succeed(["resume", tmp_path / "cube"], ranks=3)
    assert "recomputing torn planes" in again.stderr
    assert_finished(tmp_path / "cube", jobs.product_hashes(tmp_path / "straight"))


@pytest.mark.fault(
    "ranks", "an I/O error on one rank of a team that shares a block",
    "all ranks end within 30 s with status 74 and one line; resumed",
)  # fmt: skip
def test_a_rank_that_fails_alone_in_a_team_doesnt_leave_the_others_waiting(two_nights_store: Path, tmp_path: Path) -> None:
    shared = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "20", "--row-groups", "2"]
    args = ["image", two_nights_store, "--imagename", tmp_path / "cube", *shared]
    failed = jobs.run_radps(args, 4, {"RADPS_FAULT": "before-write:1:2:eio"}, timeout=30)
    assert failed.returncode == 74 and "Input/output error" in jobs.error_lines(failed)[0], failed.stderr
    jobs.succeed(["resume", tmp_path / "cube"], ranks=2)


@pytest.mark.fault("kills", "SIGKILL of all ranks during ingest", "resumed on 3 ranks: same hashes as an undisturbed run")
def test_a_run_killed_while_it_ingests_starts_over_and_gives_the_same_bits(
    galaxy: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    imagename = tmp_path / "cube"
    partial = Path(f"{imagename}.radps") / "visibilities.vis.h5.partial"
    with jobs.Job(["image", galaxy, "--imagename", imagename, *jobs.CLEAN], ranks=2) as job:
        assert job.wait_until(partial.exists)
        job.kill_ranks()
        assert job.finish(30).returncode == KILLED
    assert partial.exists() and phase_of(imagename) == "ingest"
    jobs.succeed(["resume", imagename], ranks=3)
    assert_finished(imagename, undisturbed)


@pytest.mark.fault(
    "kills", "SIGKILL between the ingested store's rename and the end of ingest",
    "the store is whole; the next start removes what was left",
)  # fmt: skip
def test_an_ingest_killed_when_its_store_is_in_place_leaves_no_progress_to_the_next_start(
    galaxy: Path, tmp_path: Path
) -> None:
    store = tmp_path / "a.vis.h5"
    killed = jobs.run_radps(["ingest", galaxy, "-o", store], ranks=1, env={"RADPS_FAULT": "ingest-after-rename:1:0"})
    assert killed.returncode == 137
    left = [store.name, f"{store.name}.partial.lock", f"{store.name}.partial.progress"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    refused = jobs.run_radps(["ingest", galaxy, "-o", store], ranks=1)
    assert refused.returncode != 0 and "--overwrite" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


@pytest.mark.parametrize("fault", ["reserve:1:0", "ingest-before-sync:1:1", "ingest-before-rename:1:0"])
@pytest.mark.fault(
    "kills", "SIGKILL of an ingest that replaces an older store",
    "the older store is untouched; the next ingest succeeds and verifies",
)  # fmt: skip
def test_an_ingest_killed_on_its_way_leaves_an_older_store_alone(galaxy: Path, tmp_path: Path, fault: str) -> None:
    store = tmp_path / "galaxy.vis.h5"
    store.write_bytes(b"an older store")
    killed = jobs.run_radps(["ingest", galaxy, "-o", store, "--overwrite"], ranks=2, env={"RADPS_FAULT": fault})
    assert killed.returncode == KILLED and store.read_bytes() == b"an older store"
    jobs.succeed(["ingest", galaxy, "-o", store, "--overwrite"], ranks=1)
    assert "no damage" in jobs.succeed(["verify", store]).stdout
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


@pytest.mark.parametrize(
    "fault", ["before-write:3:1:raise", "before-rename:2:0:raise", "before-done:1:1:raise", "product-before-write:2:1:raise"]
)
@pytest.mark.fault(
    "ranks", "an unforeseen exception on one rank of 3",
    "all ranks end with its rank and traceback; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_an_error_that_nobody_foresaw_on_one_rank_ends_all_ranks_with_its_traceback(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], fault: str
) -> None:
    imagename, began = tmp_path / "cube", 0.0
    rank = fault.split(":")[2]
    args = ["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN]
    # As `radps` itself runs, without mpi4py's launcher, which would abort the job too
    plain = ["mpirun", "-n", "3", sys.executable, "-m", "radps_mpi"]
    with jobs.Job(args, 3, {"RADPS_FAULT": fault}, launch=plain) as job:
        assert job.wait_until(commits(imagename, 1))
        began = time.monotonic()
        failed = job.finish(120)
    assert failed.returncode == 1
    assert f"radps: uncaught error on rank {rank} of 3" in failed.stderr
    assert f"InjectedFault: injected at {fault.split(':')[0]}" in failed.stderr and "Traceback" in failed.stderr
    assert "product" in fault or time.monotonic() - began < 10.0
    jobs.succeed(["resume", imagename], ranks=2)
    assert_finished(imagename, undisturbed)


@pytest.mark.parametrize("fault", ["mid-write:40:1:enospc", "before-rename:3:0:enospc", "product-before-write:9:1:enospc"])
@pytest.mark.fault(
    "disk", "no space left (injected) in the state, the manifest or a product",
    "status 74, one line naming the file; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_full_disk_is_one_clear_line_and_the_run_can_go_on_later(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], fault: str
) -> None:
    imagename = tmp_path / "cube"
    args = ["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN]
    full = jobs.run_radps(args, 3, {"RADPS_FAULT": fault})
    assert full.returncode == 74
    (line,) = jobs.error_lines(full)
    assert "No space left on device" in line and str(imagename) in line
    jobs.succeed(["resume", imagename], ranks=1)
    assert_finished(imagename, undisturbed)


@pytest.mark.fault("kills", "SIGKILL while the run directory is made", "started again: same hashes as an undisturbed run")
def test_a_run_killed_while_its_directory_is_made_can_be_started_again(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    imagename, args = tmp_path / "cube", ["image", galaxy_store, "--imagename", tmp_path / "cube", *jobs.CLEAN]
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "run-directory:1:0"}).returncode == KILLED
    jobs.succeed(args, ranks=2)
    assert_finished(imagename, undisturbed)
