"""What is done to a run, and to which of its processes."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

#: Part of the run -> what its process is called; the driver itself has no title.
TITLES = {
    "driver": "",
    "collector": "ray::ExperienceCollector",
    "journal": "ray::Journal",
    "learner rank": "ray::RayTrainWorker",
    "rollout replica": "rollout:RolloutService",
    "teacher replica": "teacher:TeacherService",
    "verifier replica": "verifier:VerifierService",
    "proxy": "ray::ProxyActor",
    "raylet": "raylet/raylet",
}
STOPPED_S = 3.0


@dataclass(frozen=True)
class Fault:
    """kind: kill (-9) or stop (SIGSTOP for some seconds). part: of `TITLES`. step: after which it comes, and
    delay_s: how long after that.
    """

    kind: str
    part: str
    step: int
    delay_s: float

    def __str__(self) -> str:
        return f"{'kill -9' if self.kind == 'kill' else f'SIGSTOP, {STOPPED_S:g} s'}: {self.part}"


def drawn(count: int, seed: int, steps: int, parts: Sequence[str]) -> list[Fault]:
    """So many faults in the order in which they come, the same for the same seed."""
    draw = random.Random(seed)
    faults = [
        Fault(
            kind=draw.choice(("kill", "kill", "stop")),
            part=draw.choice(list(parts)),
            step=draw.randrange(steps),
            delay_s=draw.uniform(0, 2),
        )
        for _ in range(count)
    ]
    return sorted(faults, key=lambda fault: fault.step)


def strike(fault: Fault, driver: int) -> bool:
    """Do it; False where the run has no such process just now."""
    found = [psutil.Process(driver)] if fault.part == "driver" else _named(TITLES[fault.part], driver)
    if not found:
        return False
    with suppress(psutil.NoSuchProcess):
        if fault.kind == "kill":
            found[0].kill()
        else:
            found[0].send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            found[0].send_signal(signal.SIGCONT)
    return True


def _named(title: str, driver: int) -> list[psutil.Process]:
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    found.append(process)
    return found
