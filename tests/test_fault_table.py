"""The table of faults counts what was really done, and hides nothing that went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fault_table import NO_SOAKS, RANKS, SOAKS, Injection, Trial, cell, one_of, page, put_together, table

pytest_plugins = ["pytester"]

TESTS = str(Path(__file__).parent)
SESSION = """
    import pytest

    def fault(what, outcome, **more):
        return pytest.mark.fault("kills", what, outcome, **more)
"""


def make(pytester: pytest.Pytester, body: str) -> None:
    """These tests, in a folder of their own with the plugin."""
    pytester.makepyfile(SESSION + body)
    pytester.makeconftest(f"import sys\nsys.path.insert(0, {TESTS!r})\npytest_plugins = ['support.fault_table']")


def rows_of(pytester: pytest.Pytester, body: str, *options: str) -> list[list[str]]:
    """Cells of the rows that a session with these tests writes."""
    make(pytester, body)
    pytester.runpytest("-p", "no:cacheprovider", "--fault-table=faults.md", *options)
    lines = (pytester.path / "faults.md").read_text().splitlines()
    return [[text.strip() for text in line.strip("|").split("|")] for line in lines
            if line.startswith("| ") and "how often" not in line]  # fmt: skip


def test_tests_of_one_fault_are_one_row_with_all_their_counts(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.parametrize("n", [1, 2, 3])
    @fault("SIGKILL", "resumed")
    def test_a(n): pass

    @fault("SIGKILL", "resumed", times=4)
    def test_b(): pass

    @fault("SIGKILL", "resumed")
    def test_c(injected):
        for _ in range(5):
            injected(6)

    @pytest.mark.parametrize("point", ["early", "late"])
    @fault("SIGKILL {point}", "resumed")
    def test_d(point): pass

    def test_e(): pass
"""
    assert rows_of(pytester, body) == [["SIGKILL", "37", "resumed"], ["SIGKILL early", "1", "resumed"],
                                       ["SIGKILL late", "1", "resumed"]]  # fmt: skip


