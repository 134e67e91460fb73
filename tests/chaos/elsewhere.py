"""A teacher that is not the run's own: `rlad serve teacher` with a stub as its engine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.base.ports import free_port
from tests.chaos.sessions import end_session

_UP_S = 180.0
_LOOK_S = 0.5


class ServedTeacher:
    """Its server, on one port; where that has ended it is started anew, until `close`.

    Args:
        log: what it prints.
        environment: of its processes.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._log, self._environment = log, dict(environment)
        self._servers = [self._started()]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="teacher elsewhere", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._servers[-1].pid

    def answers(self) -> bool:
        """Whether it can be asked."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        """End it, and what earlier servers have left."""
        self._closed.set()
        self._thread.join()
        for server in self._servers:
            end_session(server)

    def _keep_up(self) -> None:
        while not self._closed.wait(_LOOK_S):
            if self._servers[-1].poll() is not None:  # also where the last one still had the port
                self._servers.append(self._started())

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "services", "serve", "teacher", "--model", "rlad:kk-teacher"]
        with self._log.open("a") as said:
            return subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=said,
                stderr=said,
                env=self._environment,
                start_new_session=True,
            )


@contextmanager
def served_teacher(log: Path, environment: Mapping[str, str]) -> Iterator[ServedTeacher]:
    """One that answers when the block begins."""
    teacher = ServedTeacher(log, environment)
    try:
        deadline = time.monotonic() + _UP_S
        while not teacher.answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the teacher does not start: {log.read_text()[-2000:]}")
            time.sleep(_LOOK_S)
        yield teacher
    finally:
        teacher.close()
