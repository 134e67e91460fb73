"""One worker process with a pipe of its own, so that it is always known what it was doing when it ended."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from services.checking import worker
from services.checking.worker import Check, Failed, Outcome

START_LIMIT_S = 60.0
_END_LIMIT_S = 10.0


class WorkerProcess:
    """Judges chunks of checks, one at a time; killed when one takes too long, and started again when needed.

    `ask` blocks and belongs into a thread. `kill` may be called from another one meanwhile.

    Args:
        tasks, memory_limit_bytes: see `worker.serve`.
    """

    def __init__(self, tasks: dict[str, str], memory_limit_bytes: int) -> None:
        self._arguments = (tasks, memory_limit_bytes)
        self._process: BaseProcess | None = None

    def ask(self, checks: Sequence[Check], soft_limit_s: float, limit_s: float) -> list[Outcome] | Failed:
        """What the worker says about the first of these checks, or how it ended instead.

        Args:
            soft_limit_s: see `worker.judge`.
            limit_s: time after which it is killed.

        Raises:
            RuntimeError: the process does not start.
        """
        if self._process is None:
            self._start()
        try:
            self._connection.send((checks, soft_limit_s))
            if self._connection.poll(limit_s):
                outcomes: list[Outcome] = self._connection.recv()
                return outcomes
        except (EOFError, OSError):  # the process is gone, or its end of the pipe while it was written to
            return Failed("crash", f"ended its process with exit code {self._end()}")
        self.kill()
        self._end()
        return Failed("time", f"took longer than {limit_s:g} s and was stopped")

    def kill(self) -> None:
        """End the process now, whatever it does."""
        if (process := self._process) is not None:
            process.kill()

    def _start(self) -> None:
        context = fork_server(self._arguments[0])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        # Only the worker may hold its end: else its death would not be noticed here.
        theirs.close()
        try:
            ready = self._connection.poll(START_LIMIT_S) and self._connection.recv() == worker.READY
        except (EOFError, OSError):
            ready = False
        if not ready:
            self.kill()
            raise RuntimeError(
                f"a worker process was not ready within {START_LIMIT_S:.0f} s (exit code {self._end()})"
            )

    def _end(self) -> int | None:
        """Clear away the process, which has ended or is about to; its exit code."""
        assert self._process is not None
        self._process.join(_END_LIMIT_S)
        code = self._process.exitcode
        self._process = None
        self._connection.close()
        return code


def fork_server(tasks: dict[str, str]) -> ForkServerContext:
    """Where workers come from.

    Forking a process with threads, as a Serve replica is, deadlocks; spawning takes seconds for every worker
    that had to be killed. The fork server is a clean process which has the imports done.
    """
    context = multiprocessing.get_context("forkserver")
    modules = [place.partition(":")[0] for place in tasks.values()]
    context.set_forkserver_preload(["__main__", worker.__name__, *modules])
    return context
