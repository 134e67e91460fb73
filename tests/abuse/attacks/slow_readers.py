"""Clients that ask for large answers and read nothing of them: some whole, some as they are made."""

import contextlib
import json
import select
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from tests.abuse.target import MIB, PATHS, SMALL, Effort, Target

SENT = (
    "48 connections that ask for scores (with `--long` 2 for rollouts too, as they are made) and read nothing"
)
_CUT_OFF_WITHIN_S = 300.0
"""The 30 s of a client begin when there is more of its answer than kernels take."""
_FREE_WITHIN_S = 15.0
_LEAST_BYTES = 2**18
_SCORES: dict[str, Any] = {
    "top_k": 16,
    "sequences": [
        {"prompt_token_ids": [5, 6 + place], "response_token_ids": [7 + place] * 64} for place in range(12)
    ],
}
#: Which take several turns at the engine, each of which is more than kernels take.
_ROLLOUTS: dict[str, Any] = {
    "prompts": [{"prompt_token_ids": [5, 6 + place % 50]} for place in range(64)],
    "sampling": {"group_size": 16, "max_tokens": 300, "seed": 1},
}


def attack(target: Target, effort: Effort) -> str:
    """Others are served, connections are cut off, and nothing is worked on for them."""
    asked = {"teacher": 48 * [_SCORES]} | ({"rollout": 2 * [_ROLLOUTS]} if effort.long else {})
    for service in asked:
        target.expected(service)
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(target.client(_CUT_OFF_WITHIN_S))
        size = len(http.post(PATHS["teacher"], json=_SCORES).raise_for_status().content)
        assert size > _LEAST_BYTES, size
        began = time.monotonic()
        with target.health_asked(*asked) as took:
            silent = {
                service: [stack.enter_context(_ask(target, service, body)) for body in bodies]
                for service, bodies in asked.items()
            }
            for service in asked:
                assert target.is_right(service, http.post(PATHS[service], json=SMALL[service])), service
            served_s = time.monotonic() - began
            cut_off = {}
            for service, connections in silent.items():
                for connection in connections:
                    left_s = began + _CUT_OFF_WITHIN_S - time.monotonic()
                    assert _breaks(connection, left_s), f"{service}: one is still there"
                cut_off[service] = time.monotonic() - began
        freed = {service: target.wait_until_idle(service, _FREE_WITHIN_S) for service in asked}
    assert max(took) < effort.health_s, max(took)
    told = "; ".join(
        f"{service} cut off within {cut_off[service]:.0f} s, idle {freed[service]:.1f} s later"
        for service in asked
    )
    return (
        f"others are served after {served_s:.1f} s; {told}; {size / MIB:.2f} MiB a score; "
        f"health within {max(took):.2f} s"
    )


def _ask(target: Target, service: str, body: dict[str, Any]) -> socket.socket:
    place = urlsplit(target.url)
    content = json.dumps(body).encode()
    connection = socket.socket()
    connection.settimeout(60)
    # Small segments and a small buffer: the kernels hold some megabytes of an answer otherwise.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    connection.connect((place.hostname, place.port))
    accept = "application/x-ndjson" if service == "rollout" else "application/json"
    head = (
        f"POST {PATHS[service]} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def _breaks(connection: socket.socket, limit_s: float) -> bool:
    poll = select.poll()
    poll.register(connection, 0)  # errors alone, whatever there is to read
    return bool(poll.poll(1000 * max(0.0, limit_s)))
