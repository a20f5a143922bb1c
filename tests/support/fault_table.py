"""A table of faults: what the tests injected, how often, and what happened.

    python -m pytest -m fault --fault-table tests/faults/README.md

A test that injects a fault says so by ``@pytest.mark.fault(group, what, outcome)``: ``outcome`` is what the test asserts,
written only of tests that passed. ``times=5`` is for tests that always do it five times; those that count as they go ask
for the fixture ``injected``. Names in braces in ``what`` and ``outcome`` are parameters of the test.

Tests for several ranks (``@pytest.mark.mpi``) are run in an mpirun job of their own when the others are done. A run in pieces
keeps what was done in a folder: ``--fault-records FOLDER`` with each of them, and ``--fault-table`` with the last one too.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

GROUPS = {
    "kills": "Kills",
    "corruption": "Silent corruption",
    "disk": "Full disks, I/O errors, lost directories, read-only file systems",
    "time": "Time limits and signals",
    "slurm": "Slurm",
    "ranks": "One rank misbehaves",
    "data": "Bad data",
    "hostile": "Hostile files",
    "two runs": "Two runs, one directory",
    "load": "Soak under load",
    "points": "The means of injecting faults",
}
"""What a mark's first word stands for, in the order of the table."""

MAKE = "python -m pytest -m fault --fault-table tests/faults/README.md"

CUT_SHORT = "cut short"

SOAKS = "## Long soaks"
"""What stands below this heading is kept when the table is written again."""

NO_SOAKS = f"""{SOAKS}

Not part of the table: a line for each run of `bash jobs/soak.sh KILLS SEED JOBS tests/faults/README.md`.

"""

STATES = ("skipped", "passed", "failed", CUT_SHORT)
"""Of a test; the last stands for a run that was ended before all its tests were done."""

RANKS, RANKS_TIMEOUT_S, RANKS_TEST_TIMEOUT_S = 3, 600, 120
LONGEST_CELL = 200


@dataclass(frozen=True)
class Injection:
    """One row's share: ``times`` it was done, and what ``happened`` then."""

    group: str
    what: str
    happened: str
    times: int


@dataclass
class Trial:
    """What a test made of its faults; ``state`` is passed, failed or skipped."""

    test: str
    state: str
    injections: list[Injection] = field(default_factory=list)


# What a test says ----------------------------------------------------------------------------------------------------

Count = tuple[int, str, str]
_COUNTED = pytest.StashKey[list[Count]]()
_ENDS = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``injected(30)``: the test has done it thirty times. ``happened="refused"`` where the test itself tells the outcomes
    apart; they stay in the table if it fails later. ``what="..."`` in place of the mark's words."""
    counted = request.node.stash.setdefault(_COUNTED, [])

    def note(times: int = 1, *, happened: str = "", what: str = "") -> None:
        counted.append((times, happened, what))

    return note


def injections_of(
    mark: pytest.Mark, parameters: dict[str, object], counted: Sequence[Count], state: str, said: str
) -> list[Injection]:
    """What one mark adds to the table, after a test that ended in this ``state`` and ``said`` why."""
    group, what, outcome = mark.args
    what, outcome = what.format(**parameters), outcome.format(**parameters)
    if state == "skipped":
        return [Injection(group, what, f"skipped: {said}", 0)]
    end = outcome if state == "passed" else f"FAILED: {said}"
    counted = counted or [(mark.kwargs.get("times", 1), "", "")]
    found = [Injection(group, words or what, happened or end, times) for times, happened, words in counted if times]
    if state == "failed" and not any(injection.happened == end for injection in found):
        found.append(Injection(group, what, end, 1))  # the test's own words can't hide that something else was wrong
    return found


def tested(item: pytest.Item, ends: Sequence[tuple[str, str]]) -> Trial:
    """The test with its faults; ``ends`` are state and reason of set-up, call and clean-up."""
    state, said = max(ends, key=lambda end: ("passed", "skipped", "failed").index(end[0]))
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    counted = item.stash.get(_COUNTED, [])
    marks = item.iter_markers("fault")
    return Trial(
        item.nodeid, state, [found for mark in marks for found in injections_of(mark, parameters, counted, state, said)]
    )


