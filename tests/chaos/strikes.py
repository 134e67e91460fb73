"""Faults as they are done to processes and surroundings."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.chaos.faults import ELSEWHERE, PROCESSES, TO_A_PROCESS, Fault
from tests.chaos.surroundings import Surroundings


class Strikes:
    """Done one after another; those that pass do so by themselves, or with `undo`."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._passing: list[tuple[threading.Timer, Callable[[], None]]] = []

    def strike(self, fault: Fault, driver: int) -> bool:
        """Do it; False where the run has no such process just now."""
        if fault.kind not in TO_A_PROCESS:
            self._around.begin(fault.kind)
            self._passes(fault, lambda: self._around.end(fault.kind))
            return True
        elsewhere = self._around.teacher if fault.part in ELSEWHERE else None
        found = _processes(fault.part, driver if elsewhere is None else elsewhere.pid)
        if not found:
            return False
        process = found[0]
        with suppress(psutil.NoSuchProcess):
            if fault.kind == "kill":
                process.kill()
            elif fault.kind == "stop":
                process.send_signal(signal.SIGSTOP)
                self._passes(fault, lambda: process.send_signal(signal.SIGCONT))
            else:
                # All that it asks of the kernel from now on is refused.
                soft, hard = process.rlimit(psutil.RLIMIT_AS)
                process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms, hard))
                self._passes(fault, lambda: process.rlimit(psutil.RLIMIT_AS, (soft, hard)))
        return True

    def undo(self) -> None:
        """Have all pass now."""
        for timer, end in self._passing:
            timer.cancel()
            with suppress(psutil.NoSuchProcess):
                end()
        self._passing.clear()

    def _passes(self, fault: Fault, end: Callable[[], None]) -> None:
        def passed() -> None:
            with suppress(psutil.NoSuchProcess):
                end()

        timer = threading.Timer(fault.lasts_s, passed)
        timer.daemon = True
        timer.start()
        self._passing.append((timer, passed))


def _processes(part: str, root: int) -> list[psutil.Process]:
    """Below this one, which is the driver or a server, or itself."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(root)
        if not PROCESSES[part]:
            return [first]
        return [each for each in first.children(recursive=True) if PROCESSES[part] in _command(each)]
    return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