def test_a_failing_test_never_shows_what_was_hoped(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.parametrize("n", [1, 2, 3])
    @fault("SIGKILL", "resumed")
    def test_a(n): assert n != 2, f"hashes differ\\nin 2 | {n}"

    @fault("looped", "resumed")
    def test_b(injected):
        injected(7)
        raise OSError("lost")

    @pytest.fixture
    def broken(): raise RuntimeError("no set-up")

    @fault("set-up", "resumed")
    def test_c(broken): pass
"""
    rows = rows_of(pytester, body)
    assert rows[0] == ["SIGKILL", "2", "resumed"]
    assert rows[1][:2] == ["SIGKILL", "1"] and " ".join(rows[1][2:]).startswith("FAILED: AssertionError: hashes differ in 2")
    assert rows[2:] == [["looped", "7", "FAILED: OSError: lost"], ["set-up", "1", "FAILED: RuntimeError: no set-up"]]


def test_a_test_that_hangs_is_a_row_and_not_the_end_of_the_table(pytester: pytest.Pytester) -> None:
    body = """
    import time

    @pytest.mark.timeout(0.2)
    @fault("a hang", "ended")
    def test_a(): time.sleep(30)

    @fault("another", "ended")
    def test_b(): pass
"""
    hung, other = rows_of(pytester, body)
    assert hung[:2] == ["a hang", "1"] and "FAILED" in hung[2] and "imeout" in hung[2]
    assert other == ["another", "1", "ended"]


def test_a_skipped_test_counts_nothing_and_gives_its_reason(pytester: pytest.Pytester) -> None:
    body = """
    @fault("full disk", "one line", times=3)
    def test_a(): pytest.skip("no file system can be mounted here")

    @pytest.mark.skip(reason="not today")
    @fault("kill", "resumed")
    def test_b(): pass
"""
    assert rows_of(pytester, body) == [["full disk", "0", "skipped: no file system can be mounted here"],
                                       ["kill", "0", "skipped: not today"]]  # fmt: skip


def test_outcomes_that_a_test_tells_apart_are_counted_each_and_hide_no_failure(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.parametrize("last", ["repaired", "crashed"])
    @fault("flipped bits", "all well")
    def test_a(injected, last):
        for happened in ("repaired", "harmless", last):
            injected(2, happened=happened, what="flips in the store")
        assert last != "crashed", "one crash"
"""
    assert rows_of(pytester, body) == [
        ["flips in the store", "6", "repaired"], ["flips in the store", "4", "harmless"],
        ["flips in the store", "2", "crashed"],
        ["flipped bits", "1", "FAILED: AssertionError: one crash assert 'crashed' != 'crashed'"],
    ]  # fmt: skip


def test_what_was_not_selected_has_no_row(pytester: pytest.Pytester) -> None:
    body = """
    @fault("one", "well")
    def test_a(): pass

    @fault("two", "well")
    def test_b(): pass
"""
    assert rows_of(pytester, body, "-k", "test_b") == [["two", "1", "well"]]


@pytest.mark.parametrize("options", [[], ["-x"], ["-x", "--fault-records=kept"]])
def test_a_run_that_was_ended_early_says_so(pytester: pytest.Pytester, options: list[str]) -> None:
    body = """
    @fault("one", "well")
    def test_a(): raise OSError("lost")

    @fault("two", "well")
    def test_b(): pass
"""
    rows = rows_of(pytester, body, *options)
    assert len(rows) == (1 if options else 2)
    assert ("ended before all tests were done" in (pytester.path / "faults.md").read_text()) == bool(options)


def test_pieces_of_a_run_are_put_together(pytester: pytest.Pytester) -> None:
    body = """
    @fault("one", "well", times=2)
    def test_a(): pass

    @fault("two", "well")
    def test_b(): pass
"""
    make(pytester, body)
    pytester.runpytest("--fault-records=kept", "-k", "test_a")
    (record,) = (pytester.path / "kept").iterdir()
    record.rename(record.with_name("0.jsonl"))  # these sessions are of one process
    assert not (pytester.path / "faults.md").exists()
    assert rows_of(pytester, body, "-k", "test_b", "--fault-records=kept") == [["one", "2", "well"], ["two", "1", "well"]]
    assert "2 tests" in (text := (pytester.path / "faults.md").read_text()) and "1 of them by this command" in text


def test_a_mark_of_no_known_group_is_refused(pytester: pytest.Pytester) -> None:
    with pytest.raises(FileNotFoundError):
        rows_of(pytester, '\n    @pytest.mark.fault("kils", "a", "b")\n    def test_a(): pass\n')


@pytest.mark.launches_mpi
@pytest.mark.timeout(120)
def test_tests_for_several_ranks_run_in_a_job_of_their_own(pytester: pytest.Pytester) -> None:
    body = """
    from mpi4py import MPI

    @pytest.mark.mpi
    @fault("an error on rank 1", "all ranks raise")
    def test_a(injected):
        injected(MPI.COMM_WORLD.size)

    @fault("alone", "well")
    def test_b(): pass

    @pytest.mark.mpi
    @fault("a rank that fails", "all ranks raise")
    def test_c():
        assert MPI.COMM_WORLD.rank != 2, "not as hoped"
"""
    rows = rows_of(pytester, body)
    assert rows[0] == ["alone", "1", "well"]
    assert ["an error on rank 1", str(RANKS), "all ranks raise"] in rows
    (failed,) = [row for row in rows if row[0] == "a rank that fails"]
    assert "FAILED: AssertionError: not as hoped" in failed[2]


def test_a_message_names_no_path_of_this_machine(pytester: pytest.Pytester) -> None:
    body = """
    import sys, tempfile
    @fault("a command", "well")
    def test_a(request):
        raise RuntimeError(f"{sys.executable} {request.config.rootpath}/x {tempfile.gettempdir()}/y")
"""
    ((_, _, said),) = rows_of(pytester, body)
    assert said.startswith("FAILED: RuntimeError: VENV/bin/python") and said.endswith("./x TMP/y")


def test_the_rank_that_failed_speaks_for_all_and_a_silent_one_is_lost() -> None:
    passed, failed, lost = (Trial("a", state, [Injection("ranks", "x", state, 1)]) for state in ("passed", "failed", "failed"))
    assert one_of([passed] * RANKS, lost) is passed
    assert one_of([passed, failed], lost) is failed
    assert one_of([passed] * (RANKS - 1), lost) is lost
    assert one_of([], lost) is lost


def test_a_test_done_in_two_pieces_counts_once_and_never_better_than_it_was() -> None:
    skipped, passed, failed = (Trial("a", state) for state in ("skipped", "passed", "failed"))
    assert put_together([skipped, passed]) == put_together([passed, skipped]) == [passed]
    assert put_together([failed, passed]) == put_together([passed, failed]) == [failed]


def test_a_group_without_a_test_says_so() -> None:
    text = table([Injection("kills", "SIGKILL", "resumed", 2)])
    assert "## Soak under load\n\nNo test of this run injects any.\n" in text
    assert "| SIGKILL | 2 | resumed |" in text


def test_cells_are_short_lines_that_name_no_place_of_this_machine() -> None:
    assert cell("/home/me/a\n\x1b[2J| b", [("/home/me", ".")]) == r"./a [2J\| b"
    assert len(cell("x" * 999)) == 200


def test_soaks_of_the_earlier_page_are_kept_to_the_letter() -> None:
    first = page("pytest", "Run.", "body\n", "")
    assert first.endswith(NO_SOAKS)
    second = page("pytest", "Run again.", "body\n", first + "- 500 kills\n")
    assert second.endswith(NO_SOAKS + "- 500 kills\n") and second.count(SOAKS) == 1 and "Run again." in second
