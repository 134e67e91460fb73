"""Whose turn it is, where several callers share an engine or workers.

Turns go by start-time fair queueing (Goyal, Vin, Cheng: Start-Time Fair Queuing, 1996): each caller has a
clock that what it gets moves on by its cost over the caller's weight, and the one whose clock is furthest
behind is next. A caller who was away begins at the present, so nobody saves turns up. Within a caller it is
the same between requests, so a small one passes a large one that came before it; within a request it is first
come, first served. Nobody waits for ever: every turn moves the clocks of those who get turns. Where it shows
only later what a turn took, the turn counts the least of it at first, and the rest is charged then: clocks go
forward only, and so does the present, which those who were away begin at.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Container, Hashable, Iterable, Mapping
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
    """Clocks of those that wait, and of others that are ahead of the present."""

    def __init__(self) -> None:
        # One entry for each that waits; a clock that has gone on since is looked at when it comes to the top.
        self._heap: list[tuple[float, int, Key]] = []
        self._numbers = itertools.count()
        self._clocks: dict[Key, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def join(self, key: Key) -> None:
        """One that does not wait begins to."""
        self._clocks[key] = max(self._now, self._clocks.get(key, 0.0))
        self._enter(key)

    def first(self) -> Key:
        """Whose clock is furthest behind."""
        while self._heap[0][0] < self._clocks[key := self._heap[0][2]]:
            heapq.heappop(self._heap)
            self._enter(key)
        return key

    def begin(self, without: Container[Key] = ()) -> Key | None:
        """The turn of the first one begins that is not among those; None: there is none."""
        self._now = self._clocks[self.first()]
        passed: list[Key] = []
        key = None
        while self._heap and key is None:
            key = self.first()
            heapq.heappop(self._heap)
            if key in without:
                passed.append(key)
                key = None
        for each in passed:
            self._enter(each)
        return key

    def charge(self, key: Key, spent: float) -> None:
        """Move a clock on, whether it waits, has its turn or is away."""
        # One that is not remembered was not ahead of the present.
        self._clocks[key] = self._clocks.get(key, self._now) + spent

    def end(self, key: Key, stays: bool) -> None:
        """Its turn is over, and it waits for more or not."""
        if stays:
            self._enter(key)
        elif len(self._clocks) > 2 * len(self._heap) + 64:
            # One that is away and behind the present needs no memory of it.
            waiting = {key for _, _, key in self._heap}
            self._clocks = {k: c for k, c in self._clocks.items() if c > self._now or k in waiting}

    def _enter(self, key: Key) -> None:
        heapq.heappush(self._heap, (self._clocks[key], next(self._numbers), key))


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
        # The request whose group is coming out.
        self._turn: Asker | None = None
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
        self.begin_turn()
        asker = self._first()
        groups = self._items[asker]
        item = groups[0].popleft()
        self._length -= 1
        if not free:
            self.charge(asker, self._cost(item))
        if not groups[0]:
            groups.popleft()
            self.end_turn()
        return item

    def charge(self, asker: Asker, more: float) -> None:
        """Count what a request got beyond the cost of its items, once that is known; it need not wait here.

        Args:
            asker: the request.
            more: what it costs, at least 0.
        """
        spent = more / self._weights.get(asker.caller, 1.0)
        self._callers.charge(asker.caller, spent)
        if asker.caller in self._requests:
            self._requests[asker.caller].charge(asker, spent)

    def begin_turn(self, without: Container[str] = ()) -> bool:
        """Whether there is something for `pop`, which what is next comes from, or what is left of its group.

        Args:
            without: callers that get no turn now, however far behind they are.
        """
        if self._turn is None and self._length and (caller := self._callers.begin(without)) is not None:
            self._turn = self._requests[caller].begin()
        return self._turn is not None

    def end_turn(self) -> None:
        """Let others have theirs. What is left of the group is for its request's next turn."""
        if self._turn is None:
            return
        asker, self._turn = self._turn, None
        if not self._items[asker]:
            del self._items[asker]
        requests = self._requests[asker.caller]
        requests.end(asker, asker in self._items)
        if not len(requests):
            del self._requests[asker.caller]
        self._callers.end(asker.caller, asker.caller in self._requests)

    def _first(self) -> Asker:
        return self._turn or self._requests[self._callers.first()].first()


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
