"""What a rank was doing when: spans of time, recorded only when somebody asked for them (``--timeline``).

Recording costs a comparison where nobody did. The recorder is the process's own, like the faults of tests: what a rank
does when is a property of the process, and to hand it through every function would put it into the signature of all.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

_NOTHING: AbstractContextManager[None] = nullcontext()


class _Recorder:
    """Spans since ``start``: name, seconds from the start, duration in seconds, details."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.spans: list[tuple[str, float, float, dict[str, int]]] = []


_recorder: _Recorder | None = None


class _Span:
    """Adds itself to the recorder when it ends."""

    def __init__(self, recorder: _Recorder, name: str, details: dict[str, int]) -> None:
        self._recorder, self._name, self._details = recorder, name, details

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        began = self._began - self._recorder.start
        self._recorder.spans.append((self._name, began, time.perf_counter() - self._began, self._details))


def begin() -> None:
    """Record from now on: ranks that call it together have a common zero."""
    global _recorder
    _recorder = _Recorder()


def end() -> list[tuple[str, float, float, dict[str, int]]]:
    """Stop recording; the spans in the order in which they ended: (name, start, duration, details), seconds."""
    global _recorder
    spans = _recorder.spans if _recorder is not None else []
    _recorder = None
    return spans


def span(name: str, **details: int) -> AbstractContextManager[None]:
    """``with span("grid", block=3):`` records what the body takes, with whole numbers that say of what."""
    return _NOTHING if _recorder is None else _Span(_recorder, name, details)
