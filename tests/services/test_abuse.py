"""The three services under attack, over real HTTP: health answers, and neighbours are served."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from rlad_core import schema
from rlad_core.client.forms import ARROW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 2**20
ROUTES = {
    "teacher": "/teacher/v1/score",
    "rollout": "/rollout/v1/rollouts",
    "verifier": "/verifier/v1/verify",
}
FIELDS = {"teacher": "sequences", "rollout": "prompts", "verifier": "responses"}
SCORED = {"sequences": [{"prompt_token_ids": [5], "response_token_ids": [6]}]}
JUDGED = {"task": "math", "gold": {"answer": "5"}, "responses": [{"response": "\\boxed{5}"}]}
_RNG = np.random.default_rng(0)
LARGE: dict[str, Any] = {
    "sequences": [
        {
            "prompt_token_ids": _RNG.integers(3, 200, 8).tolist(),
            "response_token_ids": _RNG.integers(3, 200, 500).tolist(),
        }
        for _ in range(500)
    ]
}
HEALTH_S = 1.0


def replicas(service: str) -> list[psutil.Process]:
    """Processes of a service, the session's own."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if f"ServeReplica:{service}" in " ".join(_command(process))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def health_asked(http: httpx.Client, service: str) -> Iterator[list[float]]:
    """Seconds that each of many requests for health took inside the block; each within its limit."""
    took: list[float] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=http.base_url, timeout=10 * HEALTH_S) as asking:
            while not done.is_set():
                began = time.perf_counter()
                asking.get(f"/{service}/healthz").raise_for_status()
                took.append(time.perf_counter() - began)
                done.wait(0.05)

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask)
        try:
            yield took
        finally:
            done.set()
        asking.result()


@pytest.mark.parametrize("service", ROUTES)
def test_senders_that_wait_keep_nobody_up(http: httpx.Client, service: str) -> None:
    place = urlsplit(str(http.base_url))
    head = f"POST {ROUTES[service]} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 1000\r\n\r\n{{"
    slow = []
    with health_asked(http, service) as took:
        for _ in range(300):
            slow.append(socket.create_connection((place.hostname, place.port), timeout=60))
            slow[-1].sendall(head.encode())
        time.sleep(1)
        answer = http.post(ROUTES[service], content=b"{}")
        assert answer.status_code == 422
    assert max(took) < HEALTH_S
    for connection in slow:
        connection.close()


def bombs(field: str) -> dict[str, bytes]:
    """Bodies of 10 MiB that ask for nothing that could be done."""
    open_ = b'{"' + field.encode() + b'":['
    return {
        "numbers": open_ + b"1," * (5 * MIB) + b"1]}",
        "objects": open_ + b"{}," * (10 * MIB // 3) + b"{}]}",
        "lists": open_ + b"[]," * (10 * MIB // 3) + b"[]]}",
        "levels": b"[" * (10 * MIB),
        "keys": b"{" + b'"a":1,' * (10 * MIB // 6) + b'"b":1}',
        "text": b'{"' + field.encode() + b'":"' + b"\\n" * (5 * MIB) + b'"}',
        "no JSON": b"\xff" * (10 * MIB),
        "no Arrow": b"\xff" * (10 * MIB),
    }


@pytest.mark.parametrize("service", ROUTES)
def test_what_is_invalid_costs_little(http: httpx.Client, service: str) -> None:
    [process] = replicas(service)
    http.post(ROUTES[service], content=b" " * (10 * MIB))  # so that buffers have their size
    for name, body in bombs(FIELDS[service]).items():
        before = process.memory_info().rss
        times = process.cpu_times()
        headers = {"Content-Type": ARROW} if name == "no Arrow" else {}
        with health_asked(http, service) as took:
            answer = http.post(ROUTES[service], content=body, headers=headers)
        now = process.cpu_times()
        assert answer.status_code in (400, 413, 422), (name, answer.text[:300])
        assert len(answer.content) < 20_000
        assert max(took) < HEALTH_S, name
        assert now.user + now.system - times.user - times.system < 2.0, name
        assert process.memory_info().rss - before < 5 * len(body), name


def test_no_row_of_a_second_stream_vanishes(http: httpx.Client) -> None:
    fingerprint = http.get("/teacher/v1/info").json()["tokenizer_fingerprint"]
    table = schema.build(
        schema.SEQUENCES,
        {"sequence_id": ["a"], "prompt_token_ids": [[5]], "response_token_ids": [[6]]},
        tokenizer_fingerprint=fingerprint,
    )
    stream = schema.to_ipc(table)
    for service, path in ROUTES.items():
        query = "?group_size=1&max_tokens=1" if service == "rollout" else ""
        answer = http.post(path + query, content=stream + stream, headers={"Content-Type": ARROW})
        assert (answer.status_code, "one stream" in answer.json()["detail"]) == (400, True), service


def test_a_small_request_passes_a_large_one(http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as thread, httpx.Client(base_url=http.base_url, timeout=300) as other:
        large = thread.submit(other.post, ROUTES["teacher"], json=LARGE)
        while http.get("/teacher/v1/info").json()["load"]["waiting"] == 0:
            assert not large.done(), large.result().text
        assert http.post(ROUTES["teacher"], json=SCORED).status_code == 200
        load = http.get("/teacher/v1/info").json()["load"]
        assert not large.done()
        assert (load["callers_waiting"], load["waiting"] > 0, load["waiting_tokens"] > 0) == (1, True, True)
        assert len(large.result().raise_for_status().json()["results"]) == len(LARGE["sequences"])
    assert http.get("/teacher/v1/info").json()["load"]["waiting"] == 0
