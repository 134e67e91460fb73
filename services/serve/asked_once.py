"""One question at a time: whoever asks while it is being answered, or shortly after, is told the same.

For what many may ask and one answer serves, such as whether an engine works: without this each of them would
take a turn of the engine from those who have work for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class AskedOnce(Generic[Answer]):
    """Asks for all who ask; to be used on one event loop.

    Args:
        ask: for an answer, within a time limit of its own.
        kept_s: how long an answer is told to who comes later, and a failure too.
        times: and so many times as long as it took: then who asks without a pause has but a part of the time
            of what answers, however long that takes.
        clock: seconds, rising.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Answer]],
        *,
        kept_s: float = 0.0,
        times: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._kept_s, self._times, self._clock = ask, kept_s, times, clock
        self._asked: asyncio.Task[Answer] | None = None
        self._until = 0.0

    async def __call__(self) -> Answer:
        """The answer.

        Raises:
            Exception: what `ask` raised.
        """
        if self._asked is None or (self._asked.done() and self._clock() >= self._until):
            self._asked = asyncio.create_task(self._answered())
            # Of a failure that all who asked have not waited for nothing is to be logged.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return await asyncio.shield(self._asked)  # who leaves does not end it for the others

    async def _answered(self) -> Answer:
        began = self._clock()
        try:
            return await self._ask()
        finally:
            ended = self._clock()
            self._until = ended + self._kept_s + self._times * (ended - began)
