"""Responses of a group that have finished, for stages that take them as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pyarrow as pa

from rlad_core.client.made_with import together

Work = Callable[[pa.Table], Awaitable[pa.Table]]
"""What a stage makes of some responses."""


class Finished:
    """Parts of one group; to be used on one event loop.

    Attributes:
        parts: those that have come, as they came.
    """

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []
        self._ended = False
        self._waiting: set[asyncio.Event] = set()

    def add(self, part: pa.Table) -> None:
        """Some more responses."""
        self.parts.append(part)
        self._wake()

    def end(self) -> None:
        """These were all."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    async def each(self, work: Work) -> pa.Table:
        """What a stage makes of all of them, in the order of `parts`.

        It is asked for all that there is, then for all that has come meanwhile, until the end.
        """
        come = asyncio.Event()
        self._waiting.add(come)
        made: list[pa.Table] = []
        taken = 0
        while True:
            come.clear()
            if taken < len(self.parts):
                new, taken = self.parts[taken:], len(self.parts)
                made.append(await work(pa.concat_tables(new)))
            elif self._ended:
                return together(made, "a service")
            else:
                await come.wait()
