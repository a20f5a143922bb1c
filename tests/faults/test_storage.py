"""Disks that are full, fail or go away, and numbers that aren't any: one line soon, nothing committed is lost, and the run goes
on when it can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import jobs

pytestmark = pytest.mark.launches_mpi

AT_WORK = "before-write:11:0:wait"
"""In the first minor cycles, with a state of four channels."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; skipped where it can't be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@dataclass(frozen=True)
class QuotaDisk:
    """A folder on a disk of 300 MB, of which a quota lets it have less."""

    folder: Path

    def limit(self, size: str) -> None:
        """Let it have ``size``, such as "5M"."""
        subprocess.run(["btrfs", "qgroup", "limit", size, self.folder], check=True, capture_output=True)


@pytest.fixture
def quota_disk(tmp_path: Path) -> Iterator[QuotaDisk]:
    """A real one; skipped where there is no btrfs, whose quotas bind root as well as everybody."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("no quota can be set here: mkfs.btrfs is missing (package btrfs-progs)")
    disk, mounted = tmp_path / "disk.img", tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 300_000_000)
    mounted.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", disk, mounted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    folder = mounted / "mine"
    try:
        for command in (["quota", "enable", mounted], ["subvolume", "create", folder]):
            subprocess.run(["btrfs", *command], check=True, capture_output=True)
        yield QuotaDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MeasurementSet of which the store has 80 kB."""
    path = tmp_path_factory.mktemp("sets") / "small.ms"
    jobs.succeed(["simulate", "--ms", path, "--nantenna=8", "--nintegration=20", "--nchan=4"])
    return path


