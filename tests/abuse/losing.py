"""Processes that are killed, at work or idle, and what those who ask see of it."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from rlad_core.client.endpoint import Endpoint
from tests.abuse.target import LOAD, PATHS, SMALL, TOLD, Target, alike

PROBLEM = "application/problem+json"
_REPEATED_FOR_S = 240.0
_NEXT_S = 2.5
"""Within which the request after a lost one is answered, and not left to wait for a new replica. A look that
finds none takes a second.
"""


def large(service: str) -> dict[str, Any]:
    """A request that takes seconds; its first row is that of the small one."""
    small = SMALL[service]
    match service:
        case "teacher":
            rows = [
                {
                    "prompt_token_ids": [5, 6],
                    "response_token_ids": [3 + (row * 31 + token) % 200 for token in range(500)],
                }
                for row in range(2000)
            ]
            return {"sequences": [*small["sequences"], *rows]}
        case "rollout":
            sampling = small["sampling"] | {"max_tokens": 900}
            return {"prompts": [*small["prompts"], *[{"prompt_token_ids": [5]}] * 300], "sampling": sampling}
        case _:
            response = {"response": "\\boxed{\\sqrt{2} + \\frac{1}{7}}"}
            return small | {"responses": [*small["responses"], *[response] * 16_000]}


@contextmanager
def under_way(
    target: Target, service: str
) -> Iterator[tuple[Future[httpx.Response], Future[httpx.Response]]]:
    """A plain request and one of our client, which repeats it; both are being worked on."""
    expected = target.expected(service)
    body = large(service)
    with ThreadPoolExecutor(2) as threads, target.client(_REPEATED_FOR_S) as http:
        plain = threads.submit(http.post, PATHS[service], json=body)
        repeated = threads.submit(asyncio.run, _repeat(target, service, body))
        time.sleep(1.0)
        assert not plain.done(), plain.result().text[:300]
        assert not repeated.done()
        yield plain, repeated
        results = repeated.result().json()["results"]
        first = results[0][TOLD[service]]
        # A reward; or numbers by token, of a response that may be longer here.
        part = first[: len(expected)] if isinstance(expected, list) else first
        assert alike(part, expected), (service, first, expected)
        [rows] = [value for value in body.values() if isinstance(value, list)]
        assert len(results) == len(rows)


async def _repeat(target: Target, service: str, body: dict[str, Any]) -> httpx.Response:
    async with Endpoint(target.url, call_timeout_s=120, timeout_s=_REPEATED_FOR_S) as endpoint:
        return await endpoint.request("POST", PATHS[service], what="what is under attack", json=body)


def check_lost(answer: httpx.Response) -> None:
    """It says in the usual form that asking again makes sense."""
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["detail"]


def lose(target: Target, service: str, victim: str) -> str:
    """Kill a process of a service while it works: who asked is told at once, and so is who comes next.

    Args:
        victim: of `Target.processes`.
    """
    [process] = target.processes(victim)
    with under_way(target, service) as (plain, _):
        began = time.monotonic()
        process.kill()
        check_lost(plain.result())
        told_s = time.monotonic() - began
        worst = _told_meanwhile(target, service)
    assert told_s < 5.0, told_s
    back_s = target.wait_until_right(service)
    return (
        f"{service}: 503 after {told_s:.1f} s, the next ones within {worst:.1f} s, repeated and right; "
        f"back {back_s:.0f} s later"
    )


def lose_idle(target: Target, service: str, victim: str, idle_s: float = 0.0) -> str:
    """Kill a process of a service that nobody asks: who comes next is told, and waits for no new one.

    Args:
        victim: of `Target.processes`.
        idle_s: between the kill and the next request.
    """
    target.expected(service)
    [process] = target.processes(victim)
    process.kill()
    time.sleep(idle_s)
    worst = _told_meanwhile(target, service)
    back_s = target.wait_until_right(service)
    return f"{service}: 503 within {worst:.1f} s, health too; back and right {back_s:.0f} s later"


def lose_stream(target: Target, service: str, victim: str) -> str:
    """Kill a process of a service while it sends an answer: that breaks off, and who comes next is told.

    Args:
        victim: of `Target.processes`.
    """
    target.expected(service)
    [process] = target.processes(victim)
    lines = 0
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
    with target.client() as http:
        asked = http.stream("POST", PATHS[service], json=large(service), headers=headers)
        try:
            with asked as answer:
                assert answer.status_code == 200, answer.read()[:300]
                for _ in answer.iter_lines():
                    lines += 1
                    if lines == 1:
                        process.kill()
        except httpx.RemoteProtocolError as error:
            broken = type(error).__name__
        else:
            raise AssertionError(f"an answer that is cut off after {lines} lines looks whole")
    worst = _told_meanwhile(target, service)
    back_s = target.wait_until_right(service)
    return f"{service}: {broken}, the next ones 503 within {worst:.1f} s; back and right {back_s:.0f} s later"


def _told_meanwhile(target: Target, service: str) -> float:
    """The longest wait for an answer until the replica is replaced, which each is told."""
    worst = 0.0
    with target.client(60.0) as http:
        for path in (PATHS[service], f"/{service}/healthz", LOAD[service], PATHS[service], PATHS[service]):
            began = time.monotonic()
            answer = http.post(path, json=SMALL[service]) if path == PATHS[service] else http.get(path)
            worst = max(worst, time.monotonic() - began)
            if answer.status_code == 200:
                break
            check_lost(answer)
    assert worst < _NEXT_S, worst
    return worst
