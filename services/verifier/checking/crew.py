"""The worker processes of a pool, on its event loop: who has which chunk, who is slow, who takes a place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from services.verifier.checking import wire
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.messages import SLOW_S, Failed, Setup
from services.verifier.checking.post import Post
from services.verifier.checking.process import WorkerProcess
from services.verifier.checking.queue import Job, Queue

CHUNK_SIZE = 32
OVERTIME = 3
"""Further processes for each worker, while checks are slow."""

_LOOK_S = 0.05

Result = TypeVar("Result")


class Crew:
    """Takes jobs from a queue and has them done; all methods but the attributes are for the loop's thread.

    Args:
        loop: of the pool's thread.
        queue: where jobs wait.
        forks, setup: what a worker process is made with.
        workers, time_limit_s, on_batch, on_queue: see `pool.CheckPool`.

    Attributes:
        users: tasks that run a user's own code; known once workers have started.
        posts: the processes that there are.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: Queue,
        forks: ForkServer,
        setup: Setup,
        *,
        workers: int,
        time_limit_s: float,
        on_batch: Callable[[int], None],
        on_queue: Callable[[int], None],
    ) -> None:
        self.users: frozenset[str] = frozenset()
        self.posts: set[Post] = set()
        self._loop, self._queue, self._forks, self._setup = loop, queue, forks, setup
        self._wanted, self._most = workers, workers * (1 + OVERTIME)
        self._time_limit_s = time_limit_s
        self._on_batch, self._on_queue = on_batch, on_queue
        self._idle: list[Post] = []
        self._work: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._is_closed = False
        # They block: starting processes, and clearing them away.
        self._threads = ThreadPoolExecutor(2 * self._most, "checking")

    async def start(self) -> None:
        """Have all workers that should be there.

        Raises:
            RuntimeError: one does not start.
        """
        self.fill_up()
        if self._starting:
            done, _ = await asyncio.wait(self._starting)
            for starting in done:
                starting.result()

    def close(self) -> None:
        """End the processes, whatever they are doing; from any thread."""
        self._is_closed = True
        for post in list(self.posts):
            post.process.kill()
        self._forks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def let_go(self) -> None:
        """Forget them, after `close`."""
        for post in list(self.posts):
            self._take_away(post)
            post.process.let_go()

    # Handing out

    def hand_out(self) -> None:
        """Give chunks to all workers that are free; start another process where all others are slow."""
        while self._queue and self._idle:
            size = min(CHUNK_SIZE, -(-len(self._queue) // len(self._idle)))
            jobs = self._queue.take(
                size,
                crowded=len(self.posts) > self._most - self._wanted,
                last=len(self.posts) >= self._most and len(self._idle) == 1,
            )
            if not jobs:
                break
            self._give(self._idle.pop(), jobs)
        if self._queue and not self._idle:
            self.fill_up()

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

    def fill_up(self) -> None:
        """Start processes until as many are there as are wanted; slow ones do not count where checks wait."""
        if self._is_closed:
            return
        slow = sum(post.slow is not None for post in self.posts) if self._queue else 0
        while len(self.posts) + len(self._starting) < min(self._wanted + slow, self._most):
            self._begin_one(None)

    def _begin_one(self, job: Job | None) -> None:
        """Start a process, with a check for it alone."""
        starting = self._loop.create_task(self._begin(job))
        self._starting.add(starting)
        starting.add_done_callback(self._begun)

    def _begun(self, starting: asyncio.Task[None]) -> None:
        self._starting.discard(starting)
        if starting.cancelled() or (error := starting.exception()) is None or self._is_closed:
            return
        if not self.posts and not self._starting:
            self._queue.fail(RuntimeError(str(error)))

    async def _begin(self, job: Job | None) -> None:
        """Raises RuntimeError: the process does not start."""
        began = self._loop.time()
        try:
            process = await self._in_thread(WorkerProcess, self._forks, self._setup)
        except BaseException:
            if job is not None:
                job.settle(Failed("crash", job.crashed or ""))
            raise
        if self._is_closed:
            process.kill()
            process.let_go()
            return
        self.users = frozenset(process.ready.users)
        post = Post(process)
        self.posts.add(post)
        self._loop.add_reader(process.connection, self._read, post)
        if job is None:
            self._idle.append(post)
        else:
            self._queue.charge(job.request, self._loop.time() - began)  # which it has made necessary
            self._give(post, [job])
        self.hand_out()

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
        self._charge(post)
        self._not_slow(post)
        self._queue.put_back(post.end_of_chunk())
        if spent or sum(each.slow is None for each in self.posts) > self._wanted:
            self._take_away(post)
            self._background(self._in_thread(post.process.end))
            self.fill_up()
        else:
            self._idle.append(post)
        self.hand_out()

    def _look(self) -> None:
        """After checks that take long."""
        busy = [post for post in self.posts if post.is_busy]
        self._looking = self._loop.call_later(_LOOK_S, self._look) if busy else None
        for post in busy:
            self._charge(post)
            if (seen := post.look()) is None:
                continue
            job, is_slow = seen.job, seen.ran_s > SLOW_S
            is_over = seen.ran_s > self._time_limit_s
            if is_over and not seen.has_begun:  # the process is held up, and no check of it is at fault
                self._background(self._replace(post, None, self._take_away(post)))
            elif is_over or (is_slow and job.request.done.done()):
                rest = [each for each in self._take_away(post) if each is not job]
                self._background(self._stop(post, job, rest))
            elif is_slow and post.slow is not job:
                self._not_slow(post)
                post.slow = job
                self._queue.slow(job.request, 1)
                self._queue.put_back(post.leave_to_others(but=job))
        if self._queue:
            self.fill_up()
            self.hand_out()

    def _not_slow(self, post: Post) -> None:
        if post.slow is not None:
            self._queue.slow(post.slow.request, -1)
            post.slow = None

    def _charge(self, post: Post) -> None:
        """Its time is counted as it passes: until a chunk ends may take seconds."""
        if (used := post.used()) is not None:
            self._queue.charge(*used)

    def _take_away(self, post: Post) -> list[Job]:
        """It judges nothing more; the jobs that it leaves."""
        self._charge(post)
        self._not_slow(post)
        self.posts.discard(post)
        if post in self._idle:
            self._idle.remove(post)
        self._loop.remove_reader(post.process.connection)
        self._loop.remove_writer(post.process.connection)
        return post.end_of_chunk()

    async def _stop(self, post: Post, job: Job, rest: Sequence[Job]) -> None:
        """A check is over its limit."""
        self._queue.put_back(rest)
        self.fill_up()
        self.hand_out()
        where = ""
        try:
            where = await self._in_thread(post.process.stop, job.check.task)
        finally:
            job.settle(Failed("time", f"took longer than {self._time_limit_s:g} s and was stopped{where}"))

    async def _replace(self, post: Post, job: Job | None, rest: Sequence[Job]) -> None:
        """A process has ended."""
        self._queue.put_back(rest)
        try:
            ended = await self._in_thread(post.process.why_it_ended, job.check.task if job else "")
        except (OSError, RuntimeError) as error:
            ended = f"an unknown exit code ({error})"
        how = f"ended its process with {ended}"
        if job is not None and job.crashed is None:
            job.crashed = how
            self._begin_one(job)
        elif job is not None:
            job.settle(Failed("crash", how))
        self.fill_up()
        self.hand_out()

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
