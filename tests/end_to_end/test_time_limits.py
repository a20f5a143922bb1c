"""Jobs that are asked to stop, run out of time, or hang: what is finished is committed, the status says so, and other jobs on
any number of ranks end with the bits of a run that nobody disturbed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import jobs

from radps_mpi.io.visibility_store import VisibilityStore

pytestmark = pytest.mark.launches_mpi


TRY_AGAIN, STALLED = 75, 71


@pytest.fixture(scope="module")
def large_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MeasurementSet of three row chunks."""
    folder = tmp_path_factory.mktemp("large")
    size = ["--nantenna", "43", "--nintegration", "75", "--nchan", "3", "--restfreq", "230.538GHz"]
    jobs.succeed(["simulate", "-o", folder / "sim.vis.h5", "--ms", folder / "sim.ms", *size, "--noise", "1mJy"])
    return folder / "sim.ms"


def assert_stopped(done: object, why: str) -> None:
    assert done.returncode == TRY_AGAIN, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("radps: stopped:")]
    assert why in line and "radps resume" in line
    assert jobs.error_lines(done) == []


def assert_same_store(a: Path, b: Path) -> None:
    """By the checksums of all that is in them, once those have been found right."""
    for path in (a, b):
        assert "no damage" in jobs.succeed(["verify", path]).stdout
    with VisibilityStore.open(a) as one, VisibilityStore.open(b) as other:
        assert one.fingerprint() == other.fingerprint()
        assert one.observations[0].report == other.observations[0].report


def assert_finished(imagename: Path, undisturbed: dict[str, str]) -> None:
    assert jobs.product_hashes(imagename) == undisturbed
    left = sorted(path.name for path in imagename.parent.rglob("*")
                  if path.name.endswith((".partial", ".progress", ".tmp", ".h5")))  # fmt: skip
    assert left == []


@pytest.mark.parametrize(
    ("fault", "ranks", "ranks_after", "committed"),
    [
        ("before-write:5:2:usr1", 3, 2, "making PSFs"),
        ("before-sync:1:0:usr1", 2, 3, "minor cycles 1"),
        ("mid-write:38:1:usr1", 3, 1, "minor cycles 1"),
        ("before-write:50:1:usr1", 3, 4, "major cycle 1"),
        ("product-before-write:20:0:usr1", 2, 1, "writing products"),
    ],
)
@pytest.mark.fault(
    "time", "SIGUSR1 to one rank in the first images, minor cycles, a major cycle, the products",
    "what is finished is committed, exit 75; resumed on another number of ranks: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_run_that_is_asked_to_stop_commits_what_is_finished_and_another_one_goes_on(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], fault: str, ranks: int, ranks_after: int, committed: str
) -> None:
    imagename = tmp_path / "cube"
    stopped = jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], ranks, {"RADPS_FAULT": fault})
    assert_stopped(stopped, "SIGUSR1" if fault.split(":")[2] == "0" else "signal")
    last = [line for line in stopped.stderr.splitlines() if line.startswith("radps: ")][-2]
    assert committed in last
    jobs.succeed(["resume", imagename], ranks_after)
    assert_finished(imagename, undisturbed)


@pytest.mark.fault(
    "time", "SIGUSR1 when most planes of the products are written",
    "exit 75; resumed, those planes aren't made again: same hashes as an undisturbed run",
)  # fmt: skip
def test_planes_of_products_that_a_stopped_job_wrote_are_not_made_again(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    imagename = tmp_path / "cube"
    env = {"RADPS_FAULT": "product-before-write:99:0:usr1"}  # of some 126 planes of this rank
    assert_stopped(jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], 2, env), "SIGUSR1")
    shutil.copytree(tmp_path, copy := tmp_path.with_name("copy"))
    (copy / "cube.image.fits.partial").unlink()
    resumed = jobs.succeed(["resume", imagename], ranks=3)
    planes = re.findall(r"^radps: writing products: (\d+)$", resumed.stderr, re.MULTILINE)
    assert len(planes) == 1 and 0 < int(planes[0]) < 20
    assert_finished(imagename, undisturbed)
    killed = jobs.run_radps(["resume", copy / "cube"], 2, {"RADPS_FAULT": "product-before-write:9:0"})
    assert killed.returncode == 137, "the file that is made anew must not pass for the one that was written"
    jobs.succeed(["resume", copy / "cube"], ranks=1)
    assert_finished(copy / "cube", undisturbed)


@pytest.mark.fault(
    "time", "SIGUSR1 while products are written, then fewer products asked for",
    "exit 75; only those asked for are there, with the same hashes",
)  # fmt: skip
def test_nothing_is_left_of_products_that_are_no_longer_wanted(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    imagename = tmp_path / "cube"
    env = {"RADPS_FAULT": "product-before-write:20:0:usr1"}
    assert_stopped(jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], 2, env), "SIGUSR1")
    jobs.succeed(["resume", imagename, "--products", "image"])
    assert_finished(imagename, {"image": undisturbed["image"]})


