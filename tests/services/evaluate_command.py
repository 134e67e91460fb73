"""`rlad evaluate` as a process of its own, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.report.answers import kept_in

LIMIT_S = 400


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """In a process group of its own, which Ctrl-C is sent to as a whole."""
    return subprocess.Popen(
        [sys.executable, "-m", "services", "evaluate", *arguments],
        cwd=home,
        env={**os.environ, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Tests that are started in the background pass on that they ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it printed; it ends with this exit code."""
    printed, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, printed[-4000:]
    return printed


def evaluate(home: Path, *arguments: str, code: int = 0) -> str:
    """Carried out to its end."""
    return finish(start(home, *arguments), code)


def answers(folder: Path) -> dict[tuple[str, str, int], str]:
    """The responses that are kept, by prompt, subset and sample."""
    kept = kept_in(folder)
    if not kept:
        return {}
    table = kept[0].read()
    names = ("prompt_id", "subset", "sample_index", "response")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return {(prompt, subset, sample): response for prompt, subset, sample, response in rows}


def wait_for_answers(process: subprocess.Popen[str], home: Path) -> Path:
    """The folder of the only model, once something is kept in it."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := list(home.glob("evaluations/*/parts/*.parquet"))):
        assert process.poll() is None, finish(process, -1)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found[0].parents[1]
