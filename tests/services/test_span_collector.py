"""What a collector tells of spans that are open, and of those that ended."""

from __future__ import annotations

import math
import time

import pytest

from services.base.span_collector import SpanCollector
from services.base.telemetry import span


def test_a_span_is_told_whole_while_it_is_open_and_when_it_ended() -> None:
    collector = SpanCollector()
    began = time.time()
    with span("rollout", behind=True):
        [still] = collector.within(began, time.time())
        assert still.end == math.inf
        assert still.start == pytest.approx(began, abs=0.5)
        assert still.behind
        [far] = collector.open()
        assert still.start <= far.end < math.inf
        assert collector.within(began - 9, began - 1) == []  # it began later
    assert collector.open() == []
    [done] = collector.within(began, time.time() + 1)
    assert done.end < math.inf
    assert done.behind
    assert collector.within(began, time.time() + 1) == [done]  # told again, to who asks for a time it touches
    assert collector.within(done.end + 1, done.end + 2) == []
    assert collector.within(began, time.time() + 1) == []  # who asks for later times asks for no earlier ones
    collector.close()
