"""Checks that wait for a worker process, and the requests that they belong to.

Requests are served in turn, a chunk of each, so one of many checks does not keep those of few waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlad_core.waiting import Once
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
    """

    def __init__(self, checks: Sequence[Check], on_taken: Callable[[], None]) -> None:
        self.waiting = deque(Job(self, place, check) for place, check in enumerate(checks))
        self._on_taken = Once(on_taken)
        self.done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.slow = 0
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
    """The requests with checks that no worker has; its length is the number of those checks."""

    def __init__(self) -> None:
        self._requests: dict[Request, None] = {}  # in the order of their turns
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, request: Request) -> None:
        """At the end."""
        self._requests[request] = None
        self._length += len(request.waiting)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Checks that a worker was given and has not judged: they are the next ones of their requests."""
        for job in reversed(jobs):
            if not job.request.done.done():
                job.request.waiting.appendleft(job)
                self._requests.setdefault(job.request)
                self._length += 1

    def take(self, most: int, *, crowded: bool) -> list[Job]:
        """Up to `most` checks of the request whose turn it is.

        Args:
            crowded: leave out requests whose checks take long just now, which must not take all places.
        """
        request = next((each for each in self._requests if not (crowded and each.slow)), None)
        if request is None:
            return []
        del self._requests[request]
        jobs = [request.waiting.popleft() for _ in range(min(most, len(request.waiting)))]
        self._length -= len(jobs)
        if request.waiting:
            self._requests[request] = None
        return jobs

    def remove(self, request: Request) -> None:
        """Whoever asked does not wait any more."""
        if request in self._requests:
            del self._requests[request]
            self._length -= len(request.waiting)

    def fail(self, error: Exception) -> None:
        """Nothing can be judged any more."""
        for request in list(self._requests):
            self.remove(request)
            if not request.done.done():
                request.done.set_exception(error)
