"""No process outlives the command that started it, whenever that is stopped.

What a command starts inherits a variable of its environment, and so does what that starts in turn, also where
the process between them has ended: an engine's worker is found whose replica is gone, whoever its parent is
now. It costs nothing until the end, when all of this user's processes are looked through once or a few times.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

GRACE_S = 5.0
"""For processes that are about to end by themselves."""
_KILLED_S = 10.0
_POLL_S = 0.05
_TRACKER = "multiprocessing.resource_tracker"
"""Removes from /dev/shm what processes that were killed have left there, and ends when they have.
This process's own ends with this process.
"""


@contextmanager
def none_left(grace_s: float = GRACE_S) -> Iterator[Callable[[], None]]:
    """End all that was started inside the block and is there still, and what that has started.

    Args:
        grace_s: how long that may take to end by itself. Ctrl-C ends the wait.

    Yields:
        What ends all of it at once, for a process that will not come to the block's end.
    """
    mark = f"RLAD_BEGUN_{uuid.uuid4().hex}"
    os.environ[mark] = "1"
    # A process that gives itself a longer title writes it over its environment otherwise (setproctitle).
    os.environ["SPT_NOENV"] = "1"
    try:
        yield lambda: _kill(mark)
    finally:
        os.environ.pop(mark, None)
        try:
            _wait(mark, grace_s)
        finally:
            with _undisturbed():
                _kill(mark)


def begun_with(variable: str) -> list[psutil.Process]:
    """The processes that had this variable in their environment when they began, this one excepted."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has just ended, or is another user's
            if (
                process.pid != os.getpid()
                and variable in process.environ()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def _left(mark: str) -> list[psutil.Process]:
    own = psutil.Process().children()
    return [each for each in begun_with(mark) if not (each in own and _tracks(each))]


def _tracks(process: psutil.Process) -> bool:
    try:
        return _TRACKER in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def _wait(mark: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while _left(mark) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _kill(mark: str) -> None:
    deadline = time.monotonic() + _KILLED_S
    while (left := _left(mark)) and time.monotonic() < deadline:
        late = time.monotonic() > deadline - _KILLED_S / 2
        for process in left:
            if late or not _tracks(process):
                with suppress(psutil.Error):
                    process.kill()
        time.sleep(_POLL_S)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait; they are about to be obeyed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