def fill(folder: Path) -> Path:
    """A file that leaves no room."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 14)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk has no end")


def disturbed(args: list[object], hold: Path, disturb: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """A job on which ``disturb`` is done while rank 0 waits in its first minor cycles; it must end within 10 s."""
    hold.touch()
    with jobs.Job(args, 2, {"RADPS_FAULT": AT_WORK, "RADPS_FAULT_HOLD": str(hold)}) as job:
        assert job.wait_until(lambda: hold.read_text() == "reached")
        disturb()
        hold.unlink()
        began = time.monotonic()
        done = job.finish(60)
    assert time.monotonic() - began < 10.0
    return done


@pytest.mark.fault(
    "disk", "a disk of 8 MB, too small for the run: image and --dry-run",
    "status 74, one line with what is needed and what is free; nothing written", times=2,
)  # fmt: skip
def test_a_disk_too_small_for_the_run_is_refused_before_it_begins(small_store: Path, small_disk: Path) -> None:
    large = ["--imsize", "512", "--cell", "1arcsec", "--outframe", "TOPO", "--pblimit=-0.1"]
    args = ["image", small_store, "--imagename", small_disk / "cube", *large]
    refused, planned = jobs.run_radps(args, 2), jobs.run_radps([*args, "--dry-run"], 2)
    assert refused.returncode == planned.returncode == 74
    (line,) = jobs.error_lines(refused)
    assert str(small_disk) in line and "for products" in line and "are free" in line
    assert jobs.error_lines(planned) == [line] and "\ndisk: " in planned.stdout, "the plan is shown all the same"
    assert list(small_disk.iterdir()) == []


@pytest.mark.fault(
    "disk", "a real quota (btrfs) too small for the run, on a disk with room: image, --dry-run and, after a kill, resume",
    "status 74, one line with what is needed; nothing written; resumed once the quota allows it: same hashes as an "
    "undisturbed run", times=3,
)  # fmt: skip
def test_a_quota_is_asked_for_before_the_work_begins(small_store: Path, kept_run: Path, quota_disk: QuotaDisk) -> None:
    imagename = quota_disk.folder / "cube"
    args = ["image", small_store, "--imagename", imagename, *jobs.IMAGE]
    quota_disk.limit("256K")
    refused, planned = jobs.run_radps(args, 2), jobs.run_radps([*args, "--dry-run"], 2)
    assert refused.returncode == planned.returncode == 74, planned.stderr
    (line,) = jobs.error_lines(refused)
    assert "Disk quota exceeded" in line and "for products" in line and "for the state" in line
    (same,) = jobs.error_lines(planned)
    assert same.split(";")[0] == line.split(";")[0] and "\ndisk: " in planned.stdout, "the plan is shown all the same"
    assert list(quota_disk.folder.iterdir()) == []
    quota_disk.limit("none")
    jobs.succeed([*args, "--dry-run"])
    assert list(quota_disk.folder.iterdir()) == [], "a plan writes nothing"
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "before-write:11:0"}).returncode == 137
    quota_disk.limit("256K")
    refused = jobs.run_radps(["resume", imagename], 2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 74 and "Disk quota exceeded" in line
    quota_disk.limit("none")
    jobs.succeed(["resume", imagename], 3)
    assert jobs.product_hashes(imagename) == jobs.product_hashes(kept_run)


@pytest.mark.fault(
    "disk",
    "a real quota (btrfs) with room for one run, killed in its products or while its state is made: resumed, started anew",
    "what the killed job left counts as room: done", times=2,
)  # fmt: skip
def test_what_a_killed_job_left_is_room_for_the_next(made_set: Path, quota_disk: QuotaDisk) -> None:
    args = ["image", made_set, "--imagename", quota_disk.folder / "cube", *jobs.IMAGE, "--imsize", "256"]
    quota_disk.limit("10M")  # state 4.2 MB, five products of 1.05 MB, and 80 kB of visibilities
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "product-before-rename:1:0"}).returncode == 137
    assert len(list(quota_disk.folder.glob("*.partial"))) > 3
    jobs.succeed(["resume", quota_disk.folder / "cube"], 2)
    for path in quota_disk.folder.glob("*.fits"):
        path.unlink()
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "state-before-rename:1:0"}).returncode == 137
    assert (quota_disk.folder / "cube.radps" / "state.h5.partial").stat().st_blocks * 512 > 4e6
    jobs.succeed(args, 2)


@pytest.mark.fault(
    "disk", "a real disk (tmpfs) that is full when an image's ingest is gone on with",
    "status 74 before the ingest goes on, one line with what is needed; resumed once there is room",
)  # fmt: skip
def test_a_resume_amid_the_ingest_asks_for_all_that_follows(made_set: Path, small_disk: Path) -> None:
    imagename = small_disk / "cube"
    args = ["image", made_set, "--imagename", imagename, *jobs.IMAGE]
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "ingest-before-sync:1:0"}).returncode == 137
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 200_000)  # enough for the visibilities
    refused = jobs.run_radps(["resume", imagename], 2)
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 74 and "for products" in line and "for the state" in line
    assert not (small_disk / "cube.radps" / "visibilities.vis.h5").exists(), "not even begun"
    filler.unlink()
    jobs.succeed(["resume", imagename], 2)


@pytest.mark.fault(
    "disk", "a quota (injected) that has no room for products and state, or shrinks until the state is made",
    "status 74, one line with what is needed; a run without state begins anew: same hashes as an undisturbed run", times=2,
)  # fmt: skip
def test_a_quota_ends_a_run_by_one_line(small_store: Path, kept_run: Path, tmp_path: Path) -> None:
    args = ["image", small_store, "--imagename", tmp_path / "cube", *jobs.IMAGE]
    refused = jobs.run_radps([*args, "--dry-run"], 2, {"RADPS_FAULT": "room:1:0:edquot"})
    (line,) = jobs.error_lines(refused)
    assert refused.returncode == 74 and "Disk quota exceeded" in line and "for the state" in line
    assert list(tmp_path.iterdir()) == []
    later = jobs.run_radps(args, 2, {"RADPS_FAULT": "reserve:1:0:edquot"})
    (line,) = jobs.error_lines(later)
    assert later.returncode == 74 and "Disk quota exceeded" in line and "bytes needed" in line
    jobs.succeed(["resume", tmp_path / "cube"], 3)
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(kept_run)


@pytest.mark.fault(
    "disk", "a disk with room for the image, not for the visibility store",
    "status 74 before it begins; nothing written",
)  # fmt: skip
def test_room_for_the_visibility_store_is_looked_for_too(tmp_path: Path, small_disk: Path) -> None:
    size = ["--nantenna", "20", "--nintegration", "300", "--nchan", "4"]
    jobs.succeed(["simulate", "-o", tmp_path / "sim.vis.h5", "--ms", tmp_path / "sim.ms", *size])
    fill(small_disk)
    with open(small_disk / "filler", "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 2_000_000)  # for state and products of the image, not for the store
    refused = jobs.run_radps(["image", tmp_path / "sim.ms", "--imagename", small_disk / "cube", *jobs.IMAGE], 2)
    assert refused.returncode == 74
    (line,) = jobs.error_lines(refused)
    assert "for the visibility store" in line
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("free_bytes", [8192, 16384, 100_000])
@pytest.mark.fault(
    "disk", "a real disk (tmpfs) with 8 to 100 kB free, radps ingest",
    "status 74, one line with the bytes needed; nothing left",
)  # fmt: skip
def test_a_store_is_refused_where_a_library_would_crash_for_want_of_room(
    made_set: Path, small_disk: Path, free_bytes: int
) -> None:
    with open(fill(small_disk), "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - free_bytes)
    refused = jobs.run_radps(["ingest", made_set, "-o", small_disk / "a.vis.h5"])
    assert refused.returncode == 74, refused.stderr
    (line,) = jobs.error_lines(refused)
    assert "a.vis.h5.partial: No space left on device while reserving its space" in line and "bytes needed" in line
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.fault(
    "disk", "a real disk (tmpfs) that fills up during an ingest",
    "status 74, one line with the bytes needed; the next ingest succeeds and verifies",
)  # fmt: skip
def test_a_disk_that_fills_up_during_an_ingest_ends_it_and_the_next_goes_on(
    made_set: Path, small_disk: Path, tmp_path: Path
) -> None:
    args, hold = ["ingest", made_set, "-o", small_disk / "a.vis.h5"], tmp_path / "hold"
    hold.touch()
    with jobs.Job(args, 2, {"RADPS_FAULT": "ingest-chunk:1:0:wait", "RADPS_FAULT_HOLD": str(hold)}) as job:
        assert job.wait_until(lambda: hold.read_text() == "reached")
        filler = fill(small_disk)
        hold.unlink()
        done = job.finish(30)
    assert done.returncode == 74, done.stderr
    (line,) = jobs.error_lines(done)
    assert "No space left on device" in line and "bytes needed" in line
    filler.unlink()
    jobs.succeed(args, 2)
    jobs.succeed(["verify", small_disk / "a.vis.h5"])
    assert [path.name for path in small_disk.iterdir()] == ["a.vis.h5"]


@pytest.mark.fault(
    "disk", "a real disk (tmpfs) that fills up in the first minor cycles",
    "status 74 within 10 s, one line with file and bytes needed; resumed once there is room: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_disk_that_fills_up_ends_the_job_and_the_next_goes_on(
    small_store: Path, kept_run: Path, small_disk: Path, tmp_path: Path
) -> None:
    imagename = small_disk / "cube"
    args = ["image", small_store, "--imagename", imagename, *jobs.IMAGE]
    done = disturbed(args, tmp_path / "hold", lambda: fill(small_disk))
    assert done.returncode == 74, done.stderr
    (line,) = jobs.error_lines(done)
    assert "No space left on device" in line and str(imagename) in line and "bytes needed" in line
    (small_disk / "filler").unlink()
    jobs.succeed(["resume", imagename], 3)
    assert jobs.product_hashes(imagename) == jobs.product_hashes(kept_run)


@pytest.mark.fault("disk", "a full disk under the run's messages (stderr to /dev/full)", "the run ends well all the same")
def test_messages_that_a_full_disk_refuses_stop_no_run(small_store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "radps_mpi", "image", small_store, "--imagename", tmp_path / "cube", *jobs.IMAGE]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stderr=full, env=jobs.environment(), check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "cube.image.fits").exists()


def test_paths_longer_than_mpi_libraries_expect_are_written_to(small_store: Path, tmp_path: Path) -> None:
    imagename = tmp_path / ("a" * 200) / ("b" * 200) / "cube"
    jobs.succeed(["image", small_store, "--imagename", imagename, *jobs.IMAGE], 2)
    assert Path(f"{imagename}.image.fits").exists()


@pytest.mark.fault(
    "disk", "the run's directory renamed away in the first minor cycles",
    "status 74 within 10 s, one line; resumed when it is back",
)  # fmt: skip
def test_a_run_whose_directory_goes_away_ends(small_store: Path, tmp_path: Path) -> None:
    imagename = tmp_path / "runs" / "cube"
    args = ["image", small_store, "--imagename", imagename, *jobs.IMAGE]
    done = disturbed(args, tmp_path / "hold", lambda: os.rename(tmp_path / "runs", tmp_path / "away"))
    assert done.returncode == 74, done.stderr
    assert str(imagename) in jobs.error_lines(done)[0]
    shutil.move(tmp_path / "away", tmp_path / "runs")
    jobs.succeed(["resume", imagename], 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("before-write:12:1:eio", "Input/output error"), ("before-sync:2:0:eio", "Input/output error"),
     ("before-rename:3:0:erofs", "Read-only file system"), ("product-before-write:3:1:eio", "Input/output error")],
)  # fmt: skip
@pytest.mark.fault(
    "disk", "I/O error or read-only file system (injected) in a write, an fsync, the rename or a product",
    "status 74, one line naming the file; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_disk_that_fails_ends_the_job_and_the_next_goes_on(
    small_store: Path, kept_run: Path, tmp_path: Path, fault: str, said: str
) -> None:
    imagename = tmp_path / "cube"
    done = jobs.run_radps(["image", small_store, "--imagename", imagename, *jobs.IMAGE], 2, {"RADPS_FAULT": fault})
    assert done.returncode == 74, done.stderr
    (line,) = jobs.error_lines(done)
    assert said in line and str(imagename) in line
    jobs.succeed(["resume", imagename], 1)
    assert jobs.product_hashes(imagename) == jobs.product_hashes(kept_run)


@pytest.mark.fault(
    "ranks", "a NaN out of finite numbers on one rank",
    "status 65, one line with rank and host; resumed: same hashes as an undisturbed run",
)  # fmt: skip
def test_a_nan_out_of_finite_numbers_ends_the_job_by_rank_and_host(small_store: Path, kept_run: Path, tmp_path: Path) -> None:
    imagename = tmp_path / "cube"
    done = jobs.run_radps(["image", small_store, "--imagename", imagename, *jobs.IMAGE], 2, {"RADPS_FAULT": "residual:5:1:nan"})
    assert done.returncode == 65, done.stderr
    (line,) = jobs.error_lines(done)
    assert "rank 1 failed" in line and os.uname().nodename in line and "NaN" in line
    jobs.succeed(["resume", imagename], 1)
    assert jobs.product_hashes(imagename) == jobs.product_hashes(kept_run)


@pytest.mark.fault(
    "disk", "a file system (tmpfs) remounted read-only under a stopped run: resume and a new run",
    "status 74, one line naming the file; resumed once it can be written: same hashes as an undisturbed run", times=2,
)  # fmt: skip
def test_a_read_only_file_system_is_told_and_costs_nothing(small_store: Path, kept_run: Path, small_disk: Path) -> None:
    args = ["image", small_store, "--imagename", small_disk / "cube", *jobs.IMAGE]
    assert jobs.run_radps(args, 2, {"RADPS_FAULT": "before-write:11:0"}).returncode == 137
    while subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True, check=False).returncode:
        time.sleep(0.1)  # busy until the last rank has gone
    refused = [jobs.run_radps(["resume", small_disk / "cube"], 2), jobs.run_radps([*args, "--overwrite"], 2)]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    for done in refused:
        (line,) = jobs.error_lines(done)
        assert done.returncode == 74 and "Read-only file system" in line and str(small_disk) in line
    jobs.succeed(["resume", small_disk / "cube"], ranks=3)
    assert jobs.product_hashes(small_disk / "cube") == jobs.product_hashes(kept_run)


@pytest.mark.parametrize("setting", ["TRUE", "FALSE"])
@pytest.mark.fault(
    "kills", "SIGKILL of a rank under HDF5_USE_FILE_LOCKING={setting}",
    "resumed on another number of ranks: same hashes as an undisturbed run",
)  # fmt: skip
def test_runs_go_on_whatever_a_site_says_of_hdf5s_locks(
    small_store: Path, kept_run: Path, tmp_path: Path, setting: str
) -> None:
    locking = {"HDF5_USE_FILE_LOCKING": setting}
    args = ["image", small_store, "--imagename", tmp_path / "cube", *jobs.IMAGE]
    assert jobs.run_radps(args, 2, {**locking, "RADPS_FAULT": "before-write:11:0"}).returncode == 137
    resumed = jobs.run_radps(["resume", tmp_path / "cube"], 3, locking)
    assert resumed.returncode == 0, resumed.stderr
    assert jobs.product_hashes(tmp_path / "cube") == jobs.product_hashes(kept_run)
