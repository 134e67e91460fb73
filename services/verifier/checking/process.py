"""One worker process with a pipe of its own, so that it is always known what it was doing when it ended."""

import json
import os
import pickle
import signal
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

from services.verifier.checking import endings, loading, progress, traces, wire
from services.verifier.checking.forks import ForkServer
from services.verifier.checking.messages import Ready, Setup

START_LIMIT_S = 120.0
_END_LIMIT_S = 10.0
_STUCK_S = 60
_SAID_BYTES = 8192
_NANOSECONDS = 1e9


class WorkerProcess:
    """A process that judges. Making one, `why_it_ended` and `stop` block and belong into a thread.

    Args:
        forks: makes it.
        setup: what it judges by.

    Attributes:
        pid: its own.
        connection: not blocking; see `worker.serve` for what is said there.
        ready: what it said when it was.

    Raises:
        RuntimeError: it does not start; says why.
    """

    def __init__(self, forks: ForkServer, setup: Setup) -> None:
        self._forks, self._setup = forks, setup
        self._kills_for_memory = endings.kills_for_memory()
        self._is_gone = False
        self._code: int | None = None
        self.ready = Ready({}, loading.folders(setup.tasks, setup.code))
        try:
            self._fork()
        except OSError as error:
            raise RuntimeError(f"no worker process can be started: {endings.what_hinders(error)}") from error
        try:
            self.ready = self._until_ready()
        except BaseException:
            self.end()
            raise
        self.connection.setblocking(False)

    def _fork(self) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            # A process that neither reads nor ends must not keep this side for ever.
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                self.connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STUCK_S, 0))
            opened: list[int] = []
            try:
                self._errors, their_errors = os.pipe()
                opened += (self._errors, their_errors)
                self._traces = os.memfd_create("traces")
                opened.append(self._traces)
                self._progress = progress.make()
                opened.append(self._progress)
                self.pid = self._forks.fork([theirs.fileno(), their_errors, self._traces, self._progress])
            except BaseException:
                self.connection.close()
                for descriptor in opened:
                    os.close(descriptor)
                raise
            # Only the worker may hold its ends: else its death would not be noticed here.
            os.close(their_errors)

    def at(self) -> progress.At:
        """The check that it is at, or was at last."""
        return progress.read(self._progress)

    def waited_s(self) -> float:
        """For how long it has waited for a processor in all; 0 where the kernel does not say.

        The machine's being busy is not the check's fault.
        """
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / _NANOSECONDS
        except (OSError, ValueError, IndexError):
            return 0.0

    def kill(self) -> None:
        """End it now, with all that it started, whatever it does."""
        # As a group first; it is none yet in the first moment.
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """Kill it and clear it away; its exit code, if it can be had."""
        if not self._is_gone:
            self._is_gone = True
            # Before it is reaped: until then no other process can have its number.
            self.kill()
            self._code = self._forks.reap(self.pid, _END_LIMIT_S)
            self._release()
        return self._code

    def let_go(self) -> None:
        """Hold nothing of it any more; who forked it is gone, and so is it."""
        if not self._is_gone:
            self._is_gone = True
            self._release()

    def _release(self) -> None:
        self.connection.close()
        for descriptor in (self._errors, self._traces, self._progress):
            os.close(descriptor)

    def stop(self, task: str) -> str:
        """End it in the middle of a check of this task; where a user's code was, in brackets, or ""."""
        where = self._where_it_is(self.ready.users.get(task))
        self.end()
        return where

    def why_it_ended(self, task: str) -> str:
        """By what a process ended that was busy with a check of this task; clears it away."""
        return self._how_it_ended(self.ready.users.get(task))

    def _until_ready(self) -> Ready:
        """Raises RuntimeError: it failed, ended or was not ready in time."""
        name: str | None = None
        written = b""
        sources: list[Any] = [self.connection, self._errors]
        messages = wire.Messages()
        deadline = time.monotonic() + START_LIMIT_S
        try:
            self.connection.sendall(wire.framed(pickle.dumps(self._setup)))
            while (left := deadline - time.monotonic()) > 0 and (there := select(sources, [], [], left)[0]):
                if self._errors in there:
                    written = (written + (more := os.read(self._errors, _SAID_BYTES)))[-_SAID_BYTES:]
                    if not more:
                        sources.remove(self._errors)
                    continue
                if not (data := self.connection.recv(2**16)):
                    raise BrokenPipeError
                for message in messages.feed(data):
                    match json.loads(message):
                        case {"loads": str(loaded)}:
                            name = loaded
                        case {"why": str(why)}:
                            raise RuntimeError(why)
                        case {"users": dict(users), "folders": list(folders)}:
                            return Ready(users, frozenset(folders))
        except (OSError, ValueError):
            how = self._how_it_ended(self._file_of(name))
            raise RuntimeError(
                f"{_doing(name)}a worker process ended with {how}{endings.last_words(written)}"
            ) from None
        where = self._where_it_is(self._file_of(name))
        raise RuntimeError(
            f"{_doing(name)}a worker process was not ready within {START_LIMIT_S:.0f} s{where}"
        )

    def _file_of(self, task: str | None) -> str | None:
        """A user's file that is being loaded."""
        return None if task is None else loading.users_file(self._setup.tasks[task])

    def _where_it_is(self, users_file: str | None) -> str:
        """Where a user's code hangs, in brackets."""
        if users_file is None:
            return ""
        line = traces.where_it_is(self.pid, self._traces, self.ready.folders)
        return f" ({line or Path(users_file).name})"

    def _how_it_ended(self, users_file: str | None) -> str:
        """By what, and where in a user's code, in brackets; clears the process away."""
        line = traces.where_it_crashed(self._traces, self.ready.folders)
        how = endings.how_it_ended(self.end(), self._kills_for_memory)
        return how if users_file is None else f"{how} ({line or Path(users_file).name})"


def _doing(task: str | None) -> str:
    return "" if task is None else f"task {task!r}: while it was loaded, "
