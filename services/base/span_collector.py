"""Spans of this process: those that are open, and those that ended, where somebody asks for them.

A service that runs for weeks does not grow: without a `SpanCollector` no span is kept.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from rlad_core.timeline import StageSpan


class OpenSpan(Protocol):
    """A span while it is open."""

    def until(self, now: float) -> StageSpan:
        """What there is of it by `now`, in seconds since the epoch."""
        ...


_lock = threading.Lock()
_open: set[OpenSpan] = set()
_collectors: list[SpanCollector] = []


def begun(span: OpenSpan) -> None:
    """It is open from now on."""
    with _lock:
        _open.add(span)


def ended(span: OpenSpan, done: StageSpan) -> None:
    """It is open no more; `done` is what it was."""
    with _lock:
        _open.discard(span)
        for collector in _collectors:
            collector.spans.append(done)


class SpanCollector:
    """Keeps the finished spans of this process, from its making until `close`."""

    def __init__(self) -> None:
        self.spans: list[StageSpan] = []
        with _lock:
            _collectors.append(self)

    def take(self) -> list[StageSpan]:
        """The spans that finished since the last call."""
        with _lock:
            taken, self.spans = self.spans, []
        return taken

    def within(self, start: float, end: float) -> list[StageSpan]:
        """Spans that touch this time (seconds since the epoch), open ones included; older ones are forgotten.

        A span may be told several times, whole each time; what it finished counts where it ended. When an
        open one will end nobody knows: it ends at infinity here, and is cut to the step that it is told for.
        """
        with _lock:
            self.spans = [span for span in self.spans if span.end >= start]
            still = [span.until(math.inf) for span in _open]
            return [span for span in (*self.spans, *still) if span.start < end]

    def open(self) -> list[StageSpan]:
        """Spans of this process that have not ended, as far as they are by now."""
        now = time.time()
        with _lock:
            return [span.until(now) for span in _open]

    def close(self) -> None:
        """Stop collecting."""
        with _lock:
            _collectors.remove(self)
