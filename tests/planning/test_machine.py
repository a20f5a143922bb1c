"""What the machine offers, read from files as Linux writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radps_mpi.planning import machine

CPUINFO = """processor\t: 0
model name\t: Some Processor @ 2.50GHz
flags\t\t: fpu sse4_2 avx avx2 fma

processor\t: 1
model name\t: Some Processor @ 2.50GHz
"""


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def test_the_processor_is_named_with_the_features_that_kernels_use(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    assert machine.cpu_model(cpuinfo) == "Some Processor @ 2.50GHz"
    assert machine.cpu_features(cpuinfo) == ("sse4_2", "avx", "avx2", "fma")


def test_an_unreadable_cpuinfo_gives_a_name_and_no_features(tmp_path: Path) -> None:
    assert machine.cpu_model(tmp_path / "none")
    assert machine.cpu_features(tmp_path / "none") == ()


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\n")
    assert machine.memory_of_host_bytes(meminfo) == (16 << 20, 8 << 20)
    assert machine.memory_of_host_bytes(tmp_path / "none") == (0, 0)


def test_the_smallest_limit_on_the_way_up_a_version_2_group_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/slice/job\n")
    (tmp_path / "fs" / "slice" / "job").mkdir(parents=True)
    (tmp_path / "fs" / "slice" / "job" / "memory.max").write_text("max\n")
    (tmp_path / "fs" / "slice" / "memory.max").write_text(f"{3 << 30}\n")
    assert machine.memory_limits_bytes(own, tmp_path / "fs") == {"control group": 3 << 30}


def test_a_version_1_group_without_a_limit_has_none(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/job\n4:memory:/job\n0::/\n")
    group = tmp_path / "fs" / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert machine.memory_limits_bytes(own, tmp_path / "fs") == {}
    (group / "memory.limit_in_bytes").write_text(f"{2 << 30}\n")
    assert machine.memory_limits_bytes(own, tmp_path / "fs") == {"control group": 2 << 30}


def test_slurm_says_what_it_gives_per_node_or_per_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "2000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert machine.memory_limits_bytes(tmp_path / "none", tmp_path) == {"Slurm": 8000 << 20}
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    assert machine.memory_limits_bytes(tmp_path / "none", tmp_path) == {"Slurm": 1000 << 20}


def test_this_process_may_use_at_least_one_core() -> None:
    assert 1 <= len(machine.cores_allowed()) <= machine.cores_of_host()
