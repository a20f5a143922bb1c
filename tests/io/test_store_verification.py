"""Checking visibility stores on many ranks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from radps_mpi.errors import DataError
from radps_mpi.io import store_verification
from radps_mpi.io.store_verification import damage_in_share, stores_of_run, verify_store
from radps_mpi.parallel import world

NCHAN = 7


class Store:
    """A store of two observations whose channel 5 of the second is damaged; notes which channels are verified."""

    def __init__(self) -> None:
        self.observations = [SimpleNamespace(index=i, nchan=NCHAN) for i in range(2)]
        self.verified: list[tuple[int, int]] = []

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def verify(self, obs: int, chan0: int, chan1: int) -> None:
        self.verified += [(obs, chan) for chan in range(chan0, chan1)]
        if obs == 1 and chan0 <= 5 < chan1:
            raise DataError("channel 5: the data don't match their checksum")


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_each_channel_is_verified_by_one_rank_and_damage_is_found(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(store_verification.VisibilityStore, "open", lambda _: store)
    found = [finding for rank in range(size) for finding in damage_in_share("a.vis.h5", rank, size)]
    assert sorted(store.verified) == [(obs, chan) for obs in range(2) for chan in range(NCHAN)]
    assert [str(finding) for finding in found] == ["damage: channel 5: the data don't match their checksum"]


def test_a_store_that_is_missing_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.vis.h5"):
        verify_store(world(), str(tmp_path / "none.vis.h5"))


def test_stores_of_a_run_are_its_own_and_those_that_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "own.vis.h5").touch()
    (tmp_path / "config.toml").write_text('vis = ["a.ms", "given.vis.h5"]\n')
    assert stores_of_run(tmp_path) == [str(tmp_path / "own.vis.h5"), "given.vis.h5"]
    (tmp_path / "config.toml").unlink()
    assert stores_of_run(tmp_path) == [str(tmp_path / "own.vis.h5")]
