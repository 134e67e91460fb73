"""Clients that ask for much and leave: what they asked for is not worked on any more."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.abuse.target import PATHS, SERVICES, SMALL, Effort, Target

SENT = "large requests whose clients leave after a second"
_WITHIN_S = 15.0
_CLIENTS = 4


def requests() -> dict[str, Any]:
    """By service; each takes much longer than the clients stay."""
    return {
        "teacher": {
            "sequences": [
                {"prompt_token_ids": [5, 6], "response_token_ids": [7 + place % 50] * 500}
                for place in range(1500)
            ]
        },
        "rollout": {
            "prompts": [{"prompt_token_ids": [5, 6 + place % 50]} for place in range(64)],
            "sampling": {"group_size": 16, "max_tokens": 900, "seed": 1},
        },
        "verifier": {
            "task": "math",
            "gold": {"answer": "\\frac{1}{3}"},
            "responses": [
                {"response": f"\\boxed{{\\sqrt{{{place}}} + \\frac{{{place}}}{{7}}}}"}
                for place in range(16_000)
            ],
        },
    }


def attack(target: Target, effort: Effort) -> str:
    """The engine and the workers are free again, and the next one is answered."""
    freed: dict[str, float] = {}
    for service in SERVICES:
        target.expected(service)
        body = requests()[service]

        def leave(service: str = service, body: Any = body) -> None:
            with (
                contextlib.suppress(httpx.ReadTimeout),
                target.client() as http,
            ):
                http.post(PATHS[service], json=body, timeout=httpx.Timeout(60, read=1))

        with ThreadPoolExecutor(_CLIENTS) as threads:
            for each in [threads.submit(leave) for _ in range(_CLIENTS)]:
                each.result()
        began = time.monotonic()
        target.wait_until_idle(service, _WITHIN_S)
        with target.client() as http:
            assert target.is_right(service, http.post(PATHS[service], json=SMALL[service])), service
        freed[service] = time.monotonic() - began
        assert freed[service] < _WITHIN_S, (service, freed)
    told = ", ".join(f"{service} {seconds:.1f} s" for service, seconds in freed.items())
    return f"free, and the next request answered, after: {told}"
