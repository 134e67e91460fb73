"""What a check finds around it in a worker process, put back after each one."""

import os
import signal
import sys
from contextlib import suppress
from typing import TextIO, cast

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def silence() -> None:
    """Nothing to read, and what is printed goes nowhere, in Python and below."""
    null = os.open(os.devnull, os.O_RDWR)
    for place in range(3):
        os.dup2(null, place)
    if null > 2:
        os.close(null)


def open_streams() -> None:
    """Python's standard streams, on the descriptors as they are now. Printing any text works."""
    for place, (name, mode) in enumerate(_STREAMS.items()):
        setattr(sys, name, _stream(place, mode))


class Surroundings:
    """The process as it is when this is made; `restore` undoes what a check left behind.

    Without it a timer that a check set would end one of the next, and what it closed they could not use.
    What users' modules keep in their own variables is theirs.
    """

    def __init__(self) -> None:
        self._folder = os.getcwd()
        self._null = os.stat(os.devnull).st_rdev
        self._streams: dict[str, TextIO] = {name: getattr(sys, name) for name in _STREAMS}
        self._recursion_limit = sys.getrecursionlimit()

    def restore(self) -> None:
        """Stop timers; standard streams, current folder and the limit of recursion as they were."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0.0)
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if not all(map(self._is_null, range(3))):
            silence()
        for place, (name, mode) in enumerate(_STREAMS.items()):
            if not _is_open(self._streams[name]):
                self._streams[name] = _stream(place, mode)
            setattr(sys, name, self._streams[name])
        with suppress(OSError):  # where the folder itself is gone, nobody can go back
            os.chdir(self._folder)

    def _is_null(self, descriptor: int) -> bool:
        try:
            return os.fstat(descriptor).st_rdev == self._null
        except OSError:
            return False


def _stream(descriptor: int, mode: str) -> TextIO:
    lines = 1 if descriptor == 2 else -1
    stream = open(descriptor, mode, lines, "utf-8", "replace", closefd=False)  # noqa: SIM115 - stays open
    return cast(TextIO, stream)


def _is_open(stream: TextIO) -> bool:
    try:
        return not getattr(stream, "closed", False)
    except ValueError:  # detached
        return False
