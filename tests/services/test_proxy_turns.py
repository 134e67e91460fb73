"""Before Serve's proxy: requests are passed on at turns, health waits for none, and who leaves is seen to."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from services.serve.http.body_first import BodyFirst


async def empty() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unheard(message: Message) -> None:
    """What becomes of it is of no interest."""


def asked(path: str, address: str = "127.0.0.1") -> Scope:
    return {"type": "http", "path": path, "headers": [], "method": "POST", "client": (address, 1)}


def test_one_request_is_passed_on_at_a_turn_and_health_waits_for_none() -> None:
    turns, crowd = 30, 500  # that Serve's proxy takes for a request, and that come at once
    inside: set[str] = set()
    most = 0
    ended: list[str] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most
        name = f"{scope['path']} {scope['client'][0]}"
        inside.add(f"{name} {id(scope)}")
        most = max(most, len(inside))
        for _ in range(turns):
            await asyncio.sleep(0)
        inside.discard(f"{name} {id(scope)}")
        ended.append(name)

    async def body() -> None:
        door = BodyFirst(serve)
        work = [asked("/teacher/v1/score") for _ in range(crowd)] + [asked("/teacher/v1/score", "127.0.0.2")]
        everybody = [asyncio.create_task(door(scope, empty, unheard)) for scope in work]
        everybody.append(asyncio.create_task(door(asked("/teacher/healthz"), empty, unheard)))
        await asyncio.gather(*everybody)

    asyncio.run(body())
    assert most <= turns + 2
    # Health is answered before all others but the first; and who came behind the crowd has a turn of its own.
    assert ended.index("/teacher/healthz 127.0.0.1") <= 1
    assert ended.index("/teacher/v1/score 127.0.0.2") <= 3
    assert len(ended) == crowd + 2


@pytest.mark.parametrize("tokens", ["", "secret"])
def test_no_body_is_kept_for_health(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS", tokens)
    bodies: list[tuple[bytes, bool]] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        bodies.append((message["body"], message["more_body"]))

    async def endless() -> Message:
        return {"type": "http.request", "body": b"x" * 2**20, "more_body": True}

    async def body() -> None:
        scope = {**asked("/teacher/healthz"), "headers": [(b"content-length", b"1000000000")]}
        await BodyFirst(serve)(scope, endless, unheard)

    asyncio.run(body())
    assert bodies == [(b"", False)]


def test_nobody_turns_off_that_a_client_is_seen_to_leave() -> None:
    passed: list[Scope] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def body() -> None:
        hints = [(b"x-request-disconnect-disabled", b"?1"), (b"x-request-timeout-seconds", b"0")]
        for path in ("/teacher/v1/score", "/teacher/healthz"):
            scope = {**asked(path), "headers": [*hints, *hints, (b"accept", b"*/*")]}
            await BodyFirst(serve)(scope, empty, unheard)

    asyncio.run(body())
    assert [{name for name, _ in scope["headers"]} for scope in passed] == [{b"accept", b"x-request-id"}] * 2


def test_who_leaves_at_the_door_keeps_nobody_out() -> None:
    async def body() -> None:
        served: list[Scope] = []

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope)

        door = BodyFirst(serve)
        crowd = [asyncio.create_task(door(asked("/v1/score"), empty, unheard)) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in crowd[1:-1]:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert not crowd[-1].cancelled()
        before = len(served)
        await door(asked("/v1/score"), empty, unheard)
        assert len(served) == before + 1

    asyncio.run(body())
