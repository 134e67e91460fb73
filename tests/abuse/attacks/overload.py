"""Four times as many requests at a time as there are places, for a minute, beside another caller's few."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import httpx

from tests.abuse.target import PATHS, SERVICES, SMALL, Effort, Target

SENT = "4 times as many requests at a time as a replica has places"
PLACES = 64
"""Of a replica, as the services are started for this: on both sides of its queue."""
_SERVICE_S, _SHORT_S = 60.0, 6.0
_JOINED_WITHIN_S = 60.0
_OTHER_ADDRESS = "127.0.0.2"
"""By which it is another caller."""


def attack(target: Target, effort: Effort) -> str:
    """Each is answered right or refused with 429, and memory stays as it is; the other caller is answered."""
    seconds = _SERVICE_S if effort.long else _SHORT_S
    told = []
    for service in SERVICES:
        target.expected(service)
        statuses: Counter[int] = Counter()
        asyncio.run(_load(target, service, seconds / 2, statuses))  # until buffers have their size
        process = target.replica(service)
        before = process.memory_info().rss
        statuses.clear()
        with _health_asked(target, service) as took:
            asyncio.run(_load(target, service, seconds, statuses))
        grown = process.memory_info().rss / before
        assert set(statuses) == {200, 429}, (service, statuses)
        # In a short time the first of it is buffers that get their size.
        assert grown < (1.1 if effort.long else 1.3), (service, grown)
        assert max(took) < effort.health_s, (service, max(took))
        told.append(
            f"{service} {statuses[200]} right, {statuses[429]} refused, memory {100 * (grown - 1):+.1f}%, "
            f"health within {max(took):.2f} s"
        )
    return "; ".join(told)


@contextmanager
def _health_asked(target: Target, service: str) -> Iterator[list[float]]:
    """As `Target.health_asked`, from a process of its own: beside hundreds of clients it would wait for them,
    and not for the service. The list is filled behind the block.
    """
    took: list[float] = []
    here, there = multiprocessing.Pipe()
    asking = multiprocessing.get_context("spawn").Process(
        target=_ask_for_health, args=(target, service, there), daemon=True
    )
    asking.start()
    there.close()
    try:
        here.recv()
        yield took
    finally:
        here.send(None)
        took += here.recv()
        asking.join(_JOINED_WITHIN_S)


def _ask_for_health(target: Target, service: str, told: Connection) -> None:
    with target.health_asked(service) as took:
        told.send(None)
        told.recv()
    told.send(took)


async def _load(target: Target, service: str, seconds: float, statuses: Counter[int]) -> None:
    until = time.monotonic() + seconds
    clients = 4 * PLACES
    body: Any = SMALL[service]

    async def ask(http: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            answer = await http.post(PATHS[service], json=body)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                assert target.is_right(service, answer), answer.text
            elif answer.status_code == 429:
                assert answer.headers["content-type"] == "application/problem+json"
                await asyncio.sleep(float(answer.headers["retry-after"]) / 4)

    async def ask_beside() -> None:
        transport = httpx.AsyncHTTPTransport(local_address=_OTHER_ADDRESS)
        async with httpx.AsyncClient(base_url=target.url, timeout=120, transport=transport) as http:
            while time.monotonic() < until:
                answer = await http.post(PATHS[service], json=body)
                assert target.is_right(service, answer), (answer.status_code, answer.text)

    async with httpx.AsyncClient(
        base_url=target.url, timeout=120, limits=httpx.Limits(max_connections=clients)
    ) as http:
        await asyncio.gather(ask_beside(), *(ask(http) for _ in range(clients)))
