"""What a rank was doing when: spans of time, recorded only when somebody asked for them (``--timeline``).

Recording costs a comparison where nobody did. The recorder is the process's own, like the faults of tests: what a rank
does when is a property of the process, and to hand it through every function would put it into the signature of all.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

_NOTHING: AbstractContextManager[None] = nullcontext()

Span = tuple[str, float, float, float, dict[str, int]]
"""Name, start, duration on the wall, processor time of all threads of the process (seconds), whole numbers that say of what.

Processor time is what the work costs where ranks share cores: on the wall they wait for each other.
"""


class _Recorder:
    """Spans since ``start``: name, seconds from the start, duration and processor time in seconds, details."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.spans: list[Span] = []


_recorder: _Recorder | None = None


class _Span:
    """Adds itself to the recorder when it ends."""

    def __init__(self, recorder: _Recorder, name: str, details: dict[str, int]) -> None:
        self._recorder, self._name, self._details = recorder, name, details

    def __enter__(self) -> None:
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall_s, cpu_s = time.perf_counter() - self._began, time.process_time() - self._began_cpu
        self._recorder.spans.append((self._name, self._began - self._recorder.start, wall_s, cpu_s, self._details))


def begin() -> None:
    """Record from now on: ranks that call it together have a common zero."""
    global _recorder
    _recorder = _Recorder()


def end() -> list[Span]:
    """Stop recording; the spans in the order in which they ended."""
    global _recorder
    spans = _recorder.spans if _recorder is not None else []
    _recorder = None
    return spans


def span(name: str, **details: int) -> AbstractContextManager[None]:
    """``with span("grid", block=3):`` records what the body takes, with whole numbers that say of what."""
    return _NOTHING if _recorder is None else _Span(_recorder, name, details)
