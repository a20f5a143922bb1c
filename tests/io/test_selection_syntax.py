"""The little languages of selection options."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radps_mpi.errors import UsageError
from radps_mpi.io import selection_syntax as syntax

A = 1412e6 + 1e6 * np.arange(10)
WINDOWS = [("bandA", A), ("bandB", A[::-1] + 5e7)]


@pytest.mark.parametrize(("text", "expected"), [
    ("", {0: range(10), 1: range(10)}), ("0:5~50", {0: range(5, 10)}), ("*:1412~1413MHz", {0: [0, 1]}),
    ("0:1412.0MHz~1413.4MHz;8", {0: [0, 1, 8]}), ("band*:<3", {0: [0, 1, 2], 1: [0, 1, 2]}),
    ("1.462~1.463GHz", {1: range(10)}), ("0:2~8^3", {0: [2, 5, 8]}), ("0:1414.4MHz", {0: [2]}),
    ("1:1462~1463MHz", {1: [8, 9]}), ("0:1,0:3,bandB", {0: [1, 3], 1: range(10)}), ("0:>7", {0: [8, 9]}),
])  # fmt: skip
def test_spectral_windows_and_channels(text: str, expected: dict[int, list[int]]) -> None:
    chosen = syntax.channels(text, WINDOWS)
    assert {window: np.flatnonzero(mask).tolist() for window, mask in chosen.items()} == {
        window: list(channels) for window, channels in expected.items()
    }


@pytest.mark.parametrize(("text", "says"), [
    ("bandC", "did you mean 'bandB'"), ("2", "ids are 0 to 1"), ("0:99", "it has 0 to 9"), ("0:9~5", "runs backwards"),
    ("0:1~2km/s", "velocities"), ("0:x", "not a channel"), ("0,,1", "nothing between"), ("0:1500~1600MHz", "it covers 1412"),
    ("0:1~5^0", "positive"), ("9~10GHz", "no spectral window"),
])  # fmt: skip
def test_wrong_windows_and_channels_say_what_is_there(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        syntax.channels(text, WINDOWS)


@pytest.mark.parametrize(("text", "expected"), [
    ("A1", "01 02 03"), ("0", "01 02 03"), ("A1&2", "02"), ("!A1", "12 13 23"), ("A1,2&", "02"),
    ("A*&3", "03 13"), ("A*&3;!A2", "03"), ("0~1&2~3", "02 03 12 13"), ("A1&*", "01 02 03"), ("A1;!0&1", "02 03"),
    ("A1&&A2", "01"),
])  # fmt: skip
def test_baselines(text: str, expected: str) -> None:
    mask = syntax.baselines(text, ["A1", "A2", "2", "3"])
    np.testing.assert_array_equal(mask, mask.T)
    assert " ".join(f"{i}{j}" for i, j in np.argwhere(np.triu(mask, 1))) == expected


def test_an_antennas_name_comes_before_its_id() -> None:
    mask = syntax.baselines("1&2", ["2", "1", "0"])
    assert [tuple(pair) for pair in np.argwhere(np.triu(mask, 1))] == [(0, 1)]


@pytest.mark.parametrize(("text", "says"), [("A9", "did you mean"), ("7", "ids are 0 to 3"), ("A1&&&", "autocorrelations"),
                                            ("A1&A1", "no baseline"), ("A1;", "nothing between")])  # fmt: skip
def test_wrong_baselines(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        syntax.baselines(text, ["A1", "A2", "2", "3"])


DAY = 49820 * 86400.0
"""1995-04-13."""


@pytest.mark.parametrize(("text", "start", "stop"), [
    ("1995/04/13/09:30:00~09:50:00", DAY + 34200, DAY + 35400), ("09:30:00+00:10:00", DAY + 34200, DAY + 34800),
    ("1995/04/14~1995/04/15", DAY + 86400, DAY + 172800), ("1995/04/14/01:00:00.5~02:00", DAY + 90000.5, DAY + 93600),
])  # fmt: skip
def test_times(text: str, start: float, stop: float) -> None:
    assert syntax.time_ranges(text, DAY + 40000.0) == ((start, stop),)


def test_open_times_leave_out_the_instant_itself() -> None:
    (after,), (before,) = syntax.time_ranges(">10:00:00", DAY), syntax.time_ranges("<10:00:00", DAY)
    assert DAY + 36000 < after[0] < DAY + 36000.001 and after[1] == math.inf
    assert before[0] == -math.inf and DAY + 35999.999 < before[1] < DAY + 36000


@pytest.mark.parametrize(("text", "says"), [("10:00", "single instant"), ("1995/13/01~10:00", "no such date"),
                                            ("10:00~09:00", "backwards"), ("now~10:00", "is not a time")])  # fmt: skip
def test_wrong_times(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        syntax.time_ranges(text, DAY)


@pytest.mark.parametrize(("text", "expected"), [
    ("0~500m", (0.0, 500.0, False)), (">5klambda", (5000.0, math.inf, True)), ("<500", (0.0, 500.0, False)),
    ("100m~1km", (100.0, 1000.0, False)), ("1~2Mlambda", (1e6, 2e6, True)),
])  # fmt: skip
def test_uv_ranges(text: str, expected: tuple[float, float, bool]) -> None:
    assert syntax.uv_limits(text) == (expected,)


@pytest.mark.parametrize(("text", "says"), [("5", "not a uv range"), ("1km~2klambda", "mixes"), ("0~500mm", "did you mean 'm'"),
                                            ("5~2m", "backwards")])  # fmt: skip
def test_wrong_uv_ranges(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        syntax.uv_limits(text)


def test_names_with_separators_are_quoted() -> None:
    np.testing.assert_array_equal(syntax.ids_or_names('"a,b",0', ["x", "a,b", "c"]), [True, True, False])
