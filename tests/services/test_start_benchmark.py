"""What the benchmark of a start measures, of a program that starts as a service does."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import start

SERVICE = """
import http.server, sys, threading, time

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if is_up.is_set() and self.path.endswith("/readyz") else 503)
        self.end_headers()

is_up = threading.Event()
print("waiting for", sys.argv[1:], flush=True)
threading.Timer(0.5, is_up.set).start()
try:
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Ready).serve_forever()
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.fixture
def stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the command `rlad`."""
    begin = subprocess.Popen

    def instead(command: list[str], **options: object) -> subprocess.Popen[str]:
        assert command[1:3] == ["-m", "services"]
        return begin([sys.executable, "-c", SERVICE, *command[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(start.subprocess, "Popen", instead)


@pytest.mark.parametrize("service", ["teacher", "all"])
def test_a_service_is_there_when_it_says_that_it_is_ready(stands_in: None, service: str) -> None:
    console = Console(record=True, width=140)
    found = start.service_started(service, console)
    assert found.seconds >= 0.5
    said = console.export_text()
    assert "s  stopped" in said
    assert "s  waiting for ['serve', " in said
    assert ("--model" in said) == (service == "teacher")
    assert sum(count for count, _ in found.cpu.values()) == 1


def test_what_ends_before_it_is_there_is_a_failure() -> None:
    stopped: list[int] = []
    with pytest.raises(typer.Exit):
        start.measure([sys.executable, "-c", "exit(3)"], lambda: False, stopped.append, Console(quiet=True))
    assert not stopped


def test_an_unknown_service_is_refused() -> None:
    app = typer.Typer()
    app.command()(start.main)
    assert CliRunner().invoke(app, ["--serve", "learner"]).exit_code == 2


def test_time_of_processes_that_have_ended_counts() -> None:
    spins = "import time\nwhile time.process_time() < 1: pass"
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {spins!r}])\ninput()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    try:
        watched = start.Watched(psutil.Process(process.pid))
        deadline = time.monotonic() + 60
        children: list[psutil.Process] = []
        while not children or any(child.is_running() for child in children):
            assert time.monotonic() < deadline
            children = children or psutil.Process(process.pid).children()
            watched.look()
            time.sleep(0.01)
        assert sum(seconds for _, seconds in watched.seconds.values()) >= 0.9
    finally:
        process.kill()
        process.communicate()


def test_a_step_is_done_when_its_line_is_whole(tmp_path: Path) -> None:
    steps = tmp_path / "metrics.jsonl"
    assert not start._first(steps)
    for written, is_done in (
        ("", False),
        ('{"step": 0, "seco', False),
        ('{"step": 0, "seconds": {}}\n{', True),
    ):
        steps.write_text(written)
        assert start._first(steps) == is_done
