"""A replica's part in its service's jobs: it takes new ones in and works on those that nobody works on.

A job's parts are done one after the other, each as a request of the job's owner: it waits for its turn among
all callers, counts for the owner's quota and share of the queue, and is asked again later where too much
waits (`at_work`). Which job is worked on goes round among callers: one that has had its turn is left where it
is when another caller's waits, and so are all where a replica ends. Whoever takes one up goes on behind the
last part that was finished, unless too many have ended at the next one (`attempts`).
"""

import asyncio
import atexit
import contextlib
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rlad_core.waiting import limit
from services.base import telemetry
from services.serve.fair import ASKER, Asker
from services.serve.http.bodies import Body
from services.serve.http.problems import as_problem
from services.serve.job_limits import JobLimits
from services.serve.jobs.at_work import JobAtWork
from services.serve.jobs.attempts import Attempts
from services.serve.jobs.disk import on_disk
from services.serve.jobs.errors import NoJobsError, NoRoomError, NotKeptError
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.room import Room
from services.serve.jobs.store import JobStore
from services.serve.jobs.turns import Turns
from services.serve.jobs.work import ReadWork

_LOOK_EVERY_S = 1.0
_SWEEP_EVERY_S = 60.0
_HAND_BACK_S = 2.0
_ADDING_S = 30.0


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
        self._room = None if jobs_dir is None else Room(JobStore(Path(jobs_dir) / service), limits)
        self._new = asyncio.Event()
        # Many that come at once wait here, and not each in a thread for the folder's lock.
        self._adding = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []
        self._attempts = Attempts()
        self._turns = Turns()
        self._stopping = False

    def start(self) -> None:
        """Work on what is there and on what comes."""
        if self._room is not None:
            self._loops = [asyncio.create_task(self._work()) for _ in range(self._limits.at_a_time)]
            self._loops.append(asyncio.create_task(self._sweep()))
            # Of a process that is ended by a signal, and nobody has called `stop`; not of one that is killed.
            atexit.register(self._attempts.hand_back)

    def stop(self) -> None:
        """Leave what is not done to others, also what fails from now on, since the service is ending."""
        if self._stopping:
            return
        self._stopping = True
        for loop in self._loops:
            loop.cancel()
        # Now, since the process may be killed before the loops have come to an end; but a disk that does not
        # answer holds up nobody's requests for longer.
        handing_back = threading.Thread(target=self._attempts.hand_back, daemon=True)
        handing_back.start()
        handing_back.join(_HAND_BACK_S)
        atexit.unregister(self._attempts.hand_back)

    @property
    def store(self) -> JobStore:
        """Where they are.

        Raises:
            NoJobsError: nowhere.
        """
        return self.room.store

    @property
    def room(self) -> Room:
        """What they may take; raises likewise."""
        if self._room is None:
            raise NoJobsError("jobs need a folder: start the service with --set jobs_dir=FOLDER")
        return self._room

    async def submit(self, owner: str, body: Body, query: Mapping[str, list[str]]) -> StoredJob:
        """Take a job in.

        Raises:
            BusyError: as many, or as much, is kept here as may be.
            NotKeptError: it cannot be written.
            ServiceError, ProblemError: what the service's main route would refuse of it.
        """
        room = self.room
        work = await self._read(body, query)  # what is wrong with it is said now
        await work.check(work.rows)
        handed = Handed(owner, time.time(), body.encoding, body.answer, body.coding, dict(query))
        try:
            async with limit(_ADDING_S, "jobs that came before to be kept"):
                await self._adding.acquire()
            try:
                job = await asyncio.to_thread(room.add, handed, body.content)
            finally:
                self._adding.release()
        except OSError as error:
            telemetry.log("job_not_kept", level="error", error=str(error), exc_info=error)
            raise NotKeptError(f"the job cannot be kept: {error.strerror or error}") from error
        telemetry.log("job_submitted", job=job.id, bytes=len(body.content))
        self._new.set()
        return job

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
        async with self._turns.next(self.room) as job:
            if job is not None:
                await self._carry_out(job)
            return job is not None

    async def _carry_out(self, job: StoredJob) -> None:
        ASKER.set(Asker(job.handed.owner))
        watch = asyncio.create_task(_until_unwanted(job))
        at_work = JobAtWork(
            job,
            self.room,
            self._limits,
            self._attempts,
            self._turns,
            self._read,
            lambda: self._stopping or watch.done(),
        )
        doing = asyncio.create_task(at_work.carry_out())
        try:
            await asyncio.wait({doing, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done() or (doing.exception() is not None and await _is_unwanted(job)):
                telemetry.log("job_cancelled", job=job.id)
                return
            if (error := doing.exception()) is None and doing.result():
                telemetry.log("job_done", job=job.id, seconds=round(time.time() - job.handed.created, 3))
            elif error is None or self._stopping:
                telemetry.log("job_left", job=job.id)
            elif isinstance(error, NoRoomError):
                telemetry.log("job_waits_for_room", level="warning", job=job.id, error=str(error))
            else:
                telemetry.log(
                    "job_failed", level="warning", job=job.id, kind=type(error).__name__, error=str(error)
                )
                await on_disk(partial(job.fail, as_problem(error)))
        finally:
            watch.cancel()
            doing.cancel()
            await asyncio.wait({doing})
            await on_disk(job.clear_if_cancelled)  # of what was written since

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.store.expire, self._limits.keep_s)
            except Exception as error:  # noqa: BLE001 - told, and the next time may go well
                telemetry.log("jobs_not_swept", level="error", error=str(error), exc_info=error)
            await asyncio.sleep(min(_SWEEP_EVERY_S, self._limits.keep_s))


async def _is_unwanted(job: StoredJob) -> bool:
    return await asyncio.to_thread(lambda: job.is_unwanted)


async def _until_unwanted(job: StoredJob) -> None:
    """Return when somebody, perhaps through another replica, has cancelled it."""
    while not await _is_unwanted(job):  # noqa: ASYNC110 - files say so, and no event
        await asyncio.sleep(_LOOK_EVERY_S / 2)
