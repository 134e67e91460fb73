"""Processes that are started to go wrong, and all of what they started, ended in the end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.prometheus.fire.watching import REPORTING, StartError

START_S = 600.0
_END_S = 20.0


@contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, of which nothing is left after the block."""
    with log.open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, **REPORTING}, start_new_session=True
        )
    try:
        yield process
    finally:
        left = [each for each in psutil.process_iter() if _session(each.pid) == process.pid]
        for each in left:  # what was stopped does not hear that it shall end
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)
        process.terminate()
        _, alive = psutil.wait_procs(left, timeout=_END_S)
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(_END_S)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def named(title: str, driver: int) -> list[psutil.Process]:
    """Processes below `driver` that have this in their command line."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT after the block."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def wait(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises StartError, with the end of the log, if it doesn't come."""
    deadline = time.monotonic() + START_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"{what} did not come; {log} ends with\n{log.read_text()[-2000:]}")
        time.sleep(0.2)
