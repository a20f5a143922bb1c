"""The run directory: one run at a time, nothing outside it, and news that are never half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radps_mpi import alarm
from radps_mpi.errors import DataError, UsageError
from radps_mpi.io import run_lock
from radps_mpi.io.run_directory import CONFIG_NAME, RunDirectory, contained
from radps_mpi.io.run_status import PROVENANCE_NAME, STATUS_NAME, Status, read_provenance, read_status, run_directory_of
from radps_mpi.parallel import world

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from radps_mpi.io.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]), sys.argv[2])
lock.acquire()
lock.join()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def image(tmp_path: Path) -> str:
    return str(tmp_path / "m51")


@pytest.fixture
def run(image: str) -> Iterator[RunDirectory]:
    directory = RunDirectory.open(world(), image)
    yield directory
    directory.close()


def other_process(root: Path, job_id: str = "") -> subprocess.Popen[str]:
    """A process that holds the run's lock."""
    root.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root), job_id], cwd=REPOSITORY, text=True,
                               stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.fault(
    "two runs", "a second run while another process holds the directory",
    "refused with process, host and since when",
)  # fmt: skip
def test_a_second_run_is_refused_and_told_who_holds_it(image: str) -> None:
    holder = other_process(Path(image + ".radps"))
    try:
        with pytest.raises(UsageError, match=rf"m51\.radps is in use by process {holder.pid} on .*since 20"):
            RunDirectory.open(world(), image)
        assert read_status(Path(image + ".radps")).running is True
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.fault(
    "kills", "SIGKILL amid the replacement of status, record, configuration, convergence or manifest (what it leaves)",
    "removed when the next job enters the directory", times=6,
)  # fmt: skip
def test_what_a_kill_amid_a_replacement_left_is_removed_by_the_next_job(image: str) -> None:
    RunDirectory.open(world(), image).close()
    root = Path(image + ".radps")
    for name in ("status.json", "provenance.json", "config.toml", "convergence.csv", "manifest", "manifest.previous"):
        (root / f"{name}.tmp").write_bytes(b"half of")
    mine = root / "notes.tmp"
    mine.touch()
    RunDirectory.open(world(), image).close()
    assert list(root.glob("*.tmp")) == [mine], "what radps didn't write is left alone"


@pytest.mark.fault("two runs", "a lock left by a killed process", "broken without asking")
def test_the_lock_of_a_killed_process_is_broken_without_asking(image: str) -> None:
    holder = other_process(Path(image + ".radps"))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_status(Path(image + ".radps")).running is False
    run = RunDirectory.open(world(), image)
    assert read_status(run.root).holder.pid == os.getpid()
    run.close()


@pytest.mark.fault("two runs", "a rank that survives its killed run", "waited for, then refused with what to look at")
def test_a_surviving_rank_of_a_killed_run_is_waited_for(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "SURVIVOR_WAIT_S", 0.5)
    RunDirectory.open(world(), image).close()
    survivor = run_lock.RunLock(Path(image + ".radps"))
    survivor.join()
    with pytest.raises(UsageError, match=r"still alive.*lock\.ranks"):
        RunDirectory.open(world(), image)
    survivor.release()
    RunDirectory.open(world(), image).close()


def foreign(root: Path, **changes: object) -> None:
    root.mkdir(exist_ok=True)
    holder = {"host": "node17", "pid": 4711, "job_id": "99", "started": "2026-01-01T00:00:00+00:00", "boot_id": "b",
              "started_ticks": "1", **changes}
    (root / "lock").write_text(json.dumps(holder))


@pytest.mark.fault("two runs", "a lock from another host", "refused with process, host, job id and --break-lock, which works")
def test_a_lock_from_another_host_is_refused_saying_how_to_break_it(image: str) -> None:
    foreign(Path(image + ".radps"))
    told = r"locked by process 4711 on node17, job 99, since 2026.*--break-lock.*radps/lock"
    with pytest.raises(UsageError, match=told):
        RunDirectory.open(world(), image)
    assert read_status(Path(image + ".radps")).running is None
    run = RunDirectory.open(world(), image, break_lock=True)
    assert read_status(run.root).running is True
    run.close()


