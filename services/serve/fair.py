"""Whose turn it is, where several callers share an engine or workers.

Turns go by start-time fair queueing (Goyal, Vin, Cheng: Start-Time Fair Queuing, 1996): each caller has a
clock that what it gets moves on by its cost over the caller's weight, and the one whose clock is furthest
behind is next. A caller who was away begins at the present, so nobody saves turns up. Within a caller it is
the same between requests, so a small one passes a large one that came before it; within a request it is first
come, first served. Nobody waits for ever: every turn moves the clocks of those who get turns.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

OWN = "(own)"
"""The caller of all that comes by handle: the run that the service belongs to."""


@dataclass(frozen=True, eq=False)
class Asker:
    """One request, and whom it counts for. Two are never equal."""

    caller: str


_RUN = Asker(OWN)
ASKER: ContextVar[Asker] = ContextVar("asker", default=_RUN)
"""The request that is being worked on."""


def asker() -> Asker:
    """The request that is being worked on; for classes that Serve copies, which a `ContextVar` cannot be."""
    return ASKER.get()


class _Turns(Generic[Key]):
    """Clocks of those that wait."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._numbers = itertools.count()
        self._left: dict[Key, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def join(self, key: Key) -> None:
        """One that does not wait begins to."""
        clock = max(self._now, self._left.pop(key, 0.0))
        heapq.heappush(self._heap, (clock, next(self._numbers), key))

    def first(self) -> Key:
        """Whose clock is furthest behind."""
        return self._heap[0][2]

    def begin(self) -> float:
        """The first one's turn begins; returns its clock."""
        self._now, _, _ = heapq.heappop(self._heap)
        return self._now

    def end(self, key: Key, clock: float, stays: bool) -> None:
        """Its turn is over, and it waits for more or not."""
        if stays:
            heapq.heappush(self._heap, (clock, next(self._numbers), key))
            return
        self._left[key] = clock
        # One that is behind the present anyway needs no memory of it.
        if len(self._left) > 2 * len(self._heap) + 64:
            self._left = {k: clock for k, clock in self._left.items() if clock > self._now}


class FairQueue(Generic[Item]):
    """Items of requests of callers, in fair order.

    Args:
        cost: of an item.
        weights: by caller; 1 for those that are not named.
    """

    def __init__(self, cost: Callable[[Item], float], weights: Mapping[str, float] | None = None) -> None:
        self._cost = cost
        self._weights = weights or {}
        self._callers: _Turns[str] = _Turns()
        self._requests: dict[str, _Turns[Asker]] = {}
        self._items: dict[Asker, deque[deque[Item]]] = {}
        # The request whose group is coming out, with the clocks of its caller and its own.
        self._turn: tuple[Asker, float, float] | None = None
        self._spent = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def callers(self) -> int:
        """That wait for something."""
        return len(self._requests)

    def push(self, groups: Iterable[Iterable[Item]], asker: Asker | None = None) -> None:
        """Put items at the end of their request's.

        Args:
            groups: what is in a group comes out together, whoever else waits, if nothing is lacking then and
                until `end_turn`.
            asker: the request; by default the one that is being worked on.
        """
        asker = asker or ASKER.get()
        filled = [group for group in map(deque, groups) if group]
        if not filled:
            return
        self._length += sum(map(len, filled))
        if asker in self._items:
            self._items[asker].extend(filled)
            return
        self._items[asker] = deque(filled)
        if asker.caller not in self._requests:
            self._requests[asker.caller] = _Turns()
            self._callers.join(asker.caller)
        self._requests[asker.caller].join(asker)

    def peek(self) -> Item:
        """The next item."""
        return self._items[self._first()][0][0]

    def pop(self, *, free: bool = False) -> Item:
        """The next item.

        Args:
            free: it costs nothing, since nobody wants it any more.
        """
        asker = self._first()
        if self._turn is None:
            self._turn = asker, self._callers.begin(), self._requests[asker.caller].begin()
        groups = self._items[asker]
        item = groups[0].popleft()
        self._length -= 1
        self._spent += 0.0 if free else self._cost(item) / self._weights.get(asker.caller, 1.0)
        if not groups[0]:
            groups.popleft()
            self.end_turn()
        return item

    def end_turn(self) -> None:
        """Let others have theirs. What is left of the group is for its request's next turn."""
        if self._turn is None:
            return
        (asker, of_caller, of_request), spent = self._turn, self._spent
        self._turn, self._spent = None, 0.0
        if not self._items[asker]:
            del self._items[asker]
        requests = self._requests[asker.caller]
        requests.end(asker, of_request + spent, asker in self._items)
        if not len(requests):
            del self._requests[asker.caller]
        self._callers.end(asker.caller, of_caller + spent, asker.caller in self._requests)

    def _first(self) -> Asker:
        return self._turn[0] if self._turn else self._requests[self._callers.first()].first()


@dataclass(eq=False)
class _Waiter:
    size: float
    cost: float
    turn: asyncio.Future[None]


class FairPlaces:
    """So many places, given in fair order; to be used on one event loop.

    Args:
        capacity: places. A wish for more than there are gets its turn when all are free.
        weights: see `FairQueue`.
    """

    def __init__(self, capacity: float, weights: Mapping[str, float] | None = None) -> None:
        self._capacity = capacity
        self._taken = 0.0
        self._queue: FairQueue[_Waiter] = FairQueue(lambda waiter: waiter.cost, weights)

    def __len__(self) -> int:
        """Those that wait."""
        return len(self._queue)

    @property
    def callers(self) -> int:
        """That wait."""
        return self._queue.callers

    async def take(self, size: float = 1.0, cost: float = 1.0, asker: Asker | None = None) -> None:
        """Wait for places, to be given back with `give`.

        Args:
            size: how many.
            cost: what the turn counts.
            asker: see `FairQueue.push`.
        """
        waiter = _Waiter(size, cost, asyncio.get_running_loop().create_future())
        self._queue.push([[waiter]], asker)
        self._admit()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.give(size)
            else:
                self._admit()
            raise

    def give(self, size: float = 1.0) -> None:
        """Give places back."""
        self._taken -= size
        self._admit()

    @asynccontextmanager
    async def turn(self, size: float = 1.0, cost: float = 1.0) -> AsyncIterator[None]:
        """Places for the time of the block."""
        await self.take(size, cost)
        try:
            yield
        finally:
            self.give(size)

    def _admit(self) -> None:
        while len(self._queue):
            waiter = self._queue.peek()
            if waiter.turn.done():  # cancelled
                self._queue.pop(free=True)
                continue
            if self._taken and self._taken + waiter.size > self._capacity:
                return
            self._queue.pop()
            self._taken += waiter.size
            waiter.turn.set_result(None)