def reason_of(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, in one line."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr or "").strip()


# The table -----------------------------------------------------------------------------------------------------------


def rows(injections: Iterable[Injection]) -> dict[str, list[Injection]]:
    """Group -> its rows: the same fault with the same end is one, and all ends of a fault stand together."""
    times: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for injection in injections:
        first.setdefault((injection.group, injection.what), len(first))
        times[injection.group, injection.what, injection.happened] += injection.times
    ordered = sorted(times, key=lambda key: first[key[:2]])
    return {group: [Injection(*key, times[key]) for key in ordered if key[0] == group] for group in GROUPS}


def cell(text: str, places: Sequence[tuple[str, str]] = ()) -> str:
    """Text for a cell: one line, not too long, without this machine's paths."""
    for path, name in places:
        text = text.replace(path, name)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split()).replace("|", r"\|")
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def table(injections: Iterable[Injection], places: Sequence[tuple[str, str]] = ()) -> str:
    """Markdown: a heading and a table for each group; a group that nobody tested says so."""
    lines: list[str] = []
    for group, found in rows(injections).items():
        lines += [f"## {GROUPS[group]}", ""]
        if not found:
            lines += ["No test of this run injects any.", ""]
            continue
        lines += ["| injected | how often | what happened |", "|---|---:|---|"]
        lines += [f"| {cell(row.what, places)} | {row.times} | {cell(row.happened, places)} |" for row in found]
        lines.append("")
    return "\n".join(lines)


def page(command: str, run: str, body: str, earlier: str) -> str:
    """The whole file; the soaks of the ``earlier`` one are kept."""
    soaks = SOAKS + earlier.split(SOAKS, 1)[1] if SOAKS in earlier else NO_SOAKS
    return (
        "# Faults: what was injected, how often, what happened\n\n"
        f"Made by `{MAKE}`{'' if command == MAKE else f', this one by `{command}`'}; not by hand.\n\n{run}\n\n"
        "A row counts injected faults, not tests. What happened is what the tests have asserted, or what they have told\n"
        'apart themselves; one that fails says "FAILED" with its message, one that could not run "skipped" with its reason.\n\n'
        f"{body}\n{soaks}"
    )


def run_of(trials: Sequence[Trial], here: int, seconds: float, table_path: Path) -> str:
    """When, where and of what the table was made; so many tests ``here``, in so many seconds, the others in earlier pieces."""
    tests = [trial for trial in trials if trial.state != CUT_SHORT]
    states = Counter(test.state for test in tests)
    variables = [f"`{name}={value}`" for name, value in sorted(os.environ.items()) if name.startswith("RADPS_FLIPS")]
    facts = [
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), f"commit {commit(table_path)}",
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), Python {platform.python_version()}", *variables,
    ]  # fmt: skip
    counts = ", ".join(f"{states[state]} {state}" for state in ("passed", "failed", "skipped"))
    in_pieces = f", {here} of them by this command, the others in pieces before it"
    when = in_pieces if len(tests) > here else f" in {seconds / 60:.1f} min"
    end = " **The run was ended before all tests were done.**" if len(trials) > len(tests) else ""
    return f"Run on {', '.join(facts)}: {len(tests)} tests{when}; {counts}.{end}"


def commit(table_path: Path) -> str:
    """The commit that was tested, and whether more was changed than the table."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).resolve().parents[2]
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout.rstrip()

    try:
        changed = [line for line in git("status", "--porcelain", "-uno").splitlines() if not line.endswith(table_path.name)]
        return git("rev-parse", "--short", "HEAD") + (" with local changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# Tests for several ranks ---------------------------------------------------------------------------------------------


def tested_on_ranks(tests: Sequence[pytest.Item], folder: Path) -> list[Trial]:
    """Run these in one job of RANKS ranks; each rank writes what it saw, and one that fails speaks for all."""
    from support import jobs

    functions = sorted({item.nodeid.split("[")[0] for item in tests})
    command = ["mpirun", "-n", str(RANKS), sys.executable, "-m", "mpi4py", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x",
               "--only-mpi", "--timeout", str(RANKS_TEST_TIMEOUT_S), f"--fault-records={folder}", *functions]  # fmt: skip
    done = subprocess.run(["timeout", "--kill-after=20", str(RANKS_TIMEOUT_S), *command], env=jobs.environment(), check=False,
                          stdin=subprocess.DEVNULL, cwd=tests[0].config.rootpath)  # fmt: skip
    seen: dict[str, list[Trial]] = {}
    for trial in recorded(folder):
        seen.setdefault(trial.test, []).append(trial)
    lost = f"a rank ended before this test did; the job's status is {done.returncode}"
    return [one_of(seen.get(item.nodeid, []), tested(item, [("failed", lost)])) for item in tests]


def recorded(folder: Path) -> list[Trial]:
    """What the processes of a job, or the pieces of a run, have kept there."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            record["injections"] = [Injection(**injection) for injection in record["injections"]]
            found.append(Trial(**record))
    return found


