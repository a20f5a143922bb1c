"""An earlier run waits until the new one has a state, and comes back whole however the new one ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radps_mpi.io import earlier_run

NAMES = ("config.toml", "visibilities.vis.h5", "manifest", "manifest.previous", "state.h5")


def files(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in root.iterdir() if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("config.toml", "manifest", "state.h5", "lock"):
        (tmp_path / name).write_text(f"earlier {name}")
    return tmp_path


def test_what_waits_is_out_of_the_way_and_comes_back(root: Path) -> None:
    before = files(root)
    earlier_run.set_aside(root, NAMES)
    assert files(root) == {"lock": before["lock"]}
    for name in ("config.toml", "visibilities.vis.h5"):
        (root / name).write_text("new")
    assert earlier_run.bring_back(root, NAMES)
    assert files(root) == before, "a file that only the new run had is gone too"
    assert not earlier_run.bring_back(root, NAMES)


def test_it_is_forgotten_once_the_new_run_has_a_manifest(root: Path) -> None:
    earlier_run.set_aside(root, NAMES)
    (root / "manifest").write_text("new")
    assert not earlier_run.bring_back(root, NAMES)
    assert files(root)["manifest"] == "new" and not (root / "replaced").exists()


@pytest.mark.parametrize("fatal", range(12))
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.fault(
    "kills", "an end at any step of setting an earlier run aside or bringing it back",
    "the earlier run comes back to the byte",
)  # fmt: skip
def test_a_kill_at_any_step_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, fatal: int, backwards: bool
) -> None:
    before, calls = files(root), 0
    if backwards:
        earlier_run.set_aside(root, NAMES)
        (root / "visibilities.vis.h5").write_text("new")

    def replace(source: Path, target: Path, *, real: object = os.replace) -> None:
        nonlocal calls
        calls += 1
        if calls > fatal:
            raise KeyboardInterrupt
        real(source, target)  # type: ignore[operator]

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        try:
            if backwards:
                earlier_run.bring_back(root, NAMES)
            else:
                earlier_run.set_aside(root, NAMES)
        except KeyboardInterrupt:
            pass
    earlier_run.bring_back(root, NAMES)
    assert files(root) == before
    earlier_run.set_aside(root, NAMES)
    earlier_run.bring_back(root, NAMES)
    assert files(root) == before
