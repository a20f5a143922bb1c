"""machine.toml: written, read back, and what is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radps_mpi.errors import StorageError, UsageError
from radps_mpi.planning.machine_constants import Machine, default_path, machine_of_toml, read_machine, write_machine


def test_a_machine_file_gives_back_the_machine(tmp_path: Path) -> None:
    machine = replace(Machine(), calibrated="today", processor="Some @ 2.50GHz", start_s=3.25, cores_per_node=128)
    write_machine(tmp_path / "new" / "machine.toml", machine)
    assert read_machine(tmp_path / "new" / "machine.toml") == machine


def test_a_file_may_leave_constants_out() -> None:
    assert machine_of_toml("machine_version = 3\nstart_s = 9.0\n", "m.toml") == replace(Machine(), start_s=9.0)


@pytest.mark.parametrize(("text", "message"), [
    ("start_s = 1.0", "m.toml: machine_version None is not known"),
    ("machine_version = 99", "machine_version 99 is not known"),
    ("machine_version = 3\nstart = 1", "m.toml: unknown constant 'start'"),
    ("machine_version = 3\nstart_s = 'x'", "m.toml: start_s: 'x' is not a number"),
    ("machine_version = 3\nstart_s = true", "is not a number"),
    ("machine_version = 3\nstart_s = -1.0", "m.toml: start_s: -1.0 is outside the allowed range"),
    ("machine_version = 3\nstart_s = nan", "outside the allowed range"),
    ("machine_version = 3\nmemory_bytes_s = 0", "memory_bytes_s: a rate has to be at least 1 byte/s"),
    ("machine_version = 3\nnetwork_bytes_s = 1e-300", "network_bytes_s: a rate has to be at least 1 byte/s"),
    ("machine_version = 3\ncalibrated = 3", "calibrated: 3 is not a text"),
    ("machine_version =", "not valid TOML"),
    pytest.param("machine_version = 3\nx = " + "[" * 100_000, "not valid TOML", id="brackets"),
    pytest.param("machine_version = " + "9" * 5000, "not valid TOML", id="digits"),
    pytest.param("machine_version = 3\ncores_per_node = " + "9" * 400, "outside the allowed range: 0 to 1e+18", id="digits"),
])  # fmt: skip
def test_what_cannot_be_a_machine_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        machine_of_toml(text, "m.toml")
    assert message in str(refused.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_machine(tmp_path / "none.toml")


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"machine\.toml"):
        write_machine(tmp_path / "file" / "machine.toml", Machine())


def test_the_default_place_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "radps" / "machine.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".config" / "radps" / "machine.toml"