@pytest.mark.fault("two runs", "a lock from another host, of the same job requeued", "the job goes on")
def test_a_requeued_job_on_another_host_may_go_on(image: str) -> None:
    foreign(Path(image + ".radps"))
    RunDirectory.open(world(), image, job_id="99").close()


@pytest.mark.fault("two runs", "a second run where the file system has no locks", "refused while the holder lives")
def test_where_the_file_system_has_no_locks_a_living_holder_is_still_respected(
        image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunDirectory.open(world(), image)
    monkeypatch.setattr(run_lock, "flock", lambda fd, kind: None)
    with pytest.raises(UsageError, match="in use by process"):
        RunDirectory.open(world(), image)
    lock = first.root / "lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "started_ticks": "1"}))
    RunDirectory.open(world(), image).close()
    first.close()


def test_a_closed_run_leaves_the_directory_free(image: str) -> None:
    RunDirectory.open(world(), image).close()
    report = read_status(Path(image + ".radps"))
    assert report.holder is None and report.running is False and report.status is None
    RunDirectory.open(world(), image).close()


@pytest.mark.fault("hostile", "paths that lead out of the run directory", "refused", times=7)
def test_names_that_leave_the_directory_are_refused(run: RunDirectory, tmp_path: Path) -> None:
    (run.root / "way_out").symlink_to(tmp_path)
    for name in ("../x", "/etc/passwd", "logs/../../x", "", ".", "way_out/x", "a\0b"):
        with pytest.raises(UsageError, match="leads out of the run directory"):
            run.path(name)
    assert run.path("logs/rank3.log") == run.root / "logs" / "rank3.log"
    assert contained(run.root, "logs/../status.json").name == "status.json"


@pytest.mark.parametrize("name", ["", "dir/", "a\nb", ".", "no/such/dir/image"])
def test_image_names_that_cant_be_a_directory_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="imagename"):
        run_directory_of(name)


@pytest.mark.fault(
    "two runs", "a directory of somebody else, a link or a file in place of the run directory",
    "refused by name", times=3,
)  # fmt: skip
def test_directories_of_others_are_not_entered(image: str, tmp_path: Path) -> None:
    root = Path(image + ".radps")
    root.mkdir()
    (root / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="isn't a run directory of radps"):
        RunDirectory.open(world(), image)
    (tmp_path / "linked.radps").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="symbolic link"):
        RunDirectory.open(world(), str(tmp_path / "linked"))
    (tmp_path / "file.radps").write_text("")
    with pytest.raises(UsageError, match="isn't a directory"):
        RunDirectory.open(world(), str(tmp_path / "file"))


def test_status_comes_back_as_written(run: RunDirectory) -> None:
    status = Status("major cycle", cycle=2, done=5, total=20, eta_s=12.5, peak_jy=0.125, iterations=300, ranks=3)
    run.write_status(status)
    report = read_status(run.root)
    assert report.status == status and report.running is True
    written = json.loads((run.root / "status.json").read_text())
    assert set(written) >= {"phase", "cycle", "done", "total", "eta_s", "updated"}


def test_asking_for_the_status_starts_no_mpi(run: RunDirectory) -> None:
    code = """
import sys
from radps_mpi.io import run_status, manifest
assert "mpi4py" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_readers_never_see_half_a_status(run: RunDirectory) -> None:
    code = """
import sys
from pathlib import Path
from radps_mpi.io.run_status import read_status
last = -1
while last < 300:
    status = read_status(Path(sys.argv[1])).status
    assert status.cycle >= last and len(status.message) == 5000
    last = status.cycle
