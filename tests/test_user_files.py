"""Texts that a user gives: settings, skies, constants."""

from __future__ import annotations

from pathlib import Path

import pytest

from radps_mpi.config_toml import load_toml
from radps_mpi.errors import UsageError
from radps_mpi.user_files import read_user_file


@pytest.mark.fault("hostile", "a device without end as --config, --machine or --site", "refused by name, within bounded memory")
def test_a_device_without_end_is_no_text() -> None:
    with pytest.raises(UsageError, match="/dev/zero: more than"):
        load_toml("/dev/zero")
    with pytest.raises(UsageError, match="site /dev/zero: more than"):
        read_user_file(Path("/dev/zero"), "site")
