"""radps doctor: what it finds on a sound machine, and what it says of broken ones."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radps_mpi import doctor, parallel
from radps_mpi.doctor import Finding

SUBJECTS = {"Python", "MPI", "launcher", "HDF5", "parallel write", "FFTW", "numba", "casacore", "measures data",
            "processor", "cores", "affinity", "all ranks", "memory", "disk", "file locks"}  # fmt: skip


def facts(**changes: Any) -> doctor._RankFacts:
    usual = doctor._RankFacts("node1", (0, 1), "processor A", (("numpy", "2.0"), ("h5py", "3.16.0")), 1)
    return replace(usual, **changes)


def test_this_installation_has_no_problems_and_leaves_no_file(tmp_path: Path) -> None:
    findings = doctor.diagnose(parallel.world(), tmp_path)
    assert {f.subject for f in findings} == SUBJECTS
    assert [f for f in findings if f.level == "problem"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mpi
def test_all_ranks_get_the_same_findings_and_write_one_file(tmp_path: Path) -> None:
    comm = parallel.world()
    folder = Path(comm.bcast(str(tmp_path)))
    findings = doctor.diagnose(comm, folder)
    assert len(set(comm.allgather(tuple(findings)))) == 1
    written = next(f for f in findings if f.subject == "parallel write")
    assert written.level == "ok"
    assert written.text.startswith(f"{comm.size} ranks")


def test_a_missing_folder_is_a_problem_of_writing_and_not_the_end(tmp_path: Path) -> None:
    findings = doctor.diagnose(parallel.world(), tmp_path / "nowhere")
    problems = {f.subject for f in findings if f.level == "problem"}
    assert "parallel write" in problems
    assert "Python" not in problems


def test_the_report_names_remedies_and_exits_with_1_for_a_problem() -> None:
    out = io.StringIO()
    status = doctor.report([Finding("A", "ok", "fine"), Finding("B", "problem", "broken", "mend it")], out)
    assert status == 1
    lines = out.getvalue().splitlines()
    assert [line.split() for line in lines] == [["ok", "A", "fine"], ["problem", "B", "broken"], ["->", "mend", "it"],
                                                ["1", "problem,", "0", "warnings"]]  # fmt: skip


def test_the_report_exits_with_0_for_warnings() -> None:
    assert doctor.report([Finding("A", "warning", "slow", "wait")], io.StringIO()) == 0


def test_a_package_that_cannot_be_imported_is_one_problem() -> None:
    def broken() -> Finding:
        raise ImportError("libhdf5.so: not found")

    finding = doctor._guarded("HDF5", broken)
    assert finding.level == "problem"
    assert "libhdf5.so" in finding.text
    assert "jobs/setup.sh" in finding.remedy


def test_an_h5py_without_mpi_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    serial = type("Config", (), {"mpi": False})
    monkeypatch.setattr(h5py, "get_config", lambda: serial)
    assert doctor._h5py().level == "problem"
    assert doctor._parallel_write(parallel.world(), Path()).level == "problem"


def test_a_launcher_that_started_more_ranks_than_mpi_sees_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", str(parallel.world().size + 1))
    finding = doctor._launcher([facts()])
    assert finding.level == "problem"
    assert "PMI_SIZE" in finding.text


def test_an_mpirun_of_another_family_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/sh\necho HYDRA build details:\n")
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(parallel, "library_version", lambda: "Open MPI v4.1.4, package: Debian")
    finding = doctor._launcher([facts()])
    assert finding.level == "problem"
    assert str(mpirun) in finding.text


def test_no_launcher_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._launcher([facts()]).level == "warning"


def test_differing_versions_on_two_nodes_are_a_problem_that_names_both() -> None:
    other = facts(host="node2", versions=(("numpy", "2.1"), ("h5py", "3.16.0")))
    finding = doctor._same_everywhere([facts(), other])
    assert finding.level == "problem"
    assert "node2 (rank 1) have numpy 2.0 and 2.1" in finding.text


def test_differing_processors_are_a_warning() -> None:
    finding = doctor._same_everywhere([facts(), facts(host="node2", cpu="processor B")])
    assert finding.level == "warning"
    assert "processor A; processor B" in finding.text


def test_more_ranks_or_threads_than_cores_are_warnings() -> None:
    assert doctor._cores([facts(cores=(0,)), facts(cores=(1,))]).level == "ok"
    assert doctor._cores([facts(cores=(0,)), facts(cores=(0,))]).level == "warning"
    assert doctor._cores([facts(threads=2), facts(threads=2)]).level == "warning"
    assert doctor._cores([facts(cores=(0,)), facts(host="node2", cores=(0,))]).level == "ok"


def test_little_memory_per_rank_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.machine, "memory_of_host_bytes", lambda: (8 << 30, 6 << 30))
    monkeypatch.setattr(doctor.machine, "memory_limits_bytes", lambda: {"Slurm": 3 << 30})
    assert doctor._memory([facts()] * 3).level == "ok"
    finding = doctor._memory([facts()] * 4)
    assert finding.level == "warning"
    assert "Slurm allows 3.0 GiB; 0.8 GiB per rank" in finding.text


def test_earth_rotation_that_ends_before_today_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from radps_mpi.io import measurement_set_measures

    monkeypatch.setattr(measurement_set_measures, "earth_rotation_until_mjd", lambda: (57754.0, 57754.0))
    finding = doctor._measures()
    assert finding.level == "warning"
    assert "2017-01-01" in finding.text


def test_a_file_system_without_locks_is_a_problem_unless_hdf5_may_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    assert doctor._locks(tmp_path).level == "problem"
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")
    assert doctor._locks(tmp_path).level == "warning"


def test_little_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    finding = doctor._disk(tmp_path)
    assert finding.level == "warning"
    assert "1.0 GiB free" in finding.text


@pytest.mark.parametrize(
    ("cores", "level", "says"),
    [
        ([(0, 1, 2, 3)] * 3, "ok", "each of its cores 0-3"),
        ([(0, 1), (2, 3), (8,)], "ok", "0 on 0-1, 1 on 2-3, 2 on 8"),
        ([(0,), (0,), (1,)], "warning", "bound to the same cores"),
        ([(i,) for i in range(12)], "ok", "7 on 7, and 4 more"),
    ],
)
def test_the_cores_that_ranks_are_bound_to_are_told(cores: list[tuple[int, ...]], level: str, says: str) -> None:
    elsewhere = facts(host="node2", cores=(0,))
    found = doctor._affinity([*(facts(cores=c) for c in cores), elsewhere])
    assert found.level == level and says in found.text


def test_fewer_cores_than_slurm_was_asked_for_have_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    found = doctor._affinity([facts(cores=(0,)), facts(cores=(1,))])
    assert found.level == "warning" and "SRUN_CPUS_PER_TASK" in found.remedy
