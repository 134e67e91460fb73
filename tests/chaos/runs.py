"""A run with faults, from its start to its end, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import recipe
from tests.chaos.faults import Fault, strike

STUBS = Path(__file__).parent / "stubs"
LIMIT_S = 240.0
"""For the next step, or the end: whatever takes longer waits without a limit."""
_ENDED_S = 60.0


class HarmError(AssertionError):
    """A run did what it must not."""


@dataclass
class Left:
    """What a run left.

    weights: SHA-256 of the exported model. ledger: all rows. told: of each fault, what became of it. starts:
    how often a person, or a scheduler, had to start it.
    """

    weights: str
    ledger: list[tuple[Any, ...]]
    told: list[tuple[Fault, str]] = field(default_factory=list)
    starts: int = 1


def carry_out(folder: Path, name: str, steps: int, faults: Sequence[Fault] = ()) -> Left:
    """Start a run, strike, start it again where it ended, until it is through.

    Raises:
        HarmError: it waits without a limit, or ends without saying why.
    """
    file, run_dir, log = recipe.write(folder, name, steps), folder / "runs" / name, folder / f"{name}.log"
    left, waiting = Left("", []), list(faults)
    process = _start(file, log)
    try:
        while (code := _next(process, run_dir, waiting)) != 0:
            if code is None:
                fault = waiting.pop(0)
                time.sleep(fault.delay_s)
                left.told.append((fault, _struck(fault, process, log)))
            if process.poll() not in (None, 0):
                _end_what_is_left(process)
                left.starts += 1
                if left.starts > 2 * len(faults) + 2:
                    raise HarmError(f"it ends again and again: {_said(log)}")
                process = _start(file, log)
    finally:
        _end_what_is_left(process)
    left.weights = hashlib.sha256((run_dir / "export" / "model.safetensors").read_bytes()).hexdigest()
    with sqlite3.connect(run_dir / "ledger.sqlite") as ledger:
        left.ledger = ledger.execute("SELECT * FROM visits ORDER BY step, position").fetchall()
    return left


def _start(file: Path, log: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, (str(STUBS), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "services", "run", str(file), "--restartable"]
    with log.open("a") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
        )


def _next(process: subprocess.Popen[bytes], run_dir: Path, waiting: Sequence[Fault]) -> int | None:
    """Wait for the next fault's turn (None), or the run's end (its exit code)."""
    done, deadline = -1, time.monotonic() + LIMIT_S
    while True:
        if (code := process.poll()) is not None:
            return code
        if (steps := _steps(run_dir)) != done:
            done, deadline = steps, time.monotonic() + LIMIT_S
        if waiting and steps >= waiting[0].step:
            return None
        if time.monotonic() > deadline:
            raise HarmError(f"nothing happened for {LIMIT_S:g} s after step {done}")
        time.sleep(0.2)


def _struck(fault: Fault, process: subprocess.Popen[bytes], log: Path) -> str:
    """What became of the run within a while."""
    if not strike(fault, process.pid):
        return "there was no such process"
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(_ENDED_S if fault.kind == "kill" else 1.0)
        if fault.part == "driver":
            return "--restartable goes on from the last checkpoint"
        return "the run was at its end" if code == 0 else f"stopped, and --restartable goes on: {_said(log)}"
    return "the run went on by itself"


def _said(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("failed")]
    return lines[-1][:200] if lines else "(nothing)"


def _steps(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    rows = file.read_bytes().splitlines() if file.is_file() else []
    with suppress(ValueError, IndexError):
        return int(json.loads(rows[-1])["version"])
    return 0


def _end_what_is_left(process: subprocess.Popen[bytes]) -> None:
    """The driver if it lives, and what it started: all of one session."""
    group = [each for each in psutil.process_iter(["pid"]) if _session(each.pid) == process.pid]
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDED_S)
    _, alive = psutil.wait_procs(group, timeout=20)
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGKILL)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1
