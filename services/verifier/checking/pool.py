"""Checks in worker processes, each with a time and a memory limit, and no check at its neighbours' expense.

Checks travel in chunks, since a cheap one takes less time than the way to a worker. A worker stops a chunk
that takes long after a check is done, and the rest goes on as a new chunk. So a chunk that is not back after
its soft limit plus the limit of one check holds a check that ran too long: the worker is killed, and the
chunk's checks are repeated one by one, with the limit for each. So are those of a chunk whose worker crashed;
and a check that crashed its worker alone has one more try, since what ends a process (a thread, a broken
heap) may have been left there by a check before it.

==================  =======================================  ==============================================
who                 waits for                                unblocked by
==================  =======================================  ==============================================
`judge`             all its checks                           workers; the limit of each check; its caller
a chunk             a worker that is free                    chunks before it, each within its limit
==================  =======================================  ==============================================
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.waiting import Once, all_of
from services.verifier.checking import loading
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.messages import Check, Failed, Outcome, Setup
from services.verifier.checking.process import WorkerProcess

CHUNK_SIZE = 32
SOFT_LIMIT_S = 0.25


class CheckPool:
    """A pool of worker processes that judge responses; to be used on one event loop.

    Args:
        tasks: by name; places that are files are absolute.
        code: texts of users' files by path, see `rlad_core.sections.code.receive`.
        workers: processes; checks that hang take one each until their limit.
        time_limit_s: wall-clock time of one check.
        memory_limit_bytes: of one worker, beyond what it has when it gets a chunk.
        on_batch: told the checks of each chunk that a worker gets, for metrics.
        on_queue: told the checks that wait for a worker, whenever their number has changed, for metrics.

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
    ) -> None:
        self.tasks: dict[str, Task | None] = {
            name: loading.load(name, spec) if loading.is_ours(spec) else None for name, spec in tasks.items()
        }
        self._time_limit_s = time_limit_s
        self._on_batch, self._on_queue = on_batch, on_queue
        self._queue_length = 0
        self._forks = ForkServer(loading.preloaded(tasks))
        setup = Setup(dict(tasks), dict(code or {}), memory_limit_bytes, os.getcwd())
        self._workers = [WorkerProcess(self._forks, setup) for _ in range(workers)]
        self._threads = ThreadPoolExecutor(workers, "checking")
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        for process in self._workers:
            self._idle.put_nowait(process)

    async def start(self) -> None:
        """Start all workers.

        Raises:
            RuntimeError: one does not start; names the task, file and line where a user's code is at fault.
        """
        await asyncio.gather(*(self._run((), Once(lambda: None)) for _ in self._workers))

    async def judge(
        self, checks: Sequence[Check], on_taken: Callable[[], None] = lambda: None
    ) -> list[Outcome]:
        """An outcome for each check, in order. Cancelling the call ends its checks.

        Args:
            checks: what to judge.
            on_taken: called once, when a worker gets the first of them.

        Raises:
            RuntimeError: worker processes do not start.
        """
        chunks = [checks[start : start + CHUNK_SIZE] for start in range(0, len(checks), CHUNK_SIZE)]
        taken = Once(on_taken)
        judged = await all_of(self._judge_chunk(chunk, taken) for chunk in chunks)
        return [outcome for outcomes in judged for outcome in outcomes]

    def is_users(self, task: str) -> bool:
        """Whether checks of a task run a user's own code; known once workers have started."""
        return any(process.ready is not None and task in process.ready.users for process in self._workers)

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that there are."""
        return [process.pid for process in self._workers if process.pid is not None]

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for process in self._workers:
            process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get_nowait().end()
        self._forks.close()

    async def _judge_chunk(self, chunk: Sequence[Check], taken: Once) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(chunk):
            rest = chunk[len(outcomes) :]
            part = await self._run(rest, taken)
            if isinstance(part, Failed) and len(rest) > 1:
                return [*outcomes, *await self._one_by_one(rest, taken)]
            if isinstance(part, Failed) and part.kind == "crash":
                part = await self._run(rest, taken)
            if isinstance(part, Failed):
                return [*outcomes, part]
            outcomes += part
        return outcomes

    async def _one_by_one(self, checks: Sequence[Check], taken: Once) -> list[Outcome]:
        judged = await all_of(self._judge_chunk([check], taken) for check in checks)
        return [outcome for outcomes in judged for outcome in outcomes]

    async def _run(self, checks: Sequence[Check], taken: Once) -> list[Outcome] | Failed:
        """See `WorkerProcess.ask`."""
        process = await self._free_worker(len(checks))
        taken()
        limit_s = self._time_limit_s + (SOFT_LIMIT_S if len(checks) > 1 else 0.0)
        asking = asyncio.get_running_loop().run_in_executor(
            self._threads, process.ask, checks, SOFT_LIMIT_S, limit_s
        )
        # Not when this call ends: after a cancellation the thread still sees to the process's end.
        asking.add_done_callback(lambda _: self._idle.put_nowait(process))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            process.kill()
            raise

    async def _free_worker(self, checks: int) -> WorkerProcess:
        """A worker for so many checks, which wait for it."""
        self._count_waiting(checks)
        try:
            process = await self._idle.get()
        finally:
            self._count_waiting(-checks)
        if checks:
            self._on_batch(checks)
        return process

    def _count_waiting(self, change: int) -> None:
        self._queue_length += change
        self._on_queue(self._queue_length)
