"""One worker process with a pipe of its own, so that it is always known what it was doing when it ended."""

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from services.verifier.checking import loading, traces
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.messages import Check, ChunkOutcomes, Failed, Outcome, Ready, Setup

START_LIMIT_S = 120.0
_END_LIMIT_S = 10.0
_STUCK_S = 60
_SAID_BYTES = 8192


@dataclass
class _Running:
    """A process, and what this side holds of it.

    errors: what it writes to standard error until it is ready.
    traces: see `traces`.
    """

    pid: int
    connection: Connection
    errors: int
    traces: int
    ready: Ready


class WorkerProcess:
    """Judges chunks of checks, one at a time; killed when one takes too long, and started again when needed.

    `ask` blocks and belongs into a thread. `kill` may be called from another one meanwhile.

    Attributes:
        ready: what the process said when it was, or the last one did.
    """

    def __init__(self, forks: ForkServer, setup: Setup) -> None:
        self._forks, self._setup = forks, setup
        self._running: _Running | None = None
        self._lock = threading.Lock()
        self.ready: Ready | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._running is None else self._running.pid

    def ask(self, checks: Sequence[Check], soft_limit_s: float, limit_s: float) -> list[Outcome] | Failed:
        """What the worker says about the first of these checks, or how it ended instead.

        Args:
            soft_limit_s: see `worker.serve`.
            limit_s: time after which it is killed.

        Raises:
            RuntimeError: the process does not start; says why.
        """
        running = self._running or self._start()
        # Of several it is not known which one it was; they are asked again one by one.
        users_file = running.ready.users.get(checks[0].task) if len(checks) == 1 else None
        try:
            running.connection.send((checks, soft_limit_s))
            if running.connection.poll(limit_s):
                judged: ChunkOutcomes = running.connection.recv()
                if judged.spent:
                    self.end()
                return judged.outcomes
        except (EOFError, OSError):  # the process is gone, or its end of the pipe while it was written to
            return Failed("crash", f"ended its process with {self._how_it_ended(running, users_file)}")
        where = self._where_it_is(running, users_file)
        self.end()
        return Failed("time", f"took longer than {limit_s:g} s and was stopped{where}")

    def kill(self) -> None:
        """End the process now, whatever it does; `ask` clears it away."""
        with self._lock:
            if self._running is not None:
                _kill(self._running.pid)

    def end(self) -> int | None:
        """End the process, with all that it started, and clear it away; its exit code if it can be had.

        Not while `ask` is under way.
        """
        with self._lock:
            if (running := self._running) is None:
                return None
            # Before it is reaped: until then no other process can have its number.
            _kill(running.pid)
            code = self._forks.reap(running.pid, _END_LIMIT_S)
            self._running = None
        running.connection.close()
        os.close(running.errors)
        os.close(running.traces)
        return code

    def _start(self) -> _Running:
        """Raises RuntimeError: see `ask`."""
        ours, theirs = socket.socketpair()
        # A process that neither reads nor ends must not keep this side for ever.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STUCK_S, 0))
        errors, their_errors = os.pipe()
        written = os.memfd_create("traces")
        try:
            pid = self._forks.fork([theirs.fileno(), their_errors, written])
        except BaseException:
            ours.close()
            os.close(errors)
            os.close(written)
            raise
        finally:
            # Only the worker may hold its ends: else its death would not be noticed here.
            theirs.close()
            os.close(their_errors)
        folders = loading.folders(self._setup.tasks, self._setup.code)
        running = _Running(pid, Connection(ours.detach()), errors, written, Ready({}, folders))
        with self._lock:
            self._running = running
        try:
            running.ready = self.ready = self._until_ready(running)
        except BaseException:
            self.end()
            raise
        return running

    def _until_ready(self, running: _Running) -> Ready:
        """Raises RuntimeError: it failed, ended or was not ready in time."""
        name: str | None = None
        said = b""
        sources: list[Any] = [running.connection, running.errors]
        deadline = time.monotonic() + START_LIMIT_S
        try:
            running.connection.send(self._setup)
            while there := wait(sources, max(0.0, deadline - time.monotonic())):
                if running.errors in there:
                    said = (said + (more := os.read(running.errors, _SAID_BYTES)))[-_SAID_BYTES:]
                    if not more:
                        sources.remove(running.errors)
                elif isinstance(message := running.connection.recv(), Ready):
                    return message
                elif isinstance(message, Failed):
                    raise RuntimeError(message.why)
                else:
                    name = message
        except (EOFError, OSError):
            how = self._how_it_ended(running, self._file_of(name))
            words = said.decode("utf-8", "replace").split("\n")
            last = next(
                (f"; its last words were: {line.strip()}" for line in reversed(words) if line.strip()), ""
            )
            raise RuntimeError(f"{_doing(name)}a worker process ended with {how}{last}") from None
        where = self._where_it_is(running, self._file_of(name))
        raise RuntimeError(
            f"{_doing(name)}a worker process was not ready within {START_LIMIT_S:.0f} s{where}"
        )

    def _file_of(self, task: str | None) -> str | None:
        """A user's file that is being loaded."""
        return None if task is None else loading.users_file(self._setup.tasks[task])

    def _where_it_is(self, running: _Running, users_file: str | None) -> str:
        """Where a user's code hangs, in brackets."""
        if users_file is None:
            return ""
        line = traces.where_it_is(running.pid, running.traces, running.ready.folders)
        return f" ({line or Path(users_file).name})"

    def _how_it_ended(self, running: _Running, users_file: str | None) -> str:
        """By what, and where in a user's code, in brackets; clears the process away."""
        line = traces.where_it_crashed(running.traces, running.ready.folders)
        code = self.end()
        how = "an unknown exit code" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        return how if users_file is None else f"{how} ({line or Path(users_file).name})"


def _doing(task: str | None) -> str:
    return "" if task is None else f"task {task!r}: while it was loaded, "


def _kill(pid: int) -> None:
    # As a group first; it is none yet in the first moment.
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
