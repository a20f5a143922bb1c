"""radps plan --calibrate: every constant comes from something that was measured, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from radps_mpi import calibration, parallel
from radps_mpi.errors import StorageError
from radps_mpi.planning.machine_constants import Machine

GUESSED = {"cores_per_node", "memory_per_node_bytes", "kernels_memory_bytes", "start_per_rank_s",
           "commit_us_per_channel", "file_system_bytes_s", "network_latency_us", "network_bytes_s"}  # fmt: skip
"""What one rank on one node can't measure."""


@pytest.mark.launches_mpi
def test_a_calibration_measures_all_that_one_rank_can_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_DATA", (16, 16, 12))
    monkeypatch.setattr(calibration, "_ROWS", (4, 16, 20))
    monkeypatch.setattr(calibration, "_DISK_MB", 8)
    comm = parallel.world()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")  # a process of its own would look for the other three
    machine = calibration.calibrate(comm, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "1 ranks" in machine.calibrated and "failed" not in machine.calibrated
    kept = {f.name for f in fields(Machine) if getattr(machine, f.name) == getattr(Machine(), f.name)}
    assert kept <= GUESSED | {"plane_per_lane"}
    assert 50e6 < machine.base_memory_bytes < 2e9
    assert 0.1 < machine.start_s < 60.0
    assert all(getattr(machine, f.name) >= 0 for f in fields(Machine) if f.type == "float")
    assert machine.processor and machine.processor in machine.calibrated


def test_a_job_of_one_rank_knows_nothing_of_the_job_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_STEPID", "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE", "SLURM_MEM_PER_NODE"):
        monkeypatch.setenv(name, "64")
    kept: list[dict[str, str]] = []

    def refused(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        kept.append(env)
        return subprocess.CompletedProcess(command, 70, "", "radps: starting\nradps: error: no \x1bsuch rank\n")

    monkeypatch.setattr(calibration.subprocess, "run", refused)
    runs, why = calibration._jobs_of_one_rank(tmp_path, [tmp_path / "a.vis.h5"])
    assert runs == [] and why == "exit status 70, radps: error: no \\x1bsuch rank"
    assert {name for name in kept[0] if name.startswith(("SLURM_", "OMPI_"))} == {"SLURM_MEM_PER_NODE"}


def test_a_folder_that_is_not_there_is_an_error_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="scratch space"):
        calibration.calibrate(parallel.world(), tmp_path / "nowhere")


@pytest.mark.fault("time", "SIGTERM during a calibration", "no scratch data are left")
def test_a_calibration_that_is_ended_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(comm: object, scratch: Path, machine: Machine) -> Machine:
        (scratch / "large").write_bytes(b"x")
        os.kill(os.getpid(), signal.SIGTERM)
        return machine

    monkeypatch.setattr(calibration, "_DISK_MB", 1)
    monkeypatch.setattr(calibration, "_measure_runs", ended)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        calibration.calibrate(parallel.world(), tmp_path)
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) is before