@pytest.mark.fault(
    "time", "a job ended by --max-time 100 ms, shorter than ingest, any cycle and the products",
    "exit 75 each time; done by a chain of jobs on 2 to 4 ranks: same hashes as an undisturbed run",
)  # fmt: skip
def test_work_of_any_length_gets_done_by_jobs_that_are_too_short_for_it(
    galaxy: Path, galaxy_store: Path, tmp_path: Path, injected: Callable[..., None]
) -> None:
    short = ["--imsize", "64", "--cell", "30arcsec", "--nchan", "4", "--start", "20", "--niter", "200", "--nmajor", "1"]
    (tmp_path / "straight").mkdir()
    jobs.succeed(["image", galaxy_store, "--imagename", tmp_path / "straight" / "cube", *short])
    expected = jobs.product_hashes(tmp_path / "straight" / "cube")
    imagename = tmp_path / "jobs" / "cube"
    args = ["image", galaxy, "--imagename", imagename, *short, "--max-time", "100ms"]
    for job in range(1, 40):
        done = jobs.run_radps(args, ranks := 1 + job % 3)
        if done.returncode == 0:
            break
        injected()
        assert_stopped(done, "time is nearly up")
        args = ["resume", imagename, "--max-time", "100ms"]
    assert done.returncode == 0 and job > 5, (job, ranks)
    assert_finished(imagename, expected)


@pytest.mark.fault(
    "time", "SIGUSR1, then SIGKILL, to an ingest of several chunks",
    "exit 75; goes on behind the last finished chunk to the same store", times=2,
)  # fmt: skip
def test_an_ingest_that_is_stopped_or_killed_goes_on_behind_its_last_finished_chunk(
    large_set: Path, tmp_path: Path
) -> None:
    jobs.succeed(["ingest", large_set, "-o", tmp_path / "straight.vis.h5"], ranks=1)
    store = tmp_path / "pieces.vis.h5"
    stopped = jobs.run_radps(["ingest", large_set, "-o", store], 2, {"RADPS_FAULT": "ingest-chunk:1:1:usr1"})
    assert stopped.returncode == TRY_AGAIN and not store.exists(), stopped.stderr
    assert "the same command goes on" in stopped.stderr
    killed = jobs.run_radps(["ingest", large_set, "-o", store], 3, {"RADPS_FAULT": "ingest-chunk:1:2"})
    assert killed.returncode == 137
    done = jobs.run_radps(["ingest", large_set, "-o", store], 2, {"RADPS_FAULT": "ingest-chunk:3"})
    assert done.returncode == 0, "the last two of three chunks were left to do"
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.name, "straight.vis.h5"]
    assert_same_store(store, tmp_path / "straight.vis.h5")


@pytest.mark.fault(
    "time", "SIGUSR1 to an ingest, then an ingest of another set to the same place",
    "exit 75; starts over, with the store of an undisturbed ingest",
)  # fmt: skip
def test_an_ingest_of_something_else_starts_over(galaxy: Path, large_set: Path, tmp_path: Path) -> None:
    store = tmp_path / "a.vis.h5"
    assert jobs.run_radps(["ingest", large_set, "-o", store], 2, {"RADPS_FAULT": "ingest-chunk:2:0:usr1"}).returncode == 75
    jobs.succeed(["ingest", galaxy, "-o", store], ranks=2)
    jobs.succeed(["ingest", galaxy, "-o", tmp_path / "b.vis.h5"], ranks=2)
    assert_same_store(store, tmp_path / "b.vis.h5")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.fault(
    "time", "SIGUSR1 or SIGTERM to all ranks, twice, while one hangs",
    "exit 75 within 5 s of the second; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_the_second_signal_ends_a_job_at_once(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str], number: signal.Signals
) -> None:
    imagename, env = tmp_path / "cube", {"RADPS_FAULT": "before-write:30:1:hang"}
    with jobs.Job(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], 2, env) as job:
        assert job.wait_until((tmp_path / "cube.radps" / "manifest").exists)
        time.sleep(3.0)
        for _ in range(2):
            for pid in job.rank_pids():
                os.kill(pid, number)
            time.sleep(0.5)
        began = time.monotonic()
        done = job.finish(20)
    assert done.returncode == TRY_AGAIN and time.monotonic() - began < 5.0
    jobs.succeed(["resume", imagename], ranks=3)
    assert_finished(imagename, undisturbed)


@pytest.mark.fault(
    "ranks", "a rank that hangs in a write (--stall-timeout 4 s)",
    "status 71 within 30 s: rank, host and traceback; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_rank_that_hangs_ends_the_job_by_name_with_its_traceback(
    galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    imagename, env = tmp_path / "cube", {"RADPS_FAULT": "before-write:30:1:hang"}
    args = ["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN, "--stall-timeout", "4s"]
    began = time.monotonic()
    hung = jobs.run_radps(args, 3, env)
    assert hung.returncode == STALLED and time.monotonic() - began < 30.0
    (line, *_) = jobs.error_lines(hung)
    assert f"rank 1 on {os.uname().nodename} has not got on" in line
    assert "in write_plane" in (tmp_path / "cube.radps" / "logs" / "rank-1.log").read_text()
    jobs.succeed(["resume", imagename, "--stall-timeout", ""], ranks=2)
    assert_finished(imagename, undisturbed)


@pytest.mark.fault("ranks", "a rank that exits", "the job ends with its status; resumed: same hashes as an undisturbed run")
def test_a_rank_that_exits_ends_the_job(galaxy_store: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    imagename, env = tmp_path / "cube", {"RADPS_FAULT": "before-write:30:1:exit"}
    assert jobs.run_radps(["image", galaxy_store, "--imagename", imagename, *jobs.CLEAN], 3, env, timeout=30).returncode == 9
    jobs.succeed(["resume", imagename], ranks=2)
    assert_finished(imagename, undisturbed)
