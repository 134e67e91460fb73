"""Checks that wait for a worker process, and the requests that they belong to.

Requests have their turns in fair order (`services.serve.fair`), a chunk each time, so one of many checks does
not keep those of few waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlad_core.waiting import Once
from services.serve.fair import FairQueue, asker
from services.verifier.checking.messages import Check, Outcome


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
        slow: its checks that take long just now.
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
        self._turns: FairQueue[Request] = FairQueue(
            lambda request: max(1, min(self._chunk, len(request.waiting))), weights
        )
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

    def take(self, most: int, *, crowded: bool) -> list[Job]:
        """Up to `most` checks of the request whose turn it is; one alone where others of it are slow.

        Args:
            crowded: leave out requests whose checks take long just now, which must not take all places.
        """
        slow: list[Request] = []
        jobs: list[Job] = []
        while len(self._turns) and not jobs:
            request = self._turns.peek()
            is_slow = crowded and request.slow > 0
            self._turns.pop(free=is_slow or not request.waiting)
            request.has_turn = False
            if is_slow:
                slow.append(request)
                continue
            count = 1 if request.slow else min(most, self._chunk, len(request.waiting))
            jobs = [request.waiting.popleft() for _ in range(min(count, len(request.waiting)))]
            self._length -= len(jobs)
            self._wants_turn(request)
        for request in slow:
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
