"""The same training with our teacher service elsewhere: the same log-probs, and no harm from its death.

In the end the run is stopped by Ctrl-C.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from runs import STEPS, check_same_scores, finish, rows, start, wait_during, wait_for
from services.base.ports import free_port
from services.learner.checkpoint import STATE_FILE

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


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

    port = free_port()
    server = serve_teacher(port, tmp_path / "teacher.log")
    try:
        teacher = f"teacher={{kind: http, url: 'http://127.0.0.1:{port}'}}"
        run = start(run_dir, "--set", teacher)

        def wait_for_steps(count: int) -> None:
            wait_during(run, run_dir, lambda: done() >= count, f"{count} steps")

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
