"""Checks that wait for a worker process, and the requests that they belong to.

Turns go round as in `services.serve.fair`: a chunk for the caller who has had least, of the request that has
had least of it, so neither a caller with many requests nor a request of many checks keeps the others waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlad_core.waiting import Once
from services.serve.fair import OWN
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
        caller: whom it counts for.

    Attributes:
        done: set when all have their outcomes, or with an exception.
        slow: its checks that take long just now.
        clock: what it has had, see `Queue`.
    """

    def __init__(self, checks: Sequence[Check], on_taken: Callable[[], None], caller: str = OWN) -> None:
        self.caller, self.clock = caller, 0.0
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
    """The requests with checks that no worker has; its length is the number of those checks.

    Args:
        weights: shares by caller, see `services.serve.fair.FairQueue`.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._requests: dict[Request, None] = {}
        self._length = 0
        self._clocks: dict[str, float] = {}
        """What callers have had; whoever comes back begins at the present, so nobody saves turns up."""
        self._now = 0.0
        self._present: dict[str, float] = {}
        """The clock of the request that each waiting caller had served last."""

    def __len__(self) -> int:
        return self._length

    @property
    def callers(self) -> int:
        """That wait for something."""
        return len({request.caller for request in list(self._requests)})  # asked from any thread

    def add(self, request: Request) -> None:
        """Put its checks behind what came before."""
        caller = request.caller
        if all(each.caller != caller for each in self._requests):
            self._clocks[caller] = max(self._now, self._clocks.get(caller, 0.0))
            self._present[caller] = 0.0
            self._forget()
        request.clock = self._present[caller]
        self._requests[request] = None
        self._length += len(request.waiting)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Checks that a worker was given and has not judged: they are the next ones of their requests."""
        for job in reversed(jobs):
            if not job.request.done.done():
                job.request.waiting.appendleft(job)
                self._clocks.setdefault(job.request.caller, self._now)
                self._present.setdefault(job.request.caller, job.request.clock)
                self._requests.setdefault(job.request)
                self._length += 1

    def take(self, most: int, *, crowded: bool) -> list[Job]:
        """Up to `most` checks of the request whose turn it is; one alone where others of it are slow.

        Args:
            crowded: leave out requests whose checks take long just now, which must not take all places.
        """
        request = min(
            (each for each in self._requests if not (crowded and each.slow)),
            key=lambda each: (self._clocks[each.caller], each.clock),
            default=None,
        )
        if request is None:
            return []
        caller = request.caller
        self._now, self._present[caller] = self._clocks[caller], request.clock
        most = 1 if request.slow else min(most, len(request.waiting))
        jobs = [request.waiting.popleft() for _ in range(most)]
        self._length -= len(jobs)
        self._clocks[caller] += len(jobs) / self._weights.get(caller, 1.0)
        request.clock += len(jobs)
        if not request.waiting:
            del self._requests[request]
        return jobs

    def remove(self, request: Request) -> None:
        """Whoever asked does not wait any more."""
        if request in self._requests:
            del self._requests[request]
            self._length -= len(request.waiting)

    def _forget(self) -> None:
        """A caller who is behind the present anyway needs no memory."""
        if len(self._clocks) > 2 * len(self._requests) + 64:
            waiting = {request.caller for request in self._requests}
            self._clocks = {
                caller: clock
                for caller, clock in self._clocks.items()
                if clock > self._now or caller in waiting
            }

    def fail(self, error: Exception) -> None:
        """Nothing can be judged any more."""
        for request in list(self._requests):
            self.remove(request)
            if not request.done.done():
                request.done.set_exception(error)