def put_together(pieces: Iterable[Trial]) -> list[Trial]:
    """One trial for each test: of one that was done twice, the failing one before the passing, the skipped one last."""
    found: dict[str, Trial] = {}
    for trial in pieces:
        before = found.get(trial.test)
        if before is None or STATES.index(trial.state) > STATES.index(before.state):
            found[trial.test] = trial
    return list(found.values())


def one_of(of_ranks: Sequence[Trial], lost: Trial) -> Trial:
    """The ranks' common word: the worst, and ``lost`` unless a failing one explains why some are silent."""
    failed = [test for test in of_ranks if test.state == "failed"]
    if failed:
        return failed[0]
    if len(of_ranks) < RANKS:
        return lost
    return max(of_ranks, key=lambda test: sum(injection.times for injection in test.injections))


# Hooks ---------------------------------------------------------------------------------------------------------------


class Recorder:
    """Listens to a session and writes the table, or (on ranks) the records that it is made of."""

    def __init__(self, table_path: Path | None, records: Path | None) -> None:
        self.table_path, self.records = table_path, records
        self.tests: list[Trial] = []
        self.for_ranks: list[pytest.Item] = []
        self.began = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("fault"):
                if len(mark.args) != 3 or mark.args[0] not in GROUPS:
                    raise pytest.UsageError(f"{item.nodeid}: fault(group, what, outcome), group one of {', '.join(GROUPS)}")
        if not config.getoption("--with-mpi", False) and not config.getoption("--only-mpi", False):
            self.for_ranks = [item for item in items if item.get_closest_marker("mpi") and item.get_closest_marker("fault")]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if item.get_closest_marker("fault") and item not in self.for_ranks:
            ends = item.stash.setdefault(_ENDS, [])
            ends.append((report.outcome, reason_of(report)))
            if report.when == "teardown":
                self.add(tested(item, ends))
        return report

    def add(self, trial: Trial) -> None:
        self.tests.append(trial)
        if self.records is not None:
            self.records.mkdir(exist_ok=True)
            with open(self.records / f"{os.getpid()}.jsonl", "a") as file:
                print(json.dumps(asdict(trial)), file=file)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        config = session.config
        cut_short = bool(session.shouldstop or session.shouldfail or exitstatus == pytest.ExitCode.INTERRUPTED)
        if config.option.collectonly:
            return
        if self.for_ranks:
            with tempfile.TemporaryDirectory() as folder:
                on_ranks = tested_on_ranks(self.for_ranks, Path(folder))
            for trial in on_ranks:
                self.add(trial)
            if any(test.state == "failed" for test in on_ranks):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        here = len(self.tests)
        if cut_short:
            self.add(Trial("", CUT_SHORT))
        if self.table_path is None or not here:
            return
        tests = self.tests if self.records is None else put_together(recorded(self.records))
        places = [(sys.prefix, "VENV"), (str(config.rootpath), "."), (tempfile.gettempdir(), "TMP")]
        body = table((injection for test in tests for injection in test.injections), places)
        command = shlex.join(["python", "-m", "pytest", *config.invocation_params.args])
        earlier = self.table_path.read_text() if self.table_path.exists() else ""
        run = run_of(tests, here, time.monotonic() - self.began, self.table_path)
        self.table_path.write_text(page(command, run, body, earlier))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the table of injected faults")
    group.addoption("--fault-table", type=Path, metavar="FILE", help="write what tests injected and what happened")
    group.addoption("--fault-records", type=Path, metavar="FOLDER", help="write the same as JSON, one file per process")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    table_path, records = config.getoption("--fault-table"), config.getoption("--fault-records")
    listens = table_path is not None or records is not None
    if listens and not config.getoption("--only-mpi", False) and hasattr(config.option, "timeout_method"):
        config.option.timeout_method = "signal"  # a test that hangs is a row; the other method, for ranks, ends pytest with it
    if listens:
        config.pluginmanager.register(Recorder(table_path and table_path.absolute(), records), "fault-recorder")
