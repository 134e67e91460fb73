"""The same training with the teacher elsewhere: the same log-probs, and no harm from a teacher that dies.

The run that outlives its teacher is then stopped by Ctrl-C.
"""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from rlad_core import schema
from runs import STEPS, finish, rows, start, wait_for
from services.learner import STATE_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TOLERANCE = 1e-4


def first_step(run_dir: Path) -> dict[tuple[Any, ...], list[float]]:
    """Teacher log-probs by prompt and response of what the first step trained on."""
    table = schema.from_ipc(sorted((run_dir / "experience").iterdir())[0].read_bytes())
    return {
        (*row["prompt_token_ids"], None, *row["response_token_ids"]): row["teacher_logprobs"]
        for row in table.to_pylist()
    }


def check_same_scores(run_dir: Path, other: Path) -> None:
    """Both runs trained on the same first batch, and their teachers said the same of it."""
    ours, theirs = first_step(run_dir), first_step(other)
    assert ours.keys() == theirs.keys()
    for sequence, logprobs in ours.items():
        np.testing.assert_allclose(logprobs, theirs[sequence], atol=TOLERANCE, rtol=0)


def test_a_stock_server_teaches_the_same(
    finished_run: tuple[Path, str], stock_server: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "stock"
    teacher = f"teacher={{kind: openai, url: '{stock_server}', model: kk}}"
    finish(start(run_dir, "--set", teacher, "--set", "stages.0.steps=1"), run_dir)
    check_same_scores(run_dir, finished_run[0])


def serve_teacher(port: int, log: Path) -> subprocess.Popen[bytes]:
    """`rlad serve teacher`, once it answers."""
    command = [sys.executable, "-m", "services", "serve", "teacher", "--model", "rlad:kk-teacher"]
    with log.open("ab") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10).is_success
        except httpx.TransportError:
            return False

    wait_for(ready, "the teacher's answer")
    return process


def test_a_run_outlives_its_remote_teacher_and_stops_when_told(
    finished_run: tuple[Path, str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "remote"

    def done() -> int:
        return len(rows(run_dir / "metrics.jsonl"))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve_teacher(port, tmp_path / "teacher.log")
    try:
        teacher = f"teacher={{kind: http, url: 'http://127.0.0.1:{port}'}}"
        run = start(run_dir, "--set", teacher)

        def wait_for_steps(count: int) -> None:
            wait_for(lambda: run.poll() is not None or done() >= count, f"{count} steps")
            assert run.poll() is None, (tmp_path / "remote.log").read_text()[-4000:]

        wait_for_steps(1)
        server.kill()
        server.wait(60)
        server = serve_teacher(port, tmp_path / "teacher.log")
        wait_for_steps(3)

        # Ctrl-C: the step is finished, the way to continue is told, and nobody takes the run for done.
        run.send_signal(signal.SIGINT)
        assert "--resume" in finish(run, run_dir, code=1)
    finally:
        server.kill()
        server.wait(60)
    assert 3 <= done() < STEPS
    assert [row["step"] for row in rows(run_dir / "metrics.jsonl")] == list(range(done()))
    newest = max(run_dir.glob(f"checkpoint_*/{STATE_FILE}"))
    assert json.loads(newest.read_text())["step"] == done()
    check_same_scores(run_dir, finished_run[0])
