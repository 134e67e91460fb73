"""Whose body is read first: over real HTTP, without Ray, with readings that end when the test says so."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import Request, Response
from served_app import running

from services.serve.http.bodies import Body, json_answer
from services.serve.http.gate import service_app
from services.serve.http.health import Intake
from services.serve.http.readings import PLACES, SMALL_BYTES, Readings
from services.serve.replica_settings import ReplicaArgs

MANY = 64
"""More than asyncio has threads on any machine."""
LARGE = SMALL_BYTES + 10


class Reading:
    """Large bodies are read one step at a time; small ones at once. Each begins with its name."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.begun: list[str] = []

    def __call__(self, body: Body, answer: str) -> str:
        name = body.content[:8].decode().strip()
        self.begun.append(name)
        if len(body.content) >= SMALL_BYTES:
            assert self.steps.acquire(timeout=60)
        return answer


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setenv("RLAD_API_TOKENS", "many other")
    return Reading()


@pytest.fixture
def service(reading: Reading) -> Iterator[tuple[httpx.Client, Intake]]:
    """What asks it, and its door."""

    async def fine() -> None: ...

    app = service_app("teacher", "Example", "For a test.")
    intake = Intake("teacher", fine, "the engine", ReplicaArgs())

    @app.post("/v1/read")
    async def read(request: Request) -> Response:
        async with intake.admit(request, 2**20) as body:
            return json_answer({"read": await intake.read(reading, body, "yes")}, body)

    with running(app) as url, httpx.Client(base_url=url, timeout=60) as http:
        yield http, intake


def ask(http: httpx.Client, caller: str, name: str, size: int) -> str:
    headers = {"Authorization": f"Bearer {caller}"}
    body = f"{name:<8}".encode() + b"x" * size
    read: str = http.post("/v1/read", content=body, headers=headers).raise_for_status().json()["read"]
    return read


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_small_body_waits_for_no_large_ones(service: tuple[httpx.Client, Intake], reading: Reading) -> None:
    http, intake = service
    with ThreadPoolExecutor(MANY) as threads:
        large = [threads.submit(ask, http, "many", f"many {place}", LARGE) for place in range(MANY)]
        try:
            wait_until(lambda: intake.in_work == MANY)
            # None of the large ones can end before.
            assert ask(http, "other", "small", 10) == "yes"
            assert ask(http, "many", "small", 10) == "yes"
            assert not any(each.done() for each in large)
        finally:
            reading.steps.release(MANY)
        assert [each.result() for each in large] == ["yes"] * MANY


def test_among_large_bodies_callers_have_turns(
    service: tuple[httpx.Client, Intake], reading: Reading
) -> None:
    http, intake = service
    waiting = intake._readings._places
    with ThreadPoolExecutor(MANY + 1) as threads:
        many = [threads.submit(ask, http, "many", f"many {place}", LARGE) for place in range(MANY)]
        try:
            wait_until(lambda: len(waiting) == MANY - PLACES)
            other = threads.submit(ask, http, "other", "other", LARGE)
            wait_until(lambda: len(waiting) == MANY - PLACES + 1)
        finally:
            reading.steps.release(MANY + 1)
        assert {each.result() for each in (*many, other)} == {"yes"}
    assert reading.begun.index("other") <= PLACES + 1


def test_who_leaves_has_a_place_until_the_thread_ends(reading: Reading) -> None:
    async def meanwhile() -> None:
        readings = Readings()
        bodies = [Body(f"{place:<8}".encode() + b"x" * LARGE, "json", "json") for place in range(PLACES + 1)]
        asking = [asyncio.create_task(readings.read(reading, body, "yes")) for body in bodies]
        await asyncio.to_thread(wait_until, lambda: len(reading.begun) == PLACES)
        for task in asking[:PLACES]:
            task.cancel()
        await asyncio.wait(asking[:PLACES])
        await asyncio.sleep(0.2)
        assert len(reading.begun) == PLACES
        reading.steps.release(PLACES + 1)
        assert await asking[-1] == "yes"

    asyncio.run(meanwhile())
