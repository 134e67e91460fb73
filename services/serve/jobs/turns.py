"""Whose job is next. Callers take turns, and jobs that a process ended at go one at a time.

Where a process ends, each of the jobs that it worked on may have been the reason. The next one works on a
single such job at a time beside others, so that none is taken for the reason again and again because of its
neighbour. Jobs that lack room are passed over until they have it.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from services.base import telemetry
from services.serve.jobs.disk import on_disk
from services.serve.jobs.job import StoredJob
from services.serve.jobs.room import Room


class Turns:
    """Of one replica."""

    def __init__(self) -> None:
        # Who takes a job knows whose turn those have that were taken before.
        self._taking = asyncio.Lock()
        # Of callers: jobs of theirs that are worked on here, and the number of their latest turn.
        self._running: Counter[str] = Counter()
        self._turn_of: dict[str, int] = {}
        self._numbers = itertools.count(1)
        # The job that a process ended at, and that is worked on here.
        self._suspect: str | None = None

    @asynccontextmanager
    async def next(self, room: Room) -> AsyncIterator[StoredJob | None]:
        """The job whose turn it is, and for as long as the block its lease; None: there is none that nobody
        works on.
        """
        lease = ExitStack()
        try:
            async with self._taking:
                job = await self._leased(room, lease)
                owner = "" if job is None else job.handed.owner
                if job is not None:
                    self._turn_of[owner] = next(self._numbers)
                    self._running[owner] += 1
            try:
                yield job
            finally:
                if job is not None:
                    self._running[owner] -= 1
        finally:
            await on_disk(lease.close)

    def makes_way(self, job: StoredJob, room: Room) -> bool:
        """Whether a job that nobody works on is of a caller who has less than this one's without it."""
        running, turn = self._had(job.handed.owner)
        for other in room.store.unfinished():
            less = self._had(other.handed.owner) < (running - 1, turn)
            if less and self._may_take(other, leaving=job) and room.may_go_on(other):
                with other.lease() as mine:
                    if mine:
                        return True
        return False

    def acquit(self, job: StoredJob) -> None:
        """A job has come past the step that a process ended at."""
        if self._suspect == job.id:
            self._suspect = None

    async def _leased(self, room: Room, lease: ExitStack) -> StoredJob | None:
        waiting = await asyncio.to_thread(room.store.unfinished)
        owners = {job.handed.owner for job in waiting}
        self._turn_of = {owner: turn for owner, turn in self._turn_of.items() if owner in owners}
        waiting.sort(key=lambda job: self._had(job.handed.owner))  # the oldest first of equals
        return await on_disk(partial(self._lease_first, waiting, room, lease))

    def _lease_first(self, waiting: list[StoredJob], room: Room, lease: ExitStack) -> StoredJob | None:
        for job in filter(room.may_go_on, waiting):
            with ExitStack() as tried:
                # Again: between the first look and the lease somebody may have ended it.
                if tried.enter_context(job.lease()) and job.ended is None and self._may_take(job):
                    lease.enter_context(tried.pop_all())
                    if job.begun("*"):
                        telemetry.log("job_suspected", level="warning", job=job.id)
                        self._suspect = job.id
                        lease.callback(self.acquit, job)
                    return job
        return None

    def _may_take(self, job: StoredJob, leaving: StoredJob | None = None) -> bool:
        """Whether no suspect is worked on here, but the one that would be left for the job, or it is none."""
        return self._suspect in (None, leaving and leaving.id) or not job.begun("*")

    def _had(self, owner: str) -> tuple[int, int]:
        """What a caller has of this replica; who has less comes first."""
        return self._running[owner], self._turn_of.get(owner, 0)
