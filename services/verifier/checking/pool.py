"""Checks in worker processes, each with a time and a memory limit, and no check at its neighbours' expense.

Checks travel in chunks, since a cheap one takes less time than the way to a worker. Outcomes come back as
they are there, and which check a worker is at is always known (`progress`). A check that is slow keeps its
worker to itself: the rest of its chunk goes to others, and another process takes the worker's place, up to
`OVERTIME` for each. One that is over its limit is killed with its worker. One that ended its worker has one
more try in a new one, since what ends a process (a thread, a broken heap) may have been left there before.

Callers have fair shares of the time of workers, whatever their checks take: it is charged as it passes, a
chunk that takes longer than `CHUNK_S` ends, and the last process of all is for callers without slow checks.

==================  =======================================  ==============================================
who                 waits for                                unblocked by
==================  =======================================  ==============================================
`judge`             all its checks                           workers; the limit of each check; its caller
a chunk             a worker that is free, and its turn      quick checks; the limit of slow ones, where
                                                             `OVERTIME` processes are slow already
==================  =======================================  ==============================================

All this happens on an event loop in a thread of the pool's own: what asks may be on any. `crew` has the
processes; here are those who ask.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from rlad_core.tasks.base import Task, TaskSpec
from services.verifier.checking import loading
from services.verifier.checking.crew import CHUNK_SIZE, Crew
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.loop_thread import LoopThread
from services.verifier.checking.messages import Check, Outcome, Setup
from services.verifier.checking.queue import Queue, Request

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
        self._on_queue = on_queue
        self._queue = Queue(CHUNK_SIZE, weights)
        self._requests: set[Request] = set()
        self._is_closed = False
        forks = ForkServer(loading.preloaded(tasks))
        self._thread = LoopThread("checks")
        self._crew = Crew(
            self._thread.loop,
            self._queue,
            forks,
            Setup(dict(tasks), dict(code or {}), memory_limit_bytes, os.getcwd()),
            workers=workers,
            time_limit_s=time_limit_s,
            on_batch=on_batch,
            on_queue=on_queue,
        )

    async def start(self) -> None:
        """Have all workers that should be there; those that are under way are waited for.

        Raises:
            RuntimeError: one does not start; names the task, file and line where a user's code is at fault.
        """
        await self._run(self._crew.start())

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
        return task in self._crew.users

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that there are."""
        return [post.process.pid for post in list(self._crew.posts)]

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._crew.close()
        self._thread.stop(self._let_go)

    def _let_go(self) -> None:
        self._crew.let_go()
        for request in self._requests:
            if not request.done.done():
                request.done.set_exception(RuntimeError(_CLOSED))

    async def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._is_closed:
            work.close()
            raise RuntimeError(_CLOSED)
        return await self._thread.run(work)

    async def _judge(self, checks: Sequence[Check], on_taken: Callable[[], None]) -> list[Outcome]:
        request = Request(checks, on_taken)
        self._requests.add(request)
        self._queue.add(request)
        self._on_queue(len(self._queue))
        self._crew.fill_up()
        self._crew.hand_out()
        try:
            return await request.done
        finally:
            self._requests.discard(request)
            self._queue.remove(request)  # where it was cancelled
            self._on_queue(len(self._queue))
