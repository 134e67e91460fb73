"""What runs inside a worker process. Imports no Ray, so that a new worker is there at once."""

import ctypes
import os
import pickle
import resource
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from rlad_core.sections import code
from rlad_core.tasks.base import Task, Verdict
from services.verifier.checking import loading, surroundings, traces, verdicts, wire
from services.verifier.checking.messages import CHUNK_S, Check, Failed, Outcome, Setup
from services.verifier.checking.progress import Progress

_PR_SET_PDEATHSIG = 1
_TELL_S = 0.002
"""Between messages, so that cheap checks cost no message each."""


def serve(connection_fd: int, errors_fd: int, traces_fd: int, progress_fd: int, server: int) -> None:
    """Take a `Setup`, tell what is loaded; then judge chunks of checks, and tell outcomes as they are there.

    It says ``{"loads": task}``, then ``{"users": ..., "folders": ...}`` (see `Ready`) or ``{"why": ...}``.
    Behind the outcomes of a chunk comes ``{"spent": ...}``: whether the process has grown so much that it
    should make room for a new one. Where it took long, its last checks have no outcomes then.

    Args:
        connection_fd: of a pipe, both ways; the process ends when the other end is closed.
        errors_fd: standard error until it is ready.
        traces_fd: see `traces.write_to`.
        progress_fd: see `progress`.
        server: the process that forked this one.
    """
    # A group of its own, which is killed as a whole, and which is all that a check can kill by `kill(0)`.
    os.setsid()
    os.dup2(errors_fd, 2)
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
    connection = socket.socket(fileno=connection_fd)
    # What a check forks must not answer in its place.
    os.register_at_fork(after_in_child=connection.close)
    if (setup := wire.read(connection)) is None:
        return
    worker = _Worker(pickle.loads(setup), traces_fd, Progress(progress_fd), connection)
    try:
        worker.load()
    except loading.LoadError as error:
        worker.tell(wire.words({"why": verdicts.text(str(error))}))
        return
    surroundings.silence()
    while (chunk := wire.read(connection)) is not None:
        worker.judge([Check(*each) for each in pickle.loads(chunk)])


class _Worker:
    """The tasks, and what their checks may take."""

    def __init__(self, setup: Setup, traces_fd: int, progress: Progress, connection: socket.socket) -> None:
        self._setup, self._traces_fd = setup, traces_fd
        self._progress, self._connection = progress, connection
        self._tasks: dict[str, Task] = {}
        self._pid = os.getpid()

    def tell(self, message: bytes) -> None:
        """Send it."""
        self._connection.sendall(wire.framed(message))

    def load(self) -> None:
        """Make the tasks, and tell what there is."""
        os.chdir(self._setup.folder)
        code.receive(self._setup.code)
        users: dict[str, str] = {}
        for name, spec in self._setup.tasks.items():
            self.tell(wire.words({"loads": name}))
            task = self._tasks[name] = loading.load(name, spec)
            loading.warm_up(name, task)
            if task.is_users:
                users[name] = loading.users_file(spec, task) or spec.place
        surroundings.silence()
        self._surroundings = surroundings.Surroundings()
        self._surroundings.restore()
        self._bytes_at_start = _address_space()
        folders = loading.folders(self._setup.tasks, self._setup.code)
        folders |= {str(Path(file).parent) for file in users.values()}
        self.tell(wire.words({"users": users, "folders": sorted(folders)}))

    def judge(self, checks: Sequence[Check]) -> None:
        """Judge checks in order, until all are done or they have taken long: the rest is others' by then."""
        # From where the process stands, so that what users' code keeps is not taken from the next check; one
        # that keeps much is replaced below.
        self._limit_memory()
        self._progress.next_chunk()
        untold: list[Outcome] = []
        started = told = time.monotonic()
        for place, check in enumerate(checks):
            # Again each time: a check may have put a handler of its own in the place of these.
            traces.write_to(self._traces_fd)
            self._progress.begin(place)
            untold.append(self._judge(check))
            if (now := time.monotonic()) - told > _TELL_S:
                self.tell(wire.outcomes(untold))
                told = now
                untold.clear()
            if now - started > CHUNK_S:
                break
        self.tell(wire.outcomes(untold))
        grown = _address_space() - self._bytes_at_start
        self.tell(wire.words({"spent": grown > self._setup.memory_limit_bytes}))

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
            needed = f"needed more than {self._setup.memory_limit_bytes / 2**20:.0f} MiB"
            return Failed("memory", verdicts.text(f"{needed}{where}"))
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
