"""The same store, bit for bit, from any number of ranks; errors on all ranks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.measurement_sets import make_set

from radps_mpi.errors import RadpsError
from radps_mpi.io.ingest import ingest
from radps_mpi.io.ingest_slab import Buffers
from radps_mpi.io.selection import Selection
from radps_mpi.io.visibility_store import VisibilityStore
from radps_mpi.parallel import on_root, world
from radps_mpi.parallel.exchange import exchange, gather_everywhere, sum_integers

PROGRAM = """
import sys
from radps_mpi.errors import RadpsError
from radps_mpi.io.ingest import ingest
from radps_mpi.io.selection import Selection
from radps_mpi.parallel import world
comm = world()
try:
    ingest(comm, sys.argv[2:], [Selection()] * len(sys.argv[2:]), sys.argv[1], row_chunk=4000, memory_bytes=30_000_000)
except RadpsError as error:
    sys.stdout.write(f"refused {comm.rank} {error}\\n")
    sys.stdout.flush()
"""


def run(ranks: int, store: Path, *sources: Path) -> str:
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1"}  # fmt: skip
    command = ["mpirun", "--timeout", "100", "-n", str(ranks), sys.executable, "-m", "mpi4py", "-c", PROGRAM]
    command += [str(store), *map(str, sources)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def same_tables(one: VisibilityStore, other: VisibilityStore) -> bool:
    return len(one.observations) == len(other.observations) and all(
        np.array_equal(table, other.checksum_tables(meta.index)[name])
        for meta in one.observations for name, table in one.checksum_tables(meta.index).items()
    )  # fmt: skip


@pytest.mark.launches_mpi
@pytest.mark.parametrize(("names", "counts"), [
    (("ngc5921_src_contsub.ms",), (2, 3, 4, 7)), (("dmtau_co21.ms", "1102865728_small.ms"), (3,)),
    (("FREQ78.ms", "sim_alma_b6_mosaic_exact_noisy.ms"), (2, 3)),
])  # fmt: skip
def test_real_sets_give_one_store_on_any_number_of_ranks(dataset: Callable[[str], Path], tmp_path: Path,
                                                         names: tuple[str, ...], counts: tuple[int, ...]) -> None:  # fmt: skip
    sources = [dataset(name) for name in names]
    run(1, tmp_path / "1.vis.h5", *sources)
    with VisibilityStore.open(tmp_path / "1.vis.h5") as one:
        for ranks in counts:
            run(ranks, tmp_path / "n.vis.h5", *sources)
            with VisibilityStore.open(tmp_path / "n.vis.h5") as other:
                assert same_tables(one, other) and one.fingerprint() == other.fingerprint(), f"{ranks} ranks"


@pytest.mark.launches_mpi
@pytest.mark.fault("data", "a set without its FIELD table, on 3 ranks", "refused by name on all ranks; nothing left")
def test_a_broken_set_is_refused_on_all_ranks(tmp_path: Path) -> None:
    source = make_set(tmp_path / "made.ms")
    shutil.rmtree(source / "FIELD")
    said = run(3, tmp_path / "a.vis.h5", source)
    assert sorted(re.findall(r"refused (\d)", said)) == ["0", "1", "2"]
    assert said.count("FIELD: no such MeasurementSet or table") == 3
    assert list(tmp_path.glob("*.h5*")) == []


@pytest.mark.mpi
def test_more_ranks_than_channels_or_rows_write_the_right_data(mpi_tmp_path: Path) -> None:
    comm = world()
    source = mpi_tmp_path / "made.ms"
    on_root(comm, "making a set", lambda: make_set(source, nantenna=2, ntime=1, freq_hz=np.array([1.4e9])))
    (meta,) = ingest(comm, [str(source)], [Selection()], mpi_tmp_path / "a.vis.h5")
    with VisibilityStore.open(mpi_tmp_path / "a.vis.h5") as store:
        np.testing.assert_array_equal(store.read(0, 0, 1, 0, 1).ravel(), [2 - 1j, 100002 - 1j])
    assert meta.report.good_samples == 2


@pytest.mark.mpi
@pytest.mark.fault("ranks", "a read error on one rank of an ingest", "all ranks raise; nothing left")
def test_a_read_error_on_one_rank_is_everyones(mpi_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radps_mpi.io import ingest_turn

    comm = world()
    source = mpi_tmp_path / "made.ms"
    on_root(comm, "making a set", lambda: make_set(source))

    def broken(*_: object) -> None:
        raise OSError("the disk is on fire")

    if comm.rank == comm.size - 1:
        monkeypatch.setattr(ingest_turn, "read_slab", broken)
    with pytest.raises((RadpsError, OSError), match="the disk is on fire"):
        ingest(comm, [str(source)], [Selection()], mpi_tmp_path / "a.vis.h5")
    comm.Barrier()
    assert list(mpi_tmp_path.glob("*.h5*")) == []


@pytest.mark.mpi
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["read FLAG", "turned vis", "received vis", "sorted vis"])
@pytest.mark.fault("ranks", "no memory left on one rank of an ingest: {name}", "all ranks raise; nothing left")
def test_a_rank_without_memory_does_not_leave_the_others_waiting(
    mpi_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    comm = world()
    source = mpi_tmp_path / "made.ms"
    on_root(comm, "making a set", lambda: make_set(source))
    real = Buffers.take

    def take(self: Buffers, wanted: str, *shape: Any) -> Any:
        if wanted == name and comm.rank == comm.size - 1:
            raise MemoryError(f"no memory for {name}")
        return real(self, wanted, *shape)

    monkeypatch.setattr(Buffers, "take", take)
    with pytest.raises((RadpsError, MemoryError), match=f"no memory for {name}"):
        ingest(comm, [str(source)], [Selection()], mpi_tmp_path / "a.vis.h5")
    comm.Barrier()
    assert list(mpi_tmp_path.glob("*.h5*")) == []


@pytest.mark.mpi
@pytest.mark.parametrize("round_bytes", [1 << 30, 64])
def test_exchange_delivers_every_piece_in_one_round_or_many(round_bytes: int) -> None:
    comm = world()
    counts = np.arange(1, comm.size + 1) * (comm.rank + 2)
    sent = np.concatenate([100.0 * comm.rank + to + np.arange(n) / 1000.0 for to, n in enumerate(counts)])
    expected = [np.arange((comm.rank + 1) * (source + 2)) / 1000.0 + 100.0 * source + comm.rank for source in range(comm.size)]
    got = exchange(comm, sent, counts, np.array([len(piece) for piece in expected]), round_bytes=round_bytes)
    np.testing.assert_array_equal(got, np.concatenate(expected))


@pytest.mark.mpi
def test_gathering_keeps_the_order_of_ranks_and_sums_are_exact() -> None:
    comm = world()
    mine = np.full((comm.rank, 2), comm.rank, dtype=np.int32)
    gathered = gather_everywhere(comm, mine)
    np.testing.assert_array_equal(gathered[:, 0], np.repeat(np.arange(comm.size), np.arange(comm.size)))
    np.testing.assert_array_equal(sum_integers(comm, np.array([2**60, comm.rank])),
                                  [comm.size * 2**60, comm.size * (comm.size - 1) // 2])  # fmt: skip
