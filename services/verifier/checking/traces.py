"""Where a worker process hung or crashed, from what `faulthandler` wrote in its last moment."""

import faulthandler
import os
import re
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)
_FATAL = "Fatal Python error"
_ASK = signal.SIGUSR1
_WAIT_S = 1.0


def write_to(descriptor: int) -> None:
    """In a worker: write the main thread's frames there on a crash, and when `where_it_is` asks.

    Both happen in C, whatever Python or an extension is busy with.
    """
    # It would not put its handlers back in their places while it thinks that they are there.
    faulthandler.disable()
    faulthandler.unregister(_ASK)
    faulthandler.enable(descriptor, all_threads=False)
    faulthandler.register(_ASK, descriptor, all_threads=False, chain=False)


def where_it_is(pid: int, descriptor: int, folders: Collection[str]) -> str | None:
    """Ask a running worker for the line of a user's file that it is in; None: it does not say."""
    before = os.fstat(descriptor).st_size
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, _ASK)
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        if found := innermost(_read(descriptor, before), folders):
            return found
        time.sleep(0.005)
    return None


def where_it_crashed(descriptor: int, folders: Collection[str]) -> str | None:
    """The line of a user's file in which the process got a fatal signal; None: there is none."""
    written = _read(descriptor, 0)
    return innermost(written[written.rfind(_FATAL) :], folders) if _FATAL in written else None


def innermost(written: str, folders: Collection[str]) -> str | None:
    """The first frame in a file of these folders, as ``reward.py, line 12``."""
    shown = {_shown(folder) for folder in folders}
    for path, line in _FRAME.findall(written):
        if str(Path(path).parent) in shown:
            return f"{Path(path).name}, line {line}"
    return None


def _shown(path: str) -> str:
    """A path as faulthandler writes it."""
    return path.encode("ascii", "backslashreplace").decode()


def _read(descriptor: int, start: int) -> str:
    return os.pread(descriptor, 2**20, start).decode("ascii", "replace")
