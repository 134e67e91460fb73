"""Heads of requests that are too large, too many or too slow: over real HTTP, without Ray."""

import asyncio
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from ray.serve._private.http_util import start_asgi_http_server
from ray.serve.config import HTTPOptions
from served_app import running
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http import auto

from services.base.ports import free_port
from services.serve.http.heads import MOST_BYTES, MOST_HEADERS, MOST_IN_A_ROW, BoundedHeads, bound_heads
from services.serve.http.problems import MEDIA_TYPE
from services.serve.http.proxy import middlewares

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\n"
MIB = 2**20
TIMEOUT_S = 1.0


class Quick(BoundedHeads):
    timeout_s = TIMEOUT_S


async def lengths(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how many headers and bytes came; ``/slow`` takes longer than a head may, ``/unread`` no body."""
    size, more = 0, scope["path"] != "/unread"
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * TIMEOUT_S)
    told = f"{len(scope['headers'])} {size};".encode()
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    with running(lengths, http=Quick) as url:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port


def sent(place: tuple[str, int], *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What comes until the connection ends, or nothing more is said for a while."""
    with socket.create_connection(place, timeout=TIMEOUT_S / 2) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
        except OSError:  # cut off in the middle
            pass
        return rest_of(connection)


def rest_of(connection: socket.socket, limit_s: float = TIMEOUT_S / 2) -> bytes:
    connection.settimeout(limit_s)
    told = b""
    try:
        while piece := connection.recv(65_536):
            told += piece
    except TimeoutError:
        told += b"(open)"
    except ConnectionResetError:
        told += b"(reset)"
    return told


@pytest.mark.parametrize(
    "pieces",
    [
        (GET, b"X: ", *[b"a" * 65_536] * 8),
        (GET, *[b"x:a\r\n" * 13_107] * 8),
        (GET + b"x:a\r\n" * 150 + b"\r\n",),
        (GET + b"x:" + b"a" * (MOST_BYTES + 1) + b"\r\n\r\n",),
        (b"GET /", *[b"a" * 65_536] * 4),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",),
    ],
    ids=["endless header", "endless headers", "headers", "header", "endless URL", "URL"],
)
def test_a_head_over_a_limit_is_told_so(place: tuple[str, int], pieces: tuple[bytes, ...]) -> None:
    told = sent(place, *pieces)
    if len(pieces) > 1 and told == b"(reset)":  # it was still sending
        return
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert f"Content-Type: {MEDIA_TYPE}".encode() in head
    assert b"Connection: close" in head
    assert b"at most 100 headers and 65536 bytes" in body
    assert not told.endswith(b"(open)")


@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_what_is_within_the_limits_is_taken_in_whatever_pieces(place: tuple[str, int], piece: int) -> None:
    whole = (
        GET + b"x:a\r\n" * (MOST_HEADERS - 1) + b"\r\n"
        + POST + b"Content-Length: 500\r\n\r\n" + b"b" * 500
        + POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nc\r\n" * 90 + b"0\r\nT: a\r\nU: b\r\n\r\n"
        + GET + b"\r\n"
    )  # fmt: skip
    told = sent(place, *(whole[start : start + piece] for start in range(0, len(whole), piece)))
    assert told.count(b"HTTP/1.1 200 ") == 4
    bodies = [part.rpartition(b"\r\n")[2] for part in told.split(b";")[:4]]
    assert bodies == [b"100 0", b"2 500", b"2 90", b"1 0"]
    assert told.endswith(b"(open)")


def test_a_large_body_is_no_head(place: tuple[str, int]) -> None:
    chunk = b"%x\r\n" % MIB + b"b" * MIB + b"\r\n"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 4, b"0\r\n\r\n"
    announced = POST + b"Content-Length: %d\r\n\r\n" % (4 * MIB), *[b"b" * MIB] * 4
    told = sent(place, *chunked, *announced, GET + b"\r\n")
    assert told.count(f" {4 * MIB};".encode()) == 2
    assert told.endswith(b"1 0;(open)")


@pytest.mark.parametrize(
    "trailers", [(b"T: ", *[b"a" * 65_536] * 8), (b"t:a\r\n" * 20_000,)], ids=["one", "many"]
)
def test_trailers_are_bounded_as_heads_are(place: tuple[str, int], trailers: tuple[bytes, ...]) -> None:
    told = sent(place, POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n", *trailers)
    assert b" 200 " not in told
    assert not told.endswith(b"(open)")


@pytest.mark.parametrize("begin", [b"", GET, b"\r\n"], ids=["nothing", "a part", "line ends"])
def test_who_does_not_end_a_head_is_cut_off(place: tuple[str, int], begin: bytes) -> None:
    with socket.create_connection(place) as connection:
        connection.sendall(begin)
        told = rest_of(connection, 10 * TIMEOUT_S)
    assert told.startswith(b"HTTP/1.1 408 ") if begin else told == b""
    assert not told.endswith(b"(open)")


def test_a_head_that_comes_byte_by_byte_is_cut_off_too_also_the_second_one(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as connection:
        connection.sendall(GET + b"\r\n" + GET[:5])
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10 * TIMEOUT_S:
                connection.sendall(b"a")
                time.sleep(TIMEOUT_S / 10)
        except OSError:
            pass
        assert TIMEOUT_S / 2 < time.monotonic() - began < 9 * TIMEOUT_S


def test_who_waits_for_an_answer_is_not_late(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as connection:
        # The next head has begun, and is not read while the first is worked on.
        connection.sendall(GET.replace(b"/a", b"/slow") + b"\r\n" + GET)
        connection.settimeout(20 * TIMEOUT_S)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"\r\n")
        assert b"HTTP/1.1 200 " in rest_of(connection, 2 * TIMEOUT_S)


@pytest.mark.parametrize("count", [MOST_IN_A_ROW, 10_000])
def test_so_many_requests_may_wait_in_a_row(place: tuple[str, int], count: int) -> None:
    with socket.create_connection(place) as connection:
        connection.sendall(GET.replace(b"/a", b"/slow") + b"\r\n" + (GET + b"\r\n") * count)
        told = rest_of(connection, 5 * TIMEOUT_S)
    assert told.count(b"HTTP/1.1 200 ") == (1 + count if count <= MOST_IN_A_ROW else 0)


def test_a_body_that_goes_on_behind_its_answer_ends_too(place: tuple[str, int]) -> None:
    with socket.create_connection(place, timeout=20 * TIMEOUT_S) as connection:

        def ask() -> None:
            connection.sendall(POST.replace(b"/a", b"/unread") + b"Content-Length: 1000\r\n\r\n")
            told = b""
            while not told.endswith(b"2 0;"):
                piece = connection.recv(1000)
                assert piece, told
                told += piece

        ask()
        # One that comes to its end leaves the connection as it was.
        connection.sendall(b"b" * 1000)
        time.sleep(1.5 * TIMEOUT_S)
        ask()
        ended = False
        for _ in range(100):
            time.sleep(TIMEOUT_S / 10)
            try:
                connection.sendall(b"b")
            except OSError:
                ended = True
                break
        assert ended


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "broken",
    [
        CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcXX\r\n",
        CHUNKED + b"F" * 20 + b"\r\n",
        CHUNKED + b"0\r\nno trailer\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\n\r\nabc",
        POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_body_that_is_no_http_is_told_so(place: tuple[str, int], broken: bytes, apart: bool) -> None:
    middle = broken.index(b"\r\n\r\n") + 4
    pieces = (broken[:middle], broken[middle:]) if apart else (broken,)
    head, _, body = sent(place, *pieces, pause_s=0.05).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"no other encoding is read" in body
    assert not body.endswith(b"(open)")


def test_it_is_not_told_into_the_answer_of_another_request(place: tuple[str, int]) -> None:
    slow = GET.replace(b"/a", b"/slow") + b"\r\n"
    with socket.create_connection(place) as connection:
        connection.sendall(slow + CHUNKED + b"zz\r\n")
        assert b"400" not in rest_of(connection, 5 * TIMEOUT_S)


@pytest.mark.parametrize("before", [1, 2])
def test_what_came_whole_is_answered_whatever_comes_behind_it(place: tuple[str, int], before: int) -> None:
    slow = POST.replace(b"/a", b"/slow") + b"Content-Length: 4\r\n\r\nbody"
    with socket.create_connection(place) as connection:
        connection.sendall(slow * before + b" and its rest\r\n\r\n" + GET + b"\r\n")
        told = rest_of(connection, 20 * TIMEOUT_S)
    assert told.count(b"HTTP/1.1 200 ") == told.count(b"2 4;") == before
    assert told.lower().count(b"connection: close") == 1
    assert not told.endswith(b"(open)")


def test_serves_proxy_uses_it_once_its_middlewares_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)
    monkeypatch.setattr(BoundedHeads, "timeout_s", BoundedHeads.timeout_s)
    monkeypatch.setenv("RLAD_BODY_TIMEOUT_S", "7")
    middlewares()
    assert bound_heads(), "services/serve/http/heads.py does not fit this version of uvicorn"
    assert BoundedHeads.timeout_s == 7.0
    options = HTTPOptions(host="127.0.0.1", port=free_port())
    options.middlewares = []

    async def asked() -> bytes:
        loop = asyncio.get_running_loop()
        serving, server = await start_asgi_http_server(lengths, options, event_loop=loop)
        for _ in range(1000):
            if server.started:
                break
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", options.port)
        writer.write(GET + b"x:a\r\n" * 150 + b"\r\n")
        told = await reader.read()
        server.should_exit = True
        await serving
        return told

    assert asyncio.run(asked()).startswith(b"HTTP/1.1 431 ")


def test_what_it_does_not_fit_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto, "AutoHTTPProtocol", asyncio.Protocol)
    assert not bound_heads()
    assert "heads_without_limit" in capfd.readouterr().err
