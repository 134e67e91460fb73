"""A command that is told to stop at a chosen moment, and what is left of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.base.leftovers import begun_with

LIMIT_S = 600.0


@dataclass(frozen=True)
class Started:
    """A command that runs. log: what it prints. mark: a variable in the environment of all its processes."""

    process: subprocess.Popen[bytes]
    log: Path
    mark: str

    def said(self, words: str) -> bool:
        """Whether it has printed this."""
        return words in self.log.read_text(errors="replace")

    def runs(self, title: str) -> bool:
        """Whether one of its processes has this in its title."""
        for each in begun_with(self.mark):
            with suppress(psutil.Error):
                if title in " ".join(each.cmdline()):
                    return True
        return False

    def has_open(self, file: str) -> bool:
        """Whether one of its processes has a file of such a name open."""
        for each in begun_with(self.mark):
            with suppress(OSError):
                for descriptor in Path(f"/proc/{each.pid}/fd").iterdir():
                    if file in os.readlink(descriptor):
                        return True
        return False


Stage = Callable[[Started], bool]


@dataclass(frozen=True)
class Stop:
    """signals: one after another, some seconds apart. to_all: to its process group, as a terminal does it."""

    signals: tuple[signal.Signals, ...]
    to_all: bool = False
    apart_s: float = 1.0


CTRL_C = Stop((signal.SIGINT,), to_all=True)
TERMINATE = Stop((signal.SIGTERM,))
TWICE = Stop((signal.SIGINT, signal.SIGINT), to_all=True)


def stopped_at(stage: Stage, stop: Stop, words: Sequence[str], log: Path, **environment: str) -> list[str]:
    """Start `rlad` with these words, stop it when the stage has come, and wait for its end.

    Returns:
        The titles of its processes that are there when it has ended.

    Raises:
        AssertionError: it ended before the stage came; or takes `LIMIT_S`.
    """
    mark = f"RLAD_STOPPED_{uuid.uuid4().hex}"
    told = {**os.environ, **environment, mark: "1", "SPT_NOENV": "1"}
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "services", *words],
            stdout=said,
            stderr=said,
            env=told,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    started = Started(process, log, mark)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not stage(started):
            assert process.poll() is None, f"it ended before: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        for number in stop.signals:
            with suppress(ProcessLookupError):
                (os.killpg if stop.to_all else os.kill)(process.pid, number)
            time.sleep(stop.apart_s)
        process.wait(LIMIT_S)
        return [f"{each.pid} {' '.join(each.cmdline())}" for each in begun_with(mark)]
    finally:
        for each in begun_with(mark):
            each.kill()
        process.kill()
        process.wait(60)
