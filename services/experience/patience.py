"""What is said while a step waits far longer for its batch than steps before it did.

A wait for a service has a limit, which is half an hour and more where models are large. What hangs is told
long before, with the calls that are open, so that whoever watches need not guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlad_core.timeline import StageSpan

FIRST_S = 600.0
"""For the first batch of a run, when nothing is known; a model may be slow."""
LEAST_S = 120.0
TIMES = 3.0


class Patience:
    """Of one run; to be used on one event loop.

    Args:
        say: told a sentence.
        open_calls: what is at work now.
        first_s, least_s: after so long there is something to say at the earliest, for the first batch and for
            the others; these have `TIMES` the longest wait before them, too.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        open_calls: Callable[[], Sequence[StageSpan]],
        *,
        first_s: float = FIRST_S,
        least_s: float = LEAST_S,
    ) -> None:
        self._say = say
        self._open_calls = open_calls
        self._first_s, self._least_s = first_s, least_s
        self._longest = 0.0

    async def wait(self, step: int, batch: asyncio.Task[Any]) -> None:
        """Wait until the batch is there or has failed, which the caller then finds out."""
        began = time.monotonic()
        limit = max(self._least_s, TIMES * self._longest) if self._longest else self._first_s
        while not (await asyncio.wait([batch], timeout=limit))[0]:
            waited = time.monotonic() - began
            before = f"; the longest wait before took {self._longest:.0f} s" if self._longest else ""
            self._say(
                f"step {step + 1} has waited {waited:.0f} s for its batch{before}. "
                f"At work are: {told(self._open_calls())}"
            )
            limit = waited  # twice as long the next time
        self._longest = max(self._longest, time.monotonic() - began)


def told(calls: Sequence[StageSpan]) -> str:
    """Calls by stage, and for how long the oldest of each has been open."""
    open_for: dict[str, list[float]] = {}
    for call in calls:
        open_for.setdefault(call.stage, []).append(call.end - call.start)
    stages = (f"{name} {len(each)} (the oldest for {max(each):.0f} s)" for name, each in open_for.items())
    return ", ".join(stages) or "none"
