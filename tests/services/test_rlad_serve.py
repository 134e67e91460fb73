"""`rlad serve` as a process: what it says, whom it lets in, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from services.serve.http.auth import is_loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SEQUENCE = {"prompt_token_ids": [5, 6], "response_token_ids": [7] * 200}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services", "serve", *arguments]


@contextmanager
def serving(log: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, once it says that it serves, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*arguments, "--port", str(port)),
            env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 200
        while "documentation" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def check_only_loopback_listens(process: subprocess.Popen[bytes]) -> None:
    """Ray's own ports ask for no token."""
    server = psutil.Process(process.pid)
    pids = {server.pid, *(child.pid for child in server.children(recursive=True))}
    hosts = {each.laddr.ip for each in psutil.net_connections("inet") if each.pid in pids and not each.raddr}
    assert hosts, "nothing listens"
    assert all(is_loopback(host) for host in hosts), hosts


def test_tokens_keep_others_out_and_sigterm_finishes_what_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ("teacher", "--model", "rlad:kk-teacher", "--set", "drain_timeout_s=250")
    with serving(log, *arguments, RLAD_API_TOKENS="one,two") as (process, url):
        assert "callers with a token" in log.read_text()
        check_only_loopback_listens(process)
        body = {"sequences": [SEQUENCE]}
        assert httpx.post(f"{url}/v1/score", json=body).status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200
        allowed = {"Authorization": "Bearer two"}
        assert httpx.post(f"{url}/v1/score", json=body, headers=allowed, timeout=60).status_code == 200

        # A request whose second half is sent only when others are refused: in work for as long as it takes.
        begun, refused = threading.Event(), threading.Event()
        text = json.dumps(body).encode()

        def halves() -> Iterator[bytes]:
            yield text[:20]
            begun.set()
            refused.wait(120)
            yield text[20:]

        answers: list[httpx.Response] = []
        slow = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{url}/v1/score", content=halves(), headers=allowed, timeout=200)
            )
        )
        slow.start()
        assert begun.wait(60)
        time.sleep(2)  # until the first half is at the replica
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 100
        while (answer := httpx.post(f"{url}/v1/score", json=body, headers=allowed, timeout=60)).is_success:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert answer.status_code == 503
        assert answer.json()["title"] == "The service is shutting down"
        assert int(answer.headers["retry-after"]) > 0
        refused.set()
        slow.join()
        assert answers[0].status_code == 200
        assert len(answers[0].json()["results"]) == 1
        assert process.wait(120) == 0
    assert "stopping: what runs is finished" in log.read_text()
