"""A service that does not answer is named, with the cause and the proxy that it is asked through."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from rlad_core.client import Endpoint
from rlad_core.client.silence import Silence
from rlad_core.proxies import proxy_of, through
from services.base.ports import free_port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_service_that_is_down_is_named_again_and_again_until_it_answers() -> None:
    asyncio.run(down_and_up_again())


async def down_and_up_again() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    said: list[str] = []
    said_twice = asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            said_twice.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with Endpoint(url, timeout_s=60) as endpoint:
        endpoint._silence = Silence(url, say, after_s=0.2, every_s=0.2)
        asked = asyncio.create_task(endpoint.request("GET", "/", what="anything"))
        await asyncio.wait_for(said_twice.wait(), 30)
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        assert (await asked).is_success
        server.close()
    assert said[0].startswith(f"{url} does not answer, for 0 s now: ConnectError")
    assert said[1].startswith(f"{url} does not answer, for ")
    assert said[-1].startswith(f"{url} answers again, after ")
    heard = len(said)
    await asyncio.sleep(0.5)
    assert len(said) == heard


def test_nothing_is_said_before_its_time_or_after_the_wait() -> None:
    asyncio.run(answered_and_given_up())


async def answered_and_given_up() -> None:
    said: list[str] = []
    silence = Silence("http://t:1", said.append, after_s=0.2, every_s=0.1)
    silence.failed("refused", time.monotonic())
    silence.over()
    silence.failed("refused", time.monotonic())
    silence.close()
    await asyncio.sleep(0.5)
    assert said == []


@pytest.mark.parametrize(
    ("variable", "value", "without", "url", "proxy"),
    [
        ("HTTP_PROXY", "http://me:secret@proxy.example:3128", "", "http://t.example:8000", True),
        ("http_proxy", "http://proxy.example:3128", "", "http://t.example:8000", True),
        ("HTTPS_PROXY", "http://proxy.example:3128", "", "http://t.example:8000", False),
        ("ALL_PROXY", "http://proxy.example:3128", "", "https://t.example", True),
        ("HTTP_PROXY", "http://proxy.example:3128", "t.example", "http://t.example:8000", False),
        ("HTTP_PROXY", "http://proxy.example:3128", "other.example", "http://127.0.0.1:8000", True),
        ("HTTP_PROXY", "http://proxy.example:3128", "localhost,127.0.0.1", "http://127.0.0.1:8000", False),
    ],
)
def test_the_proxy_that_applies_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, without: str, url: str, proxy: bool
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NO_PROXY", without)
    with httpx.Client() as http:  # what is really asked
        transport = http._transport_for_url(httpx.URL(url))
        assert (transport is not http._transport) == proxy
    assert (proxy_of(url) is not None) == proxy
    said = through(url)
    assert ("through the proxy http://proxy.example:3128" in said) == proxy
    assert "secret" not in said
