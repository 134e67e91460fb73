"""Checks that wait for a worker process, and the requests that they belong to.

Requests have their turns in fair order (`services.serve.fair`), a chunk each time, so one of many checks does
not keep those of few waiting. What counts is the time of workers, charged as it passes: checks that hang cost
their caller as much as the thousands that others might have had judged meanwhile.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlad_core.waiting import Once
from services.serve.fair import OWN, FairQueue, asker
from services.verifier.checking.messages import Check, Outcome

_TURN_S = 0.0005
"""What a turn costs at least: about what handing a chunk to a worker takes."""


@dataclass(eq=False)
class Job:
    """One check of a request.

    crashed: how it ended its process the first time, if it did.
    """

    request: "Request"
    place: int
    check: Check
    crashed: str | None = None

    def settle(self, outcome: Outcome) -> None:
        """Tell the request; the first outcome counts."""
        self.request.settle(self.place, outcome)


class Request:
    """Checks that were asked for together.

    Args:
        checks: at least one.
        on_taken: called once, when a worker gets the first of them.

    Attributes:
        done: set when all have their outcomes, or with an exception.
        slow: its checks that take long just now; changed by `Queue.slow`.
        asker: whom it counts for.
        has_turn: whether it is to have a turn.
    """

    def __init__(self, checks: Sequence[Check], on_taken: Callable[[], None]) -> None:
        self.waiting = deque(Job(self, place, check) for place, check in enumerate(checks))
        self._on_taken = Once(on_taken)
        self.done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.slow = 0
        self.asker = asker()
        self.has_turn = False
        self._outcomes: list[Outcome | None] = [None] * len(checks)
        self._left = len(checks)

    def taken(self) -> None:
        """A worker has some of its checks."""
        self._on_taken()

    def settle(self, place: int, outcome: Outcome) -> None:
        """Keep the outcome of a check that has none."""
        if self._outcomes[place] is not None or self.done.done():
            return
        self._outcomes[place] = outcome
        self._left -= 1
        if not self._left:
            self.done.set_result([each for each in self._outcomes if each is not None])


class Queue:
    """The requests with checks that no worker has; its length is the number of those checks.

    Args:
        chunk: checks that a request gets judged in a turn, at most.
        weights: see `services.serve.fair.FairQueue`.
    """

    def __init__(self, chunk: int, weights: Mapping[str, float] | None = None) -> None:
        self._chunk = chunk
        # A request that waits has one turn in there.
        self._turns: FairQueue[Request] = FairQueue(lambda request: _TURN_S, weights)
        self._slow: Counter[str] = Counter()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def callers(self) -> int:
        """Whose requests wait."""
        return self._turns.callers

    def add(self, request: Request) -> None:
        """For its first turn."""
        self._length += len(request.waiting)
        self._wants_turn(request)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Checks that a worker was given and has not judged: they are the next ones of their requests."""
        for job in reversed(jobs):
            if not job.request.done.done():
                job.request.waiting.appendleft(job)
                self._length += 1
                self._wants_turn(job.request)

    def slow(self, request: Request, more: int) -> None:
        """So many more of its checks take long just now."""
        request.slow += more
        self._slow[request.asker.caller] += more
        if not self._slow[request.asker.caller]:
            del self._slow[request.asker.caller]

    def charge(self, request: Request, seconds: float) -> None:
        """A worker was kept for so long by its checks."""
        self._turns.charge(request.asker, seconds)

    def take(self, most: int, *, crowded: bool, last: bool) -> list[Job]:
        """Up to `most` checks of the request whose turn it is; one alone where others of it are slow.

        Args:
            crowded: leave out requests whose checks take long just now, which must not take all places.
            last: this is the last place: leave out all of callers whose checks take long just now. The run
                that a service belongs to keeps it for nobody.
        """
        without = self._slow.keys() - {OWN} if last else ()
        left_out: list[Request] = []
        jobs: list[Job] = []
        while not jobs and self._turns.begin_turn(without):
            request = self._turns.peek()
            is_slow = crowded and request.slow > 0
            self._turns.pop(free=is_slow or not request.waiting)
            request.has_turn = False
            if is_slow:
                left_out.append(request)
                continue
            count = 1 if request.slow else min(most, self._chunk, len(request.waiting))
            jobs = [request.waiting.popleft() for _ in range(min(count, len(request.waiting)))]
            self._length -= len(jobs)
            self._wants_turn(request)
        for request in left_out:
            self._wants_turn(request)
        return jobs

    def remove(self, request: Request) -> None:
        """Whoever asked does not wait any more."""
        self._length -= len(request.waiting)
        request.waiting.clear()

    def fail(self, error: Exception) -> None:
        """Nothing can be judged any more."""
        while len(self._turns):
            request = self._turns.pop(free=True)
            self.remove(request)
            if not request.done.done():
                request.done.set_exception(error)

    def _wants_turn(self, request: Request) -> None:
        if request.waiting and not request.has_turn:
            request.has_turn = True
            self._turns.push([[request]], request.asker)
