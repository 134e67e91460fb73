"""`rlad serve` as a process: what it says, whom it lets in, how it ends."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from certificates import make_certificate

from services.base.leftovers import begun_with
from services.base.ports import free_port
from services.serve.http.auth import is_loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services", "serve", *arguments]


@contextmanager
def serving(log: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, once it says that it serves, and its URL; if it ends in the block, nothing is left."""
    mark = f"SERVED_{uuid.uuid4().hex}"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*arguments, "--port", str(port)),
            env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", mark: "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 200
        while "stop it with" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield process, f"http://127.0.0.1:{port}"
        if process.poll() is not None:
            _, left = psutil.wait_procs(begun_with(mark), timeout=60)
            assert not left, left
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def check_metrics(port: int, *wanted: str) -> None:
    """What Prometheus scrapes there has these sooner or later: processes hand on what they count."""
    deadline = time.monotonic() + 120
    url = f"http://127.0.0.1:{port}/metrics"
    while missing := set(wanted) - set(httpx.get(url, timeout=60).text.split()):
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)


def check_no_idle_processes(process: subprocess.Popen[bytes]) -> None:
    """Of Ray only what one machine has use for."""
    commands = [" ".join(child.cmdline()) for child in psutil.Process(process.pid).children(recursive=True)]
    assert any("raylet" in command for command in commands)
    for name in ("dashboard.py", "monitor.py"):  # the log monitor too
        assert not any(name in command for command in commands), commands


def check_only_loopback_listens(process: subprocess.Popen[bytes]) -> None:
    """Ray's own ports ask for no token."""
    server = psutil.Process(process.pid)
    pids = {server.pid, *(child.pid for child in server.children(recursive=True))}
    hosts = {each.laddr.ip for each in psutil.net_connections("inet") if each.pid in pids and not each.raddr}
    assert hosts, "nothing listens"
    assert all(is_loopback(host) for host in hosts), hosts


WAITING_TASK = """
import pathlib
import time


def waits(response, gold, row):
    pathlib.Path(response).touch()
    while not pathlib.Path(gold).exists():
        time.sleep(0.05)
    return 1.0
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For localhost: its file and its key's."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_tokens_keep_others_out_and_sigterm_finishes_what_runs(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    log = tmp_path / "log"
    (tmp_path / "waits.py").write_text(WAITING_TASK)
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    arguments = ["verifier", "--task", f"{tmp_path / 'waits.py'}:waits", "--set", "drain_timeout_s=250"]
    arguments += ["--set", "time_limit_s=200", "--set", "quota.requests_per_minute=20"]
    arguments += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    metrics_port = free_port()
    arguments += ["--metrics-port", str(metrics_port)]
    reporting = {"RAY_metrics_report_interval_ms": "1000"}
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with (
        serving(log, *arguments, RLAD_API_TOKENS="one,two", **reporting) as (process, plain),
        httpx.Client(base_url=plain.replace("http:", "https:"), verify=trusting, timeout=60) as http,
    ):
        assert "callers with a token" in log.read_text()
        check_only_loopback_listens(process)
        check_no_idle_processes(process)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{plain}/healthz")
        body = {"task": "math", "gold": {"answer": "5"}, "responses": [{"response": "\\boxed{5}"}]}
        assert http.post("/v1/verify", json=body).status_code == 401
        assert http.get("/healthz").status_code == 200
        allowed = {"Authorization": "Bearer two"}
        judged = http.post("/v1/verify", json=body, headers=allowed)
        assert judged.status_code == 200
        assert f"metrics, for Prometheus: http://127.0.0.1:{metrics_port}/metrics" in log.read_text()
        check_metrics(
            metrics_port, "ray_rlad_service_requests_total", "ray_rlad_service_request_seconds_total"
        )

        slow = {"task": "waits", "gold": str(go_on), "responses": [{"response": str(begun)}]}
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(http.post, "/v1/verify", json=slow, headers=allowed, timeout=200)
            deadline = time.monotonic() + 60
            while not begun.exists():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            # What one caller may ask in a minute is not another's. The quota fills up again while it is used,
            # so the machine's pace decides how many requests it takes.
            assert http.get("/v1/info", headers=allowed).status_code == 200
            statuses = {200}
            while 429 not in statuses:
                assert time.monotonic() < deadline + 60, statuses
                statuses.add(http.post("/v1/verify", content=b"{}", headers=allowed).status_code)
            assert statuses == {200, 422, 429}
            other = {"Authorization": "Bearer one"}
            assert http.post("/v1/verify", json=body, headers=other).status_code == 200

            process.send_signal(signal.SIGTERM)
            while (told := http.post("/v1/verify", json=body, headers=other)).status_code in (200, 429):
                assert time.monotonic() < deadline + 100, log.read_text()
                time.sleep(0.2)
            assert told.status_code == 503
            assert told.json()["title"] == "The service is shutting down"
            assert int(told.headers["retry-after"]) > 0
            go_on.touch()
            assert answer.result().json()["results"][0]["reward"] == 1.0
        assert process.wait(120) == 0
    assert "stopping: what runs is finished" in log.read_text()
    # What its replica logged is where an operator looks; the last lines too.
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    logged = {line["request_id"]: line["status"] for line in lines if line["event"] == "request"}
    for told in (judged, answer.result()):
        assert logged[told.headers["x-request-id"]] == 200


def test_what_was_begun_is_sent_to_its_last_byte(tmp_path: Path) -> None:
    """To a client that reads slowly, when the replica is long through with it."""
    log = tmp_path / "log"
    ids = list(range(5, 205))
    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)]  # so that not all of it lies in the kernel
    sequences = [{"prompt_token_ids": [5, 6 + n % 50], "response_token_ids": ids[:64]} for n in range(512)]
    with (
        serving(log, "teacher", "--model", "rlad:kk-teacher", "--set", "drain_timeout_s=100") as (
            process,
            url,
        ),
        httpx.Client(base_url=url, timeout=100, transport=httpx.HTTPTransport(socket_options=small)) as http,
        http.stream("POST", "/v1/score", json={"top_k": 16, "sequences": sequences}) as answer,
    ):
        assert answer.status_code == 200
        size, came = int(answer.headers["content-length"]), 0
        pieces = answer.iter_raw(2**16)
        while came < size // 10:
            came += len(next(pieces))
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while httpx.post(f"{url}/v1/score", json={"sequences": sequences[:1]}, timeout=60).status_code == 200:
            assert time.monotonic() < deadline
        time.sleep(3.0)
        came += sum(map(len, pieces))
        assert came == size
        assert process.wait(60) == 0
    assert "waited" not in log.read_text()
