"""Checks in worker processes, each with a time and a memory limit, and no check at its neighbours' expense.

Checks travel in chunks, since a cheap one takes less time than the way to a worker. A worker stops a chunk
that takes long after a check is done, and the rest goes on as a new chunk. So a chunk that is not back after
its soft limit plus the limit of one check holds a check that ran too long: the worker is killed, and the
chunk's checks are repeated one by one, with the limit for each.

==================  =======================================  ==============================================
who                 waits for                                unblocked by
==================  =======================================  ==============================================
`judge`             all its checks                           workers; the limit of each check; its caller
a chunk             a worker that is free                    chunks before it, each within its limit
==================  =======================================  ==============================================
"""

import asyncio
import multiprocessing
from collections.abc import Sequence

from pebble import ProcessExpired, ProcessPool

from services.checking import worker
from services.checking.worker import Check, Failed, Outcome

CHUNK_SIZE = 32
SOFT_LIMIT_S = 0.25
_START_LIMIT_S = 60.0


class CheckPool:
    """A pool of worker processes that judge responses.

    Args:
        tasks: name -> "module:class", see `worker.start`.
        workers: processes; checks that hang take one each until their limit.
        time_limit_s: wall-clock time of one check.
        memory_limit_bytes: of one worker, beyond what it starts with.
    """

    def __init__(
        self, tasks: dict[str, str], *, workers: int, time_limit_s: float, memory_limit_bytes: int
    ) -> None:
        worker.load(tasks)  # here too: a wrong name should fail at the start, with its reason
        self._time_limit_s = time_limit_s
        # Forking a process with threads, as a Serve replica is, deadlocks; spawning takes seconds for every
        # worker that had to be killed. The fork server is a clean process which has the imports done.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", worker.__name__, *_modules(tasks)])
        self._pool = ProcessPool(
            max_workers=workers,
            context=context,
            initializer=worker.start,
            initargs=(tasks, memory_limit_bytes),
        )

    async def judge(self, checks: Sequence[Check]) -> list[Outcome]:
        """An outcome for each check, in order. Cancelling the call ends its checks.

        Raises:
            RuntimeError: the pool is broken, see `check_health`.
        """
        chunks = [checks[start : start + CHUNK_SIZE] for start in range(0, len(checks), CHUNK_SIZE)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._judge_chunk(chunk)) for chunk in chunks]
        return [outcome for task in tasks for outcome in task.result()]

    async def warm_up(self) -> None:
        """Wait until a worker answers.

        Raises:
            TimeoutError: none did, which takes a few seconds at most where nothing is wrong.
        """
        ready = self._pool.schedule(worker.judge, args=((), 0.0), timeout=_START_LIMIT_S)
        try:
            await asyncio.wait_for(asyncio.wrap_future(ready), _START_LIMIT_S)
        except TimeoutError as error:
            raise TimeoutError(f"no worker process was ready within {_START_LIMIT_S:.0f} s") from error

    def check_health(self) -> None:
        """Tell whether the pool can still work.

        Raises:
            RuntimeError: it cannot, and has to be replaced.
        """
        if not self._pool.active:
            raise RuntimeError("the pool of worker processes is broken: a worker ended with nothing to do")

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._pool.stop()
        self._pool.join()

    async def _judge_chunk(self, chunk: Sequence[Check]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(chunk):
            rest = chunk[len(outcomes) :]
            part = await self._run(rest)
            if isinstance(part, Failed):
                alone = [part] if len(rest) == 1 else await self._one_by_one(rest)
                return [*outcomes, *alone]
            outcomes += part
        return outcomes

    async def _one_by_one(self, checks: Sequence[Check]) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._judge_chunk([check])) for check in checks]
        return [outcome for task in tasks for outcome in task.result()]

    async def _run(self, checks: Sequence[Check]) -> list[Outcome] | Failed:
        """What a worker says about the first of these checks, or how it ended instead."""
        alone = len(checks) == 1
        limit_s = self._time_limit_s if alone else self._time_limit_s + SOFT_LIMIT_S
        future = self._pool.schedule(worker.judge, args=(checks, SOFT_LIMIT_S), timeout=limit_s)
        try:
            outcomes: list[Outcome] = await asyncio.wrap_future(future)
        except TimeoutError:
            return Failed("time", f"took longer than {self._time_limit_s:g} s and was stopped")
        except ProcessExpired as error:
            return Failed("crash", f"ended its process with exit code {error.exitcode}")
        return outcomes


def _modules(tasks: dict[str, str]) -> list[str]:
    return [place.partition(":")[0] for place in tasks.values()]
