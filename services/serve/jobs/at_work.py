"""A job that this process works on: its parts one after the other, then its answer.

Whoever takes a job up goes on behind the last part that was finished. What fails for want of a turn, or on a
full disk, is tried again until the job's time is over.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pyarrow as pa

from rlad_core.client.errors import BusyError, DeadlineError, NotReadyError
from services.base import telemetry
from services.serve.http.bodies import Body
from services.serve.job_limits import JobLimits
from services.serve.jobs.answer import put_together
from services.serve.jobs.attempts import Attempts
from services.serve.jobs.disk import on_disk
from services.serve.jobs.job import StoredJob, part_step
from services.serve.jobs.room import Room
from services.serve.jobs.turns import Turns
from services.serve.jobs.work import DoPart, ReadWork, Work, patiently, refuse_mixed

_WRITE_AGAIN_S = 5.0


class JobAtWork:
    """One job, whose lease this process has.

    Args:
        job: it.
        room: of its service's jobs.
        limits: see `JobLimits`.
        attempts, turns: of this process.
        read: of its request that which is to be done.
        is_left: whether to stop while its answer is put together, which may take minutes.
    """

    def __init__(
        self,
        job: StoredJob,
        room: Room,
        limits: JobLimits,
        attempts: Attempts,
        turns: Turns,
        read: ReadWork,
        is_left: Callable[[], bool],
    ) -> None:
        self._job, self._room, self._limits = job, room, limits
        self._attempts, self._turns = attempts, turns
        self._read, self._is_left = read, is_left

    async def carry_out(self) -> bool:
        """Work on it; False: another caller's turn has come before its end.

        Raises:
            NoRoomError: it goes on when there is room for what was done.
            LeftError: `is_left`.
            Exception: it has failed.
        """
        began = time.monotonic()
        work = await self._work()
        parts = list(work.parts) or [(0, 0)]
        await self._written(partial(self._job.plan, len(parts)))
        first: pa.Schema | None = None
        for number, (start, stop) in enumerate(parts):
            if (kind := await asyncio.to_thread(self._job.part_schema, number)) is None:
                self._refuse_if_late(f"{number} of {len(parts)} parts were")
                rows = f"rows {start + 1} to {stop} of {work.rows.num_rows}"
                at_it = partial(self._at, part_step(number), f"part {number + 1} of {len(parts)} ({rows})")
                part = await self._patiently(_within(at_it, partial(work.part, start, stop)))
                kind = part.schema
                refuse_mixed(kind if first is None else first, kind)
                async with at_it():
                    await self._written(partial(self._room.keep_part, self._job, number, part))
                del part  # before the next one is worked on
                self._turns.acquit(self._job)
                over = time.monotonic() - began >= self._limits.turn_s and number + 1 < len(parts)
                if over and await asyncio.to_thread(self._turns.makes_way, self._job, self._room):
                    return False
            first = kind if first is None else first
        async with self._at("answer", "putting its answer together"):
            await self._written(partial(put_together, self._job, work, parts, self._room, self._is_left))
        return True

    async def _work(self) -> Work:
        """What is to be done. The body is gone then, where the rows are no part of it: it may be large."""
        handed = self._job.handed
        async with self._at("request", "reading its request"):
            content = await asyncio.to_thread(self._job.request)
            self._refuse_if_late(self._room.why_not(self._job) or "it was taken up too late")
            return await self._read(
                Body(content, handed.encoding, handed.answer, handed.coding), handed.query
            )

    @asynccontextmanager
    async def _at(self, step: str, what: str) -> AsyncIterator[None]:
        """While a step of the job is worked on, that is noted; see `Attempts.begin`.

        Raises:
            DeadlyError: too many processes have ended at it.
            DeadlineError: the job's time is over, and it cannot be noted.
        """
        try:
            note = partial(self._attempts.begin, self._job, step, what)
            await self._written(note, "that it is worked on could not be noted")
            yield
        finally:
            await on_disk(partial(self._attempts.end, self._job, step))

    async def _written(
        self, write: Callable[[], None], if_not: str = "what was done could not be written"
    ) -> None:
        """Write what was worked out, again and again where the disk is full, so that no work is done twice.

        Args:
            if_not: what is said of a job whose time is over meanwhile.

        Raises:
            DeadlineError: the job's time is over.
        """
        while True:
            began = time.monotonic()
            try:
                await on_disk(write)
            except FileNotFoundError:  # somebody has removed the job
                raise
            except OSError as error:
                telemetry.log(
                    "job_not_written", level="error", job=self._job.id, error=str(error), exc_info=error
                )
                self._refuse_if_late(f"{if_not}: {error}")
                # A large answer that fills the disk each time is not what a replica does most of its time.
                await asyncio.sleep(max(_WRITE_AGAIN_S, time.monotonic() - began))
            else:
                return

    def _refuse_if_late(self, where: str) -> None:
        """So that a job that nobody gets done is not taken up by one after the other for ever."""
        if self._left_s() < 0:
            raise DeadlineError(f"{self._late}; {where}")

    async def _patiently(self, do: DoPart) -> pa.Table:
        """Do a part, again and again where it does not get a turn, until the job's time is over."""
        return await patiently(
            do,
            again=(BusyError, DeadlineError, NotReadyError),
            left_s=self._left_s,
            late=f"{self._late}; its last fault: ",
        )

    def _left_s(self) -> float:
        return self._job.handed.created + self._limits.timeout_s - time.time()

    @property
    def _late(self) -> str:
        return f"the job was not done within {self._limits.timeout_s:g} s"


def _within(at_it: Callable[[], AbstractAsyncContextManager[None]], do: DoPart) -> DoPart:
    """`do`, which is at something each time, and not while it waits to be done again."""

    async def done() -> pa.Table:
        async with at_it():
            return await do()

    return done
