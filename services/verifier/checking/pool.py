"""Checks in worker processes, each with a time and a memory limit, and no check at its neighbours' expense.

Checks travel in chunks, since a cheap one takes less time than the way to a worker. Outcomes come back as
they are there, and which check a worker is at is always known (`progress`). A check that is slow keeps its
worker to itself: the rest of its chunk goes to others, and another process takes the worker's place, up to
`OVERTIME` for each. One that is over its limit is killed with its worker. One that ended its worker has one
more try in a new one, since what ends a process (a thread, a broken heap) may have been left there before.

==================  =======================================  ==============================================
who                 waits for                                unblocked by
==================  =======================================  ==============================================
`judge`             all its checks                           workers; the limit of each check; its caller
a chunk             a worker that is free, and its turn      quick checks; the limit of slow ones, where
                                                             `OVERTIME` processes are slow already
==================  =======================================  ==============================================

All this happens on an event loop in a thread of the pool's own: what asks may be on any.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from rlad_core.tasks.base import Task, TaskSpec
from services.verifier.checking import loading, wire
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.loop_thread import LoopThread
from services.verifier.checking.messages import SLOW_S, Check, Failed, Outcome, Setup
from services.verifier.checking.post import Post
from services.verifier.checking.process import WorkerProcess
from services.verifier.checking.queue import Job, Queue, Request

CHUNK_SIZE = 32
OVERTIME = 3
"""Further processes for each worker, while checks are slow."""

_LOOK_S = 0.05
_CLOSED = "the pool of worker processes is closed"

Result = TypeVar("Result")


class CheckPool:
    """A pool of worker processes that judge responses.

    Args:
        tasks: by name; places that are files are absolute.
        code: texts of users' files by path, see `rlad_core.sections.code.receive`.
        workers: processes for checks that are quick.
        time_limit_s: of one check, without what it waits for a processor.
        memory_limit_bytes: of one worker, beyond what it has when it gets a chunk.
        on_batch: told the checks of each chunk that a worker gets, for metrics; in the pool's thread.
        on_queue: told the checks that wait for a worker, whenever their number has changed; likewise.
        weights: see `services.serve.fair.FairQueue`.

    Attributes:
        tasks: by name, for all but judging, which is the workers'; None where that would run a user's code in
            this process.

    Raises:
        LoadError: a task that ships cannot be made so; those of users fail in `start`.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskSpec],
        *,
        workers: int,
        time_limit_s: float,
        memory_limit_bytes: int,
        code: Mapping[str, str] | None = None,
        on_batch: Callable[[int], None] = lambda checks: None,
        on_queue: Callable[[int], None] = lambda checks: None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.tasks: dict[str, Task | None] = {
            name: loading.load(name, spec) if loading.is_ours(spec) else None for name, spec in tasks.items()
        }
        self._wanted, self._most = workers, workers * (1 + OVERTIME)
        self._time_limit_s = time_limit_s
        self._on_batch, self._on_queue = on_batch, on_queue
        self._forks = ForkServer(loading.preloaded(tasks))
        self._setup = Setup(dict(tasks), dict(code or {}), memory_limit_bytes, os.getcwd())
        self._users: frozenset[str] = frozenset()
        self._queue = Queue(CHUNK_SIZE, weights)
        self._requests: set[Request] = set()
        self._posts: set[Post] = set()
        self._idle: list[Post] = []
        self._work: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._is_closed = False
        # They block: starting processes, and clearing them away.
        self._threads = ThreadPoolExecutor(2 * self._most, "checking")
        self._thread = LoopThread("checks")
        self._loop = self._thread.loop

    async def start(self) -> None:
        """Have all workers that should be there; those that are under way are waited for.

        Raises:
            RuntimeError: one does not start; names the task, file and line where a user's code is at fault.
        """
        await self._run(self._start())

    @property
    def queue_length(self) -> int:
        """Checks that wait for a worker."""
        return len(self._queue)

    @property
    def callers(self) -> int:
        """Callers with checks that wait for a worker."""
        return self._queue.callers

    async def judge(
        self, checks: Sequence[Check], on_taken: Callable[[], None] = lambda: None
    ) -> list[Outcome]:
        """An outcome for each check, in order. Cancelling the call ends its checks.

        Args:
            checks: what to judge.
            on_taken: called once, when a worker gets the first of them; in the pool's thread.

        Raises:
            RuntimeError: worker processes do not start.
        """
        return await self._run(self._judge(checks, on_taken)) if checks else []

    def is_users(self, task: str) -> bool:
        """Whether checks of a task run a user's own code; known once workers have started."""
        return task in self._users

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that there are."""
        return [post.process.pid for post in list(self._posts)]

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        if self._is_closed:
            return
        self._is_closed = True
        for post in list(self._posts):
            post.process.kill()
        self._forks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._thread.stop(self._let_go)

    def _let_go(self) -> None:
        for post in list(self._posts):
            self._take_away(post)
            post.process.let_go()
        for request in self._requests:
            if not request.done.done():
                request.done.set_exception(RuntimeError(_CLOSED))

    async def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._is_closed:
            work.close()
            raise RuntimeError(_CLOSED)
        return await self._thread.run(work)

    async def _start(self) -> None:
        self._fill_up()
        if self._starting:
            done, _ = await asyncio.wait(self._starting)
            for starting in done:
                starting.result()

    async def _judge(self, checks: Sequence[Check], on_taken: Callable[[], None]) -> list[Outcome]:
        request = Request(checks, on_taken)
        self._requests.add(request)
        self._queue.add(request)
        self._on_queue(len(self._queue))
        self._fill_up()
        self._hand_out()
        try:
            return await request.done
        finally:
            self._requests.discard(request)
            self._queue.remove(request)  # where it was cancelled

    # Handing out

    def _hand_out(self) -> None:
        """Chunks to all workers that are free; another process where all others are slow."""
        while self._queue and self._idle:
            size = min(CHUNK_SIZE, -(-len(self._queue) // len(self._idle)))
            jobs = self._queue.take(size, crowded=len(self._posts) > self._most - self._wanted)
            if not jobs:
                break
            self._give(self._idle.pop(), jobs)
        if self._queue and not self._idle:
            self._fill_up()

    def _give(self, post: Post, jobs: Sequence[Job]) -> None:
        post.give(jobs)
        self._on_batch(len(jobs))
        self._on_queue(len(self._queue))
        for request in {job.request for job in jobs}:
            request.taken()
        self._send(post)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK_S, self._look)

    def _send(self, post: Post) -> None:
        if post.send():
            self._loop.remove_writer(post.process.connection)
        else:
            self._loop.add_writer(post.process.connection, self._send, post)

    def _fill_up(self) -> None:
        """As many processes as are wanted; where checks wait, those not counted that are slow."""
        if self._is_closed:
            return
        slow = sum(post.slow is not None for post in self._posts) if self._queue else 0
        while len(self._posts) + len(self._starting) < min(self._wanted + slow, self._most):
            self._begin_one(None)

    def _begin_one(self, job: Job | None) -> None:
        """Start a process, with a check for it alone."""
        starting = self._loop.create_task(self._begin(job))
        self._starting.add(starting)
        starting.add_done_callback(self._begun)

    def _begun(self, starting: asyncio.Task[None]) -> None:
        self._starting.discard(starting)
        if starting.cancelled() or self._is_closed or (error := starting.exception()) is None:
            return
        if not self._posts and not self._starting:
            self._queue.fail(RuntimeError(str(error)))

    async def _begin(self, job: Job | None) -> None:
        """Raises RuntimeError: the process does not start."""
        try:
            process = await self._in_thread(WorkerProcess, self._forks, self._setup)
        except RuntimeError:
            if job is not None:
                job.settle(Failed("crash", job.crashed or ""))
            raise
        if self._is_closed:
            process.kill()
            process.let_go()
            return
        self._users = frozenset(process.ready.users)
        post = Post(process)
        self._posts.add(post)
        self._loop.add_reader(process.connection, self._read, post)
        if job is None:
            self._idle.append(post)
        else:
            self._give(post, [job])
        self._hand_out()

    # Taking in

    def _read(self, post: Post) -> None:
        try:
            for message in post.read():
                told = wire.understood(message)
                if isinstance(told, dict):
                    self._end_of_chunk(post, spent=bool(told.get("spent")))
                else:
                    post.settle(told)
        except OSError:
            current = post.current()
            rest = self._take_away(post)
            if self._is_closed:
                post.process.let_go()
                return
            self._background(self._replace(post, current, [job for job in rest if job is not current]))

    def _end_of_chunk(self, post: Post, *, spent: bool) -> None:
        self._not_slow(post)
        self._queue.put_back(post.end_of_chunk())
        if spent or sum(each.slow is None for each in self._posts) > self._wanted:
            self._take_away(post)
            self._background(self._in_thread(post.process.end))
            self._fill_up()
        else:
            self._idle.append(post)
        self._hand_out()

    def _look(self) -> None:
        """After checks that take long."""
        busy = [post for post in self._posts if post.is_busy]
        self._looking = self._loop.call_later(_LOOK_S, self._look) if busy else None
        for post in busy:
            if (job := post.current()) is None:
                continue
            ran = post.ran_s(job)
            if ran > self._time_limit_s or (ran > SLOW_S and job.request.done.done()):
                rest = [each for each in self._take_away(post) if each is not job]
                self._background(self._stop(post, job, rest))
            elif ran > SLOW_S and post.slow is not job:
                self._not_slow(post)
                post.slow = job
                job.request.slow += 1
                self._queue.put_back(post.leave_to_others(but=job))
        if self._queue:
            self._fill_up()
            self._hand_out()

    def _not_slow(self, post: Post) -> None:
        if post.slow is not None:
            post.slow.request.slow -= 1
            post.slow = None

    def _take_away(self, post: Post) -> list[Job]:
        """It judges nothing more; the jobs that it leaves."""
        self._not_slow(post)
        self._posts.discard(post)
        if post in self._idle:
            self._idle.remove(post)
        self._loop.remove_reader(post.process.connection)
        self._loop.remove_writer(post.process.connection)
        return post.end_of_chunk()

    async def _stop(self, post: Post, job: Job, rest: Sequence[Job]) -> None:
        """A check is over its limit."""
        self._queue.put_back(rest)
        self._fill_up()
        self._hand_out()
        where = await self._in_thread(post.process.stop, job.check.task)
        job.settle(Failed("time", f"took longer than {self._time_limit_s:g} s and was stopped{where}"))

    async def _replace(self, post: Post, job: Job | None, rest: Sequence[Job]) -> None:
        """A process has ended."""
        self._queue.put_back(rest)
        ended = await self._in_thread(post.process.why_it_ended, job.check.task if job else "")
        how = f"ended its process with {ended}"
        if job is not None and job.crashed is None:
            job.crashed = how
            self._begin_one(job)
        elif job is not None:
            job.settle(Failed("crash", how))
        self._fill_up()
        self._hand_out()

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        try:
            working = self._loop.run_in_executor(self._threads, work, *arguments)
        except RuntimeError as error:  # a thread is a process to the kernel
            raise RuntimeError(f"no worker process can be started: {error}; see ulimit -u and -v") from error
        return await working

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        with suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None and not self._is_closed:
                raise error
