"""What runs inside a worker process. Imports no Ray, so that a new worker is there at once."""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from rlad_core.sections import code
from rlad_core.tasks.base import Task, Verdict
from services.verifier.checking import loading, surroundings, traces, verdicts
from services.verifier.checking.messages import Check, ChunkOutcomes, Failed, Outcome, Ready, Setup

_PR_SET_PDEATHSIG = 1


def serve(connection_fd: int, errors_fd: int, traces_fd: int, server: int) -> None:
    """Take a `Setup`, tell what is loaded and `Ready`; then answer (checks, soft limit) with `ChunkOutcomes`.

    Args:
        connection_fd: of a pipe, both ways; the process ends when the other end is closed.
        errors_fd: standard error until it is ready.
        traces_fd: see `traces.write_to`.
        server: the process that forked this one.
    """
    # A group of its own, which is killed as a whole, and which is all that a check can kill by `kill(0)`.
    os.setsid()
    # A check that hangs must not outlive a service that was killed: its fork server ends, and so does this.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        return
    # Ctrl-C reaches every process of a terminal; ending the workers is the service's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The image of a process that crashes on purpose is of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    surroundings.silence()
    os.dup2(errors_fd, 2)
    os.close(errors_fd)
    surroundings.open_streams()
    traces.write_to(traces_fd)
    connection = Connection(connection_fd)
    # What a check forks must not answer in its place.
    os.register_at_fork(after_in_child=connection.close)
    worker = _Worker(connection.recv(), traces_fd)
    try:
        connection.send(worker.load(connection))
    except loading.LoadError as error:
        connection.send(Failed("load", verdicts.text(str(error))))
        return
    surroundings.silence()
    while True:
        try:
            checks, soft_limit_s = connection.recv()
        except EOFError:
            return
        connection.send(worker.judge(checks, soft_limit_s))


class _Worker:
    """The tasks, and what their checks may take."""

    def __init__(self, setup: Setup, traces_fd: int) -> None:
        self._setup, self._traces_fd = setup, traces_fd
        self._tasks: dict[str, Task] = {}
        self._pid = os.getpid()

    def load(self, connection: Connection) -> Ready:
        """Make the tasks; tells the name of each one before."""
        os.chdir(self._setup.folder)
        code.receive(self._setup.code)
        users: dict[str, str] = {}
        for name, spec in self._setup.tasks.items():
            connection.send(name)
            task = self._tasks[name] = loading.load(name, spec)
            loading.warm_up(name, task)
            if task.is_users:
                users[name] = loading.users_file(spec, task) or spec.place
        surroundings.silence()
        self._surroundings = surroundings.Surroundings()
        self._surroundings.restore()
        self._bytes_at_start = _address_space()
        folders = loading.folders(self._setup.tasks, self._setup.code)
        return Ready(users, folders | {str(Path(file).parent) for file in users.values()})

    def judge(self, checks: Sequence[Check], soft_limit_s: float) -> ChunkOutcomes:
        """Judge checks in order, until all are done or the time is over.

        Returns:
            Outcomes of the first checks, at least one; those left out took no part.
        """
        stop = time.monotonic() + soft_limit_s
        # Again each time: a check may have put a handler of its own in the place of these.
        traces.write_to(self._traces_fd)
        # From where the process stands, so that what users' code keeps is not taken from the next check; one
        # that keeps much is replaced below.
        self._limit_memory()
        outcomes: list[Outcome] = []
        for check in checks:
            outcomes.append(self._judge(check))
            if time.monotonic() > stop:
                break
        grown = _address_space() - self._bytes_at_start
        return ChunkOutcomes(outcomes, grown > self._setup.memory_limit_bytes)

    def _judge(self, check: Check) -> Outcome:
        """Whatever users' code does short of ending the process is an outcome."""
        try:
            try:
                return self._asked(check)
            finally:
                if os.getpid() != self._pid:  # forked by the check, and back from there
                    os._exit(0)
                self._surroundings.restore()
        except verdicts.UnusableError as error:
            where = code.defined(self._tasks[check.task].verify)
            return Failed("error", verdicts.text(f"{error} ({where})"))
        except MemoryError as error:
            bare = MemoryError().with_traceback(error.__traceback__)
            where = code.fault(bare).removeprefix(type(bare).__name__)
            return Failed(
                "memory", f"needed more than {self._setup.memory_limit_bytes / 2**20:.0f} MiB{where}"
            )
        except BaseException as error:  # noqa: BLE001 - one response must not fail its neighbours; it is told
            return Failed("error", verdicts.text(f"raised {code.fault(error)}"))

    def _asked(self, check: Check) -> Verdict:
        task = self._tasks[check.task]
        if check.response is None:
            return verdicts.plain(task.failed(check.gold))
        return verdicts.plain(task.verify(check.response, check.gold))

    def _limit_memory(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _address_space() + self._setup.memory_limit_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


def _address_space() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
