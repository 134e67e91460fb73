"""A run is killed, and loses its engine: it goes on, each group trained on once.

Its teacher is a stock vLLM server, which says the same of the first batch as one of the run's own. What it
recorded leads to the same weights once more, without engine, teacher or fault.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runs import (
    STEPS,
    check_every_group_once,
    check_same_scores,
    check_same_weights,
    finish,
    kill_engine,
    learn_again,
    rows,
    start,
    wait_during,
)
from services.learner.checkpoint import STATE_FILE

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]


def leave_uncounted_checkpoint(run_dir: Path) -> None:
    """What a kill leaves that comes while a checkpoint is written: all of it but the state file."""
    newest = max(run_dir.glob(f"checkpoint_*/{STATE_FILE}")).parent
    later = shutil.copytree(newest, run_dir / "checkpoint_000003")
    (later / STATE_FILE).unlink()


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
    finished_run: tuple[Path, str],
    stock_server: str,
    tmp_path: Path,
    ended_afterwards: list[subprocess.Popen[str]],
) -> None:
    run_dir = tmp_path / "wounded"
    teacher = f"teacher={{kind: openai, url: '{stock_server}', model: kk}}"

    def done() -> list[dict[str, Any]]:
        return rows(run_dir / "metrics.jsonl")

    def wait_until(condition: Callable[[], bool], what: str) -> None:
        wait_during(process, run_dir, condition, what)

    def begin(*more: str) -> subprocess.Popen[str]:
        keep = ("--set", "telemetry.keep_experience=all")
        ended_afterwards.append(start(run_dir, "--set", teacher, *keep, *more))
        return ended_afterwards[-1]

    # Killed after step 3, the last checkpoint holds two: one step's work is lost and done again.
    process = begin()
    wait_until(lambda: len(done()) >= 3, "three steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    before = done()
    assert len(before) < STEPS
    leave_uncounted_checkpoint(run_dir)

    # The rollout service loses its engine in the middle of a step: it comes back, and the run waits for it.
    process = begin("--resume")
    wait_until(lambda: len(done()) >= 3 and done()[2] != before[2], "the third step, done again")
    kill_engine(process.pid)
    finish(process, run_dir)
    check_every_group_once(run_dir)
    check_same_scores(run_dir, finished_run[0])
    check_same_weights(run_dir, learn_again(run_dir, "again"))
