"""Fault points: silent unless armed, and then exact."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radps_mpi import faults
from radps_mpi.errors import UsageError


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_nothing_happens_when_no_fault_is_set() -> None:
    faults.arm("")
    faults.reach("before-write")
    assert not faults.is_armed("before-write")


@pytest.mark.fault("points", "an exception at the third visit of a point", "strikes then and never again")
def test_the_nth_visit_strikes_and_only_that_one() -> None:
    faults.arm("here:3::raise")
    faults.reach("here")
    faults.reach("elsewhere")
    faults.reach("here")
    with pytest.raises(faults.InjectedFault, match="here"):
        faults.reach("here")
    faults.reach("here")


@pytest.mark.fault("points", "no space left at a point", "the error that the system would give")
def test_a_full_disk_is_the_error_that_the_system_would_give() -> None:
    faults.arm("here:::enospc")
    with pytest.raises(OSError) as caught:
        faults.reach("here")
    assert caught.value.errno == errno.ENOSPC


def test_a_process_waits_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    monkeypatch.setenv("RADPS_FAULT_HOLD", str(hold))
    faults.arm("here:::wait")
    waiting = threading.Thread(target=faults.reach, args=("here",))
    waiting.start()
    while not hold.read_text():
        time.sleep(0.01)
    assert waiting.is_alive()
    hold.unlink()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_what_was_let_go_before_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADPS_FAULT_HOLD", str(tmp_path / "none"))
    faults.arm("here:::wait")
    faults.reach("here")
    assert not list(tmp_path.iterdir())


def test_other_ranks_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    faults.arm("here::1:raise")
    assert not faults.is_armed("here")
    faults.arm("here::2:raise")
    assert faults.is_armed("here")


@pytest.mark.parametrize("text", [":1", "here:x", "here:1:y", "here:1:0:explode", "here:1:0:kill:more"])
def test_a_malformed_specification_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="RADPS_FAULT"):
        faults.arm(text)


@pytest.mark.fault("points", "RADPS_FAULT in the environment", "SIGKILL at the second visit")
def test_the_environment_arms_and_the_default_is_to_kill() -> None:
    code = "from radps_mpi import faults; faults.reach('here'); print('first', flush=True); faults.reach('here')"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True,
                          env={"RADPS_FAULT": "here:2"}, check=False)
    assert (done.returncode, done.stdout) == (-9, "first\n")
