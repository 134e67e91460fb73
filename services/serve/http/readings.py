"""Bodies made into what a service works on: parsed and tokenized in threads, in fair order of callers.

Threads are few, and take what comes first. Without turns somebody's twenty large bodies would be read before
the small one of another, which came a moment later. So large ones wait for places, fewer than there are
threads, and small ones find a thread at once.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from services.serve.fair import FairPlaces
from services.serve.http.bodies import Body

Rest = ParamSpec("Rest")
Read = TypeVar("Read")

SMALL_BYTES = 65_536
"""Read within milliseconds, whatever is in them."""
PLACES = min(16, max(1, (os.cpu_count() or 1) // 2))
"""For large ones: half of the cores, and half of the threads that asyncio has at most."""


class Readings:
    """Reads bodies; one for all requests of a replica.

    Args:
        weights: of callers, see `services.serve.fair.FairQueue`.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._places = FairPlaces(PLACES, weights)

    async def read(
        self,
        reading: Callable[Concatenate[Body, Rest], Read],
        body: Body,
        *rest: Rest.args,
        **named: Rest.kwargs,
    ) -> Read:
        """What `reading` makes of a body and the rest, in a thread, and what it raises."""
        if (size := len(body.content)) < SMALL_BYTES:
            return await asyncio.to_thread(reading, body, *rest, **named)
        await self._places.take(cost=size)
        work = asyncio.ensure_future(asyncio.to_thread(reading, body, *rest, **named))
        # A thread goes on when its client has left, and has its place until it ends.
        work.add_done_callback(lambda _: self._places.give())
        return await asyncio.shield(work)
