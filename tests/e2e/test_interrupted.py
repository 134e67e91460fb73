"""Runs that are stopped, killed, or lose a process: they go on, each group trained on once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from runs import STEPS, check_every_group_once, finish, rows, start, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def kill_part(run: int, title: str) -> None:
    """Kill -9 the one process of a run whose title has this in it."""
    found = [
        process
        for process in psutil.Process(run).children(recursive=True)
        if title in " ".join(process.cmdline())
    ]
    assert len(found) == 1, [process.cmdline() for process in psutil.Process(run).children(recursive=True)]
    found[0].kill()


def test_a_stopped_killed_and_wounded_run_trains_on_every_group_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "wounded"

    def done() -> list[dict[str, Any]]:
        return rows(run_dir / "metrics.jsonl")

    def wait_until(condition: Callable[[], bool], what: str) -> None:
        wait_for(lambda: process.poll() is not None or condition(), what)
        assert process.poll() is None, (tmp_path / "wounded.log").read_text()[-4000:]

    # Ctrl-C: the step is finished, and the way to continue is told.
    process = start(run_dir)
    wait_until(lambda: len(done()) >= 1, "the first step")
    process.send_signal(signal.SIGINT)
    assert "--resume" in finish(process, run_dir)
    assert 1 <= len(done()) < STEPS

    # Killed after step 3, the last checkpoint holds two: one step's work is lost and done again.
    process = start(run_dir, "--resume")
    wait_until(lambda: len(done()) >= 3, "three steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    before = done()
    assert len(before) < STEPS

    # Its services lose a process each in the middle of a step: they come back, and the run waits for them.
    process = start(run_dir, "--resume")
    wait_until(lambda: len(done()) >= 3 and done()[2] != before[2], "the third step, done again")
    kill_part(process.pid, "VLLM::EngineCore")
    kill_part(process.pid, "ServeReplica:wounded-teacher:")
    finish(process, run_dir)
    check_every_group_once(run_dir)
