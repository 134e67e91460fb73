"""Processes that are killed while requests are under way, and what their senders see of it."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from rlad_core.client.endpoint import Endpoint
from tests.abuse.target import PATHS, SMALL, TOLD, Target, alike

PROBLEM = "application/problem+json"
_REPEATED_FOR_S = 240.0
_NEXT_S = 2.0
"""Within which the request after a lost one is answered, and not left to wait for a new replica."""


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
        worst = 0.0
        with target.client(30.0) as http:
            # Until the replica is replaced each is told so, and nobody waits for it.
            for _ in range(5):
                began = time.monotonic()
                answer = http.post(PATHS[service], json=SMALL[service])
                worst = max(worst, time.monotonic() - began)
                if answer.status_code == 200:
                    break
                check_lost(answer)
    assert told_s < 5.0, told_s
    assert worst < _NEXT_S, worst
    back_s = target.wait_until_right(service)
    return (
        f"{service}: 503 after {told_s:.1f} s, the next ones within {worst:.1f} s, repeated and right; "
        f"back {back_s:.0f} s later"
    )
