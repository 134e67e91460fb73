"""A run with two ranks is killed, and loses processes: it goes on, each group trained on once."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runs import STEPS, check_every_group_once, finish, rows, start, wait_for
from services.learner import STATE_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def kill_part(run: int, title: str) -> None:
    """Kill -9 the one process of a run whose title has this in it."""
    titles: dict[psutil.Process, str] = {}
    for process in psutil.Process(run).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            titles[process] = " ".join(process.cmdline())
    found = [process for process, its in titles.items() if title in its]
    assert len(found) == 1, titles
    found[0].kill()


def leave_uncounted_checkpoint(run_dir: Path) -> None:
    """What a kill leaves that comes after a checkpoint's upload and before Ray Train has taken note of it."""
    newest = max(run_dir.glob(f"checkpoint_*/{STATE_FILE}")).parent
    state = json.loads((newest / STATE_FILE).read_text())
    later = shutil.copytree(newest, run_dir / "checkpoint_9999-12-31_23-59-59.000000")
    frontier = {"next_position": state["frontier"]["next_position"] + 6, "alive": []}
    (later / STATE_FILE).write_text(json.dumps(state | {"step": state["step"] + 1, "frontier": frontier}))


@pytest.fixture
def ended_afterwards() -> Iterator[list[subprocess.Popen[str]]]:
    """Runs that a failed test must not leave behind."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.wait(120)


def test_a_killed_and_wounded_run_trains_on_every_group_once(
    tmp_path: Path, ended_afterwards: list[subprocess.Popen[str]]
) -> None:
    run_dir = tmp_path / "wounded"

    def done() -> list[dict[str, Any]]:
        return rows(run_dir / "metrics.jsonl")

    def wait_until(condition: Callable[[], bool], what: str) -> None:
        wait_for(lambda: process.poll() is not None or condition(), what)
        assert process.poll() is None, (tmp_path / "wounded.log").read_text()[-4000:]

    def begin(*more: str) -> subprocess.Popen[str]:
        ended_afterwards.append(start(run_dir, "--set", "learner.workers=2", *more))
        return ended_afterwards[-1]

    # Killed after step 3, the last checkpoint holds two: one step's work is lost and done again.
    process = begin()
    wait_until(lambda: len(done()) >= 3, "three steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    before = done()
    assert len(before) < STEPS
    leave_uncounted_checkpoint(run_dir)

    # Its services lose a process each in the middle of a step: they come back, and the run waits for them.
    process = begin("--resume")
    wait_until(lambda: len(done()) >= 3 and done()[2] != before[2], "the third step, done again")
    kill_part(process.pid, "VLLM::EngineCore")
    kill_part(process.pid, "ServeReplica:wounded-teacher:")
    finish(process, run_dir)
    check_every_group_once(run_dir)
