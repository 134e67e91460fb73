"""A worker process and the chunk that it is busy with, as the pool sees it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass

from services.verifier.checking import wire
from services.verifier.checking.messages import Outcome
from services.verifier.checking.process import WorkerProcess
from services.verifier.checking.queue import Job, Request

_READ_BYTES = 2**18
# A machine that is busy for ever must not keep a check that hangs for ever.
_LONGEST_WAIT = 4


@dataclass(frozen=True)
class Seen:
    """What a process is at.

    job: its job.
    ran_s: for how long, without what it waited for a processor where that is known.
    has_begun: it is at it; else it is before it, or held up between two.
    """

    job: Job
    ran_s: float
    has_begun: bool


class Post:
    """Given a chunk of jobs, it says their outcomes in order, some at a time.

    Attributes:
        slow: the job that keeps it from its other ones, which others have by now; None: there is none.
    """

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.slow: Job | None = None
        self._jobs: list[Job] = []
        self._told = 0
        self._told_at = 0.0
        self._used_at = 0.0
        self._with_others: set[Job] = set()
        self._chunks = 0
        self._waited = 0.0
        self._looked_at: Job | None = None
        self._messages = wire.Messages()
        self._unsent = bytearray()

    @property
    def is_busy(self) -> bool:
        """Whether it has a chunk."""
        return bool(self._jobs)

    def give(self, jobs: Sequence[Job]) -> None:
        """A chunk of one request for a process that has none; `send` sends it."""
        self._jobs, self._told = list(jobs), 0
        self._with_others.clear()
        self._chunks += 1
        self._told_at = self._used_at = time.monotonic()
        checks = [(job.check.task, job.check.response, job.check.gold) for job in jobs]
        self._unsent += wire.framed(pickle.dumps(checks, pickle.HIGHEST_PROTOCOL))

    def send(self) -> bool:
        """Send what can be sent at once; whether that was all. That a process is gone `read` tells."""
        try:
            while self._unsent:
                del self._unsent[: self.process.connection.send(self._unsent)]
        except BlockingIOError:
            return False
        except OSError:
            self._unsent.clear()
        return True

    def read(self) -> list[bytes]:
        """What it has said since; `wire` reads these messages.

        Raises:
            OSError: it is gone, or says what is no message.
        """
        try:
            data = self.process.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError
        return self._messages.feed(data)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the requests of the next outcomes.

        Raises:
            BrokenError: there are more than it has checks.
        """
        jobs = self._jobs[self._told : self._told + len(outcomes)]
        if len(jobs) < len(outcomes):
            raise wire.BrokenError(f"{len(outcomes)} outcomes of {len(jobs)} checks")
        self._told += len(outcomes)
        self._told_at = time.monotonic()
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.settle(outcome)

    def current(self) -> Job | None:
        """The job that it is at; None: at none, it has told of all."""
        place, _, _ = self._place()
        return self._jobs[place] if place < len(self._jobs) else None

    def look(self) -> Seen | None:
        """What it is at; None: at nothing, it has told of all."""
        place, began, has_begun = self._place()
        if place >= len(self._jobs):
            return None
        job, ran, waited = self._jobs[place], time.monotonic() - began, self.process.waited_s()
        if job is not self._looked_at:
            self._looked_at, self._waited = job, waited
        waited = max(0.0, waited - self._waited)  # the kernel may have stopped to say
        return Seen(job, max(ran - waited, ran / _LONGEST_WAIT), has_begun)

    def used(self) -> tuple[Request, float] | None:
        """Whose chunk keeps it, and for how many seconds since this was asked last; None: it has none."""
        if not self._jobs:
            return None
        before, self._used_at = self._used_at, time.monotonic()
        return self._jobs[0].request, self._used_at - before

    def leave_to_others(self, but: Job) -> list[Job]:
        """The jobs whose outcomes it has not told, but one; what it will say of them may come too late."""
        others = [job for job in self._jobs[self._told :] if job is not but and job not in self._with_others]
        self._with_others.update(others)
        return others

    def end_of_chunk(self) -> list[Job]:
        """It has no chunk any more; the jobs of it that nobody else has, and whose outcomes it has not told.

        The one that it kept may be among them: a process that found the job before slow ends its chunk there.
        """
        rest = [job for job in self._jobs[self._told :] if job not in self._with_others]
        self._jobs = []
        return rest

    def _place(self) -> tuple[int, float, bool]:
        """In the chunk, since when at the earliest, and whether it began there: it told of all before."""
        at = self.process.at()
        if at.chunk == self._chunks and at.place >= self._told:
            return at.place, at.began, True
        return self._told, self._told_at, False
