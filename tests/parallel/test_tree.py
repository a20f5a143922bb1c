"""One tree of additions, whoever does them: the bits of a sum don't depend on the number of ranks."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from radps_mpi.parallel import TreeSum, leaf_owner, reduce_tree, tree, world

SHAPE = (3, 5)


class RankInThread:
    """Enough of a communicator for sends and receives between threads; a receive that nothing answers fails."""

    def __init__(self, rank: int, post: defaultdict[tuple[int, int], Queue[bytes]]) -> None:
        self.rank, self._post = rank, post

    def Send(self, piece: np.ndarray, *, dest: int, tag: int) -> None:
        self._post[self.rank, dest].put(piece.tobytes())

    def Recv(self, piece: np.ndarray, *, source: int, tag: int) -> None:
        piece[:] = np.frombuffer(self._post[source, self.rank].get(timeout=30), np.uint8)


def leaf_value(leaf: int, dtype: Any = np.float32) -> np.ndarray:
    """Values over 8 decades and of both signs: any other order of additions would round otherwise."""
    generator = np.random.default_rng(leaf)
    return (generator.choice([-1.0, 1.0], SHAPE) * 10.0 ** generator.uniform(-4, 4, SHAPE)).astype(dtype)


def sum_by_definition(nleaf: int, dtype: Any = np.float32) -> np.ndarray:
    """Level by level, left + right; the last of an odd number passes up."""
    nodes = [leaf_value(leaf, dtype) for leaf in range(nleaf)]
    while len(nodes) > 1:
        pairs = [nodes[i] + nodes[i + 1] for i in range(0, len(nodes) - 1, 2)]
        nodes = pairs + nodes[2 * len(pairs) :]
    return nodes[0]


def sum_on_ranks(nleaf: int, owner: np.ndarray, nrank: int, dtype: Any = np.float32) -> list[np.ndarray | None]:
    post: defaultdict[tuple[int, int], Queue[bytes]] = defaultdict(Queue)
    for source in range(nrank):
        for dest in range(nrank):
            post[source, dest]  # made here: two threads must not make the same one

    def run(rank: int) -> np.ndarray | None:
        partial = TreeSum(nleaf)
        for leaf in np.flatnonzero(owner == rank).tolist():
            partial.add(leaf, leaf_value(leaf, dtype))
        return reduce_tree(RankInThread(rank, post), partial, owner, SHAPE, np.dtype(dtype))

    with ThreadPoolExecutor(nrank) as pool:
        results = list(pool.map(run, range(nrank)))
    assert all(queue.empty() for queue in post.values())
    return results


@pytest.mark.parametrize("nleaf", range(1, 65))
def test_one_rank_sums_any_number_of_leaves_by_the_definition(nleaf: int) -> None:
    partial = TreeSum(nleaf)
    for leaf in range(nleaf):
        partial.add(leaf, leaf_value(leaf))
    total = reduce_tree(MPI.COMM_SELF, partial, leaf_owner(nleaf, 1), SHAPE, np.dtype(np.float32))
    assert total is not None and total.tobytes() == sum_by_definition(nleaf).tobytes()


def test_the_leaves_used_here_sum_differently_from_left_to_right() -> None:
    running = leaf_value(0)
    for leaf in range(1, 64):
        running = running + leaf_value(leaf)
    assert running.tobytes() != sum_by_definition(64).tobytes()


@settings(deadline=None, max_examples=150)
@given(nleaf=st.integers(1, 64), nrank=st.integers(1, 64))
@example(nleaf=64, nrank=64)
@example(nleaf=5, nrank=2)
@example(nleaf=1, nrank=3)
@example(nleaf=7, nrank=12)
def test_any_number_of_ranks_gives_the_bits_of_one(nleaf: int, nrank: int) -> None:
    first, *others = sum_on_ranks(nleaf, leaf_owner(nleaf, nrank), nrank)
    assert first is not None and first.tobytes() == sum_by_definition(nleaf).tobytes()
    assert others == [None] * (nrank - 1)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), nleaf=st.integers(1, 40), nrank=st.integers(1, 6))
def test_uneven_runs_of_leaves_give_the_same_bits(data: st.DataObject, nleaf: int, nrank: int) -> None:
    owner = np.sort(data.draw(st.lists(st.integers(0, nrank - 1), min_size=nleaf, max_size=nleaf)))
    results = sum_on_ranks(nleaf, owner, nrank, np.float64)
    for rank, result in enumerate(results):
        assert (result is None) == (rank != owner[0])
    assert results[owner[0]].tobytes() == sum_by_definition(nleaf, np.float64).tobytes()


@given(nleaf=st.integers(1, 500), data=st.data())
def test_no_more_than_log2_of_the_leaves_plus_one_arrays_are_alive(nleaf: int, data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, nleaf))
    partial = TreeSum(nleaf)
    for leaf in range(stop):
        partial.add(leaf, np.zeros(1, np.float32))
        assert partial.nheld <= np.log2(nleaf) + 1
    assert stop < nleaf or partial.nheld == 1


def test_leaves_in_the_middle_of_a_tree_leave_two_arrays_per_level_at_most() -> None:
    partial = TreeSum(64)
    for leaf in range(1, 63):
        partial.add(leaf, np.zeros(1, np.float32))
    assert partial.nheld == 10  # 1, 2-3, 4-7, 8-15, 16-31 and their mirror images


def test_leaves_may_come_in_any_order() -> None:
    partial = TreeSum(13)
    for leaf in np.random.default_rng(2).permutation(13).tolist():
        partial.add(leaf, leaf_value(leaf))
    assert partial.take(partial.nlevel, 0).tobytes() == sum_by_definition(13).tobytes()


def test_arrays_longer_than_a_message_arrive_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_MESSAGE_BYTES", 7)  # not even a whole number of pixels
    assert sum_on_ranks(11, leaf_owner(11, 4), 4)[0].tobytes() == sum_by_definition(11).tobytes()


@pytest.mark.mpi
@pytest.mark.parametrize("message_bytes", [1 << 30, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_ranks_give_the_bits_of_one(monkeypatch: pytest.MonkeyPatch, message_bytes: int, dtype: Any) -> None:
    monkeypatch.setattr(tree, "_MESSAGE_BYTES", message_bytes)
    comm = world()
    for nleaf in (1, 2, 3, 5, 8, 13, 64):
        owner = leaf_owner(nleaf, comm.size)
        partial = TreeSum(nleaf)
        for leaf in np.flatnonzero(owner == comm.rank).tolist():
            partial.add(leaf, leaf_value(leaf, dtype))
        total = reduce_tree(comm, partial, owner, SHAPE, np.dtype(dtype))
        assert (total is None) == (comm.rank != 0)
        if total is not None:
            assert total.tobytes() == sum_by_definition(nleaf, dtype).tobytes()
        assert partial.nheld == 0


@pytest.mark.mpi
def test_large_arrays_do_not_deadlock_where_sends_must_wait_for_their_receives() -> None:
    comm = world()
    owner = leaf_owner(7, comm.size)
    partial = TreeSum(7)
    for leaf in np.flatnonzero(owner == comm.rank).tolist():
        partial.add(leaf, np.full((1 << 20,), 2.0**leaf, np.float32))  # 4 MiB: beyond what MPI sends eagerly
    total = reduce_tree(comm, partial, owner, (1 << 20,), np.dtype(np.float32))
    assert total is None or (total == 127.0).all()
