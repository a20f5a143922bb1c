"""Fixtures that every test may use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from support import data as support_data

pytest_plugins = ["support.fault_table"]

# Hypothesis fails an example that takes longer than 0.2 s: what a loaded machine may do to any of them.
settings.register_profile("any load", deadline=None)
settings.load_profile("any load")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--idle-machine", action="store_true", help="run what is marked idle_machine too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--idle-machine"):
        for item in items:
            if "idle_machine" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="compares times: run it with --idle-machine, on one that is"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and CASA products beside the checkout; skips where it is missing."""
    if not support_data.SHARED.exists():
        pytest.skip("needs the folder of data and goldens beside the checkout")
    return support_data.SHARED


@pytest.fixture(scope="session")
def dataset() -> Callable[[str], Path]:
    """``dataset("ngc5921_src_contsub.ms")``: the path of an unpacked set; read-only. Skips where the set is missing."""

    def find(name: str) -> Path:
        if support_data.archive_of(name) is None:
            pytest.skip(f"needs {name} from the folder of data beside the checkout")
        return support_data.dataset(name)

    return find