"""
    run.write_status(Status("x", cycle=0, message="y" * 5000))
    reader = subprocess.Popen([sys.executable, "-c", code, str(run.root)], cwd=REPOSITORY)
    cycle = 0
    deadline = time.monotonic() + 60
    while reader.poll() is None and time.monotonic() < deadline:
        cycle += 1
        run.write_status(Status("x", cycle=cycle, message="y" * 5000))
    assert reader.wait(timeout=5) == 0


@pytest.mark.fault("corruption", "a status file cut short", "an error that names it")
def test_a_damaged_status_is_an_error_that_names_the_file(run: RunDirectory) -> None:
    (run.root / "status.json").write_text("[1")
    with pytest.raises(DataError, match=r"status\.json"):
        read_status(run.root)
    with pytest.raises(DataError, match="no such run directory"):
        read_status(run.root / "nothing")


@pytest.mark.fault("corruption", "provenance cut short", "kept aside; the run goes on")
def test_events_are_appended_and_a_damaged_file_is_kept_aside(run: RunDirectory) -> None:
    run.add_event("started", ranks=3)
    run.add_event("resumed", ranks=2)
    assert [(event["event"], event["ranks"]) for event in read_provenance(run.root)] == [("started", 3), ("resumed", 2)]
    (run.root / "provenance.json").write_text("{")
    run.add_event("resumed", ranks=7)
    assert [event["ranks"] for event in read_provenance(run.root)] == [7]
    assert (run.root / "provenance.json.damaged").read_text() == "{"


def test_configuration_and_convergence_are_kept_whole(run: RunDirectory) -> None:
    assert run.read_config() is None
    run.write_config('niter = 5\nname = "Å"\n')
    assert run.read_config() == 'niter = 5\nname = "Å"\n'
    run.write_convergence(["cycle", "peak_jy"], [[1, 0.5], [2, 0.25]])
    run.write_convergence(["cycle", "peak_jy"], [[1, 0.5], [2, 0.25], [3, 0.125]])
    assert (run.root / "convergence.csv").read_text().splitlines() == ["cycle,peak_jy", "1,0.5", "2,0.25", "3,0.125"]
    assert run.logs.is_dir()


@pytest.mark.timeout(20, method="signal")
@pytest.mark.fault(
    "hostile", "a pipe in place of status, parameters, provenance, log",
    "refused or set aside; nobody waits", times=4,
)  # fmt: skip
def test_a_pipe_in_a_file_s_place_keeps_nobody_waiting(run: RunDirectory) -> None:
    for name in (STATUS_NAME, CONFIG_NAME, PROVENANCE_NAME, "logs/radps.log"):
        os.mkfifo(run.root / name)
    with pytest.raises(DataError, match=r"config\.toml: is not a regular file"):
        run.read_config()
    with pytest.raises(DataError, match=r"status\.json: is not a regular file"):
        read_status(run.root)
    run.add_event("started")  # what can't be read is set aside
    assert [event["event"] for event in read_provenance(run.root)] == ["started"]
    with pytest.raises(OSError, match="No such device"):
        alarm.open_log(run.logs / "radps.log")


@pytest.mark.timeout(20, method="signal")
@pytest.mark.parametrize("text", [None, b"[" * 4096], ids=["a pipe", "nonsense"])
@pytest.mark.fault("two runs", "a pipe or nonsense in place of the lock", "taken for nobody's; nobody waits")
def test_a_lock_that_names_nobody_is_nobody_s(tmp_path: Path, text: bytes | None) -> None:
    lock = tmp_path / run_lock.LOCK_NAME
    os.mkfifo(lock) if text is None else lock.write_bytes(text)
    assert run_lock.read_holder(tmp_path) == (None, False)


@pytest.mark.fault("hostile", "a device in place of the parameters", "refused by name")
def test_a_device_in_a_file_s_place_is_not_read(run: RunDirectory) -> None:
    (run.root / CONFIG_NAME).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is not a regular file"):
        run.read_config()
