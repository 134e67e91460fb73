"""A replica's part in its service's jobs: it takes new ones in and works on those that nobody works on.

A job's parts are done one after the other, each as a request of the job's owner: it waits for its turn among
all callers, counts for the owner's quota and share of the queue, and is asked again later where too much
waits. Which job is worked on goes round among callers: one that has had its turn is left where it is when
another caller's waits, and so are all where a replica ends. Whoever takes one up goes on behind the last part
that was finished.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa

from rlad_core.client.errors import BusyError, DeadlineError, LimitError, NotReadyError
from services.base import telemetry
from services.serve.fair import ASKER, Asker
from services.serve.http.bodies import Body
from services.serve.http.problems import as_problem
from services.serve.job_limits import JobLimits
from services.serve.jobs.errors import FULL_RETRY_AFTER_S, NoJobsError, NotKeptError
from services.serve.jobs.store import Handed, JobStore, StoredJob
from services.serve.jobs.work import Do, ReadWork, patiently, refuse_mixed

_LOOK_EVERY_S = 1.0
_SWEEP_EVERY_S = 60.0
_WRITE_AGAIN_S = 5.0


class Jobs:
    """One replica's.

    Args:
        service: whose, for the folder's name.
        jobs_dir: where all replicas of all services keep them; None: they keep none.
        limits: see `JobLimits`.
        read: of a request that which is to be done.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, service: str, jobs_dir: str | None, limits: JobLimits, read: ReadWork) -> None:
        self._read, self._limits = read, limits
        self._store = None if jobs_dir is None else JobStore(Path(jobs_dir) / service)
        self._new = asyncio.Event()
        # Many that come at once wait here, and not each in a thread for the folder's lock.
        self._adding = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []
        # Of callers: jobs of theirs that are worked on here, and the number of their latest turn.
        self._running: Counter[str] = Counter()
        self._turn_of: dict[str, int] = {}
        self._turns = itertools.count(1)
        self._stopping = False

    def start(self) -> None:
        """Work on what is there and on what comes."""
        if self._store is not None:
            self._loops = [asyncio.create_task(self._work()) for _ in range(self._limits.at_a_time)]
            self._loops.append(asyncio.create_task(self._sweep()))

    def stop(self) -> None:
        """Leave what is not done to others, also what fails from now on, since the service is ending."""
        self._stopping = True
        for loop in self._loops:
            loop.cancel()

    @property
    def store(self) -> JobStore:
        """Where they are.

        Raises:
            NoJobsError: nowhere.
        """
        if self._store is None:
            raise NoJobsError("jobs need a folder: start the service with --set jobs_dir=FOLDER")
        return self._store

    async def submit(self, owner: str, body: Body, query: Mapping[str, list[str]]) -> StoredJob:
        """Take a job in.

        Raises:
            BusyError: as many, or as much, is kept here as may be.
            NotKeptError: it cannot be written.
            ServiceError, ProblemError: what the service's main route would refuse of it.
        """
        store = self.store
        work = await self._read(body, query)  # what is wrong with it is said now
        await work.check(work.rows)
        handed = Handed(owner, time.time(), body.encoding, body.answer, body.coding, dict(query))
        try:
            async with self._adding:
                job = await asyncio.to_thread(self._add, store, handed, body.content)
        except OSError as error:
            telemetry.log("job_not_kept", level="error", error=str(error), exc_info=error)
            raise NotKeptError(f"there is no room for the job: {error.strerror or error}") from error
        telemetry.log("job_submitted", job=job.id, bytes=len(body.content))
        self._new.set()
        return job

    def _add(self, store: JobStore, handed: Handed, content: bytes) -> StoredJob:
        # No other one, of another replica either, comes between the count and what is added to it.
        with store.adding():
            self._make_room(store, handed.owner)
            self._refuse_if_full(store, handed.owner, len(content))
            return store.add(handed, content)

    def _make_room(self, store: JobStore, owner: str) -> None:
        """Of cancelled jobs it is told that they are, for as long as no other one wants their place."""
        limits, kept = self._limits, store.all()
        own = [job for job in kept if job.handed.owner == owner]
        for jobs, most in ((own, limits.max_jobs_per_caller), (kept, limits.max_jobs)):
            if (over := len(jobs) + 1 - most) > 0:
                for job in [job for job in jobs if job.is_cancelled][:over]:
                    store.remove(job)

    def _refuse_if_full(self, store: JobStore, owner: str, size: int) -> None:
        limits, kept = self._limits, store.all()
        own = sum(job.handed.owner == owner for job in kept)
        taken = sum(job.bytes for job in kept) + size
        for there, most, what in (
            (len(kept) + 1, limits.max_jobs, "jobs are kept here"),
            (own + 1, limits.max_jobs_per_caller, "jobs of one caller are kept here"),
            (taken / 2**30, limits.max_gib, "GiB of jobs are kept here"),
        ):
            if there > most:
                raise BusyError(
                    f"{most:g} {what} at most, and with this one it would be more. Fetch and delete finished "
                    "ones, or ask again later",
                    FULL_RETRY_AFTER_S,
                )

    def _keep_part(self, job: StoredJob, number: int, part: pa.Table) -> None:
        self._refuse_over_gib(part.nbytes, f"part {number + 1} of this job")
        job.keep_part(number, part)

    def _finish(self, job: StoredJob, body: bytes, headers: dict[str, str]) -> None:
        # Its request and parts go when the answer is there.
        self._refuse_over_gib(len(body) - job.bytes, "the answer of this job")
        job.finish(body, headers)

    def _refuse_over_gib(self, more: int, what: str) -> None:
        most = self._limits.max_gib
        if sum(job.bytes for job in self.store.all()) + more > most * 2**30:
            raise LimitError(
                "bytes",
                f"{most:g} GiB of jobs are kept here at most, and with {what} it would be more. Fetch and "
                "delete finished ones, or hand it in again as several jobs, or with fewer details",
            )

    async def _work(self) -> None:
        """Take up one job after the other."""
        while not self._stopping:
            self._new.clear()
            try:
                found = await self._take_one()
            except Exception as error:  # noqa: BLE001 - such as a full disk; told, and the next look may go well
                telemetry.log("jobs_not_worked_on", level="error", error=str(error), exc_info=error)
                found = False
            if not found:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._new.wait(), _LOOK_EVERY_S)

    async def _take_one(self) -> bool:
        waiting = [job for job in await asyncio.to_thread(self.store.all) if job.ended is None]
        owners = {job.handed.owner for job in waiting}
        self._turn_of = {owner: turn for owner, turn in self._turn_of.items() if owner in owners}
        for job in sorted(waiting, key=lambda job: self._had(job.handed.owner)):  # the oldest first of equals
            with job.lease() as mine:
                # Again: between the first look and the lease somebody may have ended it.
                if mine and job.ended is None:
                    owner = job.handed.owner
                    self._turn_of[owner] = next(self._turns)
                    self._running[owner] += 1
                    try:
                        await self._carry_out(job)
                    finally:
                        self._running[owner] -= 1
                    return True
        return False

    def _had(self, owner: str) -> tuple[int, int]:
        """What a caller has of this replica; who has less comes first."""
        return self._running[owner], self._turn_of.get(owner, 0)

    def _makes_way(self, owner: str) -> bool:
        """Whether a job that nobody works on is of a caller who has less than `owner` without this one."""
        running, turn = self._had(owner)
        for job in self.store.all():
            if job.ended is None and self._had(job.handed.owner) < (running - 1, turn):
                with job.lease() as mine:
                    if mine:
                        return True
        return False

    async def _carry_out(self, job: StoredJob) -> None:
        ASKER.set(Asker(job.handed.owner))
        watch = asyncio.create_task(_until_unwanted(job))
        doing = asyncio.create_task(self._do(job))
        try:
            await asyncio.wait({doing, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done() or (doing.exception() is not None and job.is_unwanted):
                telemetry.log("job_cancelled", job=job.id)
                return
            if (error := doing.exception()) is None and doing.result():
                telemetry.log("job_done", job=job.id, seconds=round(time.time() - job.handed.created, 3))
            elif error is None or self._stopping:
                telemetry.log("job_left", job=job.id)
            else:
                telemetry.log(
                    "job_failed", level="warning", job=job.id, kind=type(error).__name__, error=str(error)
                )
                await asyncio.to_thread(job.fail, as_problem(error))
        finally:
            watch.cancel()
            doing.cancel()
            await asyncio.wait({doing})
            if job.ended is not None and job.status == "cancelled":
                job.cancel()  # with what was written since

    async def _do(self, job: StoredJob) -> bool:
        """Work on a job; False: another caller's turn has come before its end."""
        handed = job.handed
        began = time.monotonic()
        body = Body(await asyncio.to_thread(job.request), handed.encoding, handed.answer, handed.coding)
        self._refuse_if_late(job, "it was taken up too late")
        work = await self._read(body, handed.query)
        parts = list(work.parts) or [(0, 0)]
        job.plan(len(parts))
        done: list[pa.Table] = []
        for number, (start, stop) in enumerate(parts):
            if (part := await asyncio.to_thread(job.part, number)) is None:
                self._refuse_if_late(job, f"{number} of {len(parts)} parts were")
                part = await self._patiently(job, work.do, work.rows.slice(start, stop - start))
                refuse_mixed(done[0] if done else part, part)
                await self._written(job, partial(self._keep_part, job, number, part))
                over = time.monotonic() - began >= self._limits.turn_s and number + 1 < len(parts)
                if over and await asyncio.to_thread(self._makes_way, handed.owner):
                    return False
            done.append(part)
        answer = await asyncio.to_thread(work.answer, pa.concat_tables(done))
        await self._written(job, partial(self._finish, job, bytes(answer.body), dict(answer.headers)))
        return True

    async def _written(self, job: StoredJob, write: Callable[[], None]) -> None:
        """Write what was worked out, again and again where the disk is full, so that no work is done twice.

        Raises:
            DeadlineError: the job's time is over.
        """
        while True:
            try:
                await asyncio.to_thread(write)
            except FileNotFoundError:  # somebody has removed the job
                raise
            except OSError as error:
                telemetry.log("job_not_written", level="error", job=job.id, error=str(error), exc_info=error)
                self._refuse_if_late(job, f"what was done could not be written: {error}")
                await asyncio.sleep(_WRITE_AGAIN_S)
            else:
                return

    def _refuse_if_late(self, job: StoredJob, where: str) -> None:
        """So that a job that ends whoever works on it is not taken up by one after the other for ever."""
        if time.time() - job.handed.created > (limit_s := self._limits.timeout_s):
            raise DeadlineError(f"the job was not done within {limit_s:g} s; {where}")

    async def _patiently(self, job: StoredJob, do: Do, rows: pa.Table) -> pa.Table:
        """Do a part, again and again where it does not get a turn, until the job's time is over."""
        limit_s = self._limits.timeout_s
        return await patiently(
            do,
            rows,
            again=(BusyError, DeadlineError, NotReadyError),
            left_s=lambda: job.handed.created + limit_s - time.time(),
            late=f"the job was not done within {limit_s:g} s; its last fault: ",
        )

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.store.expire, self._limits.keep_s)
            except Exception as error:  # noqa: BLE001 - told, and the next time may go well
                telemetry.log("jobs_not_swept", level="error", error=str(error), exc_info=error)
            await asyncio.sleep(min(_SWEEP_EVERY_S, self._limits.keep_s))


async def _until_unwanted(job: StoredJob) -> None:
    """Return when somebody, perhaps through another replica, has cancelled it."""
    while not job.is_unwanted:  # noqa: ASYNC110 - files say so, and no event
        await asyncio.sleep(_LOOK_EVERY_S / 2)
