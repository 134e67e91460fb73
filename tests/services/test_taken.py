"""Answers that wait in the replica for clients that read slowly: over real HTTP, with Serve's way between."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, StreamingResponse
from ray.serve._private.http_util import MessageQueue
from served_app import running
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serve.http.body_first import BodyFirst
from services.serve.http.gate import service_app
from services.serve.http.slow_clients.answers_taken import AnswersTaken
from services.serve.http.slow_clients.clients_behind import LEAST
from services.serve.http.slow_clients.taken import MOST_UNDER_WAY, TOLD_EVERY, HeldBack

MIB = 2**20
SIZE = 48 * MIB
PIECE = 2**16
ENDS_WITHIN_S = 60.0


class Hop:
    """What Serve does between its proxy and a replica: it keeps what either sends, and holds nobody back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.ended_early = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        to_replica, to_client = asyncio.Queue[Message](), MessageQueue()

        async def pass_on() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                to_replica.put_nowait(message)
            to_replica.put_nowait(message)
            work.cancel()

        async def work_on() -> None:
            try:
                await self._app({**scope}, to_replica.get, to_client)
            except asyncio.CancelledError:
                self.ended_early.set()
            finally:
                to_client.close()

        work = asyncio.create_task(work_on())
        passing = asyncio.create_task(pass_on())
        while not work.done() or to_client._message_queue:
            await to_client.wait_for_message()
            for message in to_client.get_messages_nowait():
                await send(message)
            await asyncio.sleep(0)
        passing.cancel()


class Service:
    """Tells how many bytes it has made of an answer."""

    def __init__(self, folder: Path) -> None:
        self.made = 0
        self.file = folder / "answer"
        self.file.write_bytes(b"x" * SIZE)
        self.app: FastAPI = service_app("teacher", "Example", "For a test.")
        self.app.add_api_route("/stream", self.stream, methods=["GET", "POST"])
        self.app.add_api_route("/file", self.whole_file)
        self.hop = Hop(self.app)

    async def stream(self, request: Request) -> StreamingResponse:
        await request.body()
        self.made = 0

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(SIZE // PIECE):
                self.made += PIECE
                yield b"x" * PIECE

        return StreamingResponse(pieces())

    async def whole_file(self) -> FileResponse:
        return FileResponse(self.file)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with running(AnswersTaken(BodyFirst(service.hop))) as url:
        yield url


def asks(url: str, path: str) -> socket.socket:
    """A connection that has asked and read nothing, with room for little."""
    place = urlsplit(url)
    connection = socket.socket()
    connection.settimeout(ENDS_WITHIN_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((place.hostname, place.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
    return connection


def test_who_reads_gets_it_all(url: str) -> None:
    for method in ("GET", "POST"):
        assert len(httpx.request(method, f"{url}/stream", timeout=60).content) == SIZE
    assert len(httpx.get(f"{url}/file", timeout=60).content) == SIZE
    assert httpx.head(f"{url}/file", timeout=60).headers["content-length"] == str(SIZE)


def test_of_an_answer_that_is_not_taken_little_is_made(url: str, service: Service) -> None:
    kernels = 8 * MIB  # which take some megabytes from whoever sends
    with asks(url, "/stream") as connection:
        before = -1
        while before != service.made or not service.made:  # until it stands still
            before = service.made
            time.sleep(0.5)
        assert service.made < kernels + MOST_UNDER_WAY + TOLD_EVERY + LEAST < SIZE / 2
        service.hop.ended_early.clear()
        came = len(connection.recv(2**20))
        while part := connection.recv(2**20):
            came += len(part)
    assert came > SIZE
    assert not service.hop.ended_early.is_set()


def test_who_leaves_ends_the_wait(url: str, service: Service) -> None:
    service.hop.ended_early.clear()
    with asks(url, "/file") as connection:
        connection.recv(1000)
    assert service.hop.ended_early.wait(ENDS_WITHIN_S)


def test_messages_of_ours_and_others_come_in_any_order() -> None:
    """The application listens for its client while its answer waits, and neither misses what is its own."""

    async def body() -> None:
        coming, sent = asyncio.Queue[Message](), list[Message]()

        async def send(message: Message) -> None:
            sent.append(message)

        held = HeldBack(coming.get, send)
        listening = asyncio.create_task(held.receive())
        sending = asyncio.create_task(in_pieces(held, 10))
        await turns()
        assert (len(sent), sending.done(), listening.done()) == (3, False, False)
        for _ in range(3):
            coming.put_nowait({"type": "rlad.taken", "bytes": len(sent) * MIB})
            await turns()
        assert (len(sent), sending.done()) == (10, True)
        more = asyncio.create_task(in_pieces(held, 10))
        coming.put_nowait({"type": "http.request", "body": b"late"})
        await turns()
        assert (await listening)["body"] == b"late"
        # One that has gone waits for nothing, and the application hears of it.
        coming.put_nowait({"type": "http.disconnect"})
        await more
        assert (len(sent), (await held.receive())["type"]) == (20, "http.disconnect")

    async def in_pieces(held: HeldBack, count: int) -> None:
        for _ in range(count):
            await held.send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})

    async def turns() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(body())


@pytest.mark.parametrize("path", ["/stream", "/file"])
def test_a_server_that_tells_nothing_is_not_waited_for(service: Service, path: str) -> None:
    with running(service.app) as url:
        assert len(httpx.get(url + path, timeout=60).content) == SIZE
