"""Requests that offer another protocol, and heads of which two requests could be made: over real HTTP."""

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from served_app import running
from starlette.types import Message, Receive, Scope, Send

from services.serve.http.heads import BoundedHeads
from services.serve.http.problems import MEDIA_TYPE

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"
SOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"


async def told_back(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what came: method, path, names of headers and the body."""
    body, more = b"", True
    while more:
        message: Message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = sorted(name.decode() for name, _ in scope["headers"])
    told = json.dumps([scope["method"], scope["path"], names, body.decode()]).encode()
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    with running(told_back, http=BoundedHeads) as url:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port


def answers(place: tuple[str, int], *pieces: bytes) -> list[tuple[bytes, bytes]]:
    """Head and body of each answer, until a request behind the pieces is answered, or the connection ends."""
    last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    told = b""
    with socket.create_connection(place, timeout=30) as connection:
        try:
            for piece in (*pieces, last):
                connection.sendall(piece)
                time.sleep(0.1)  # so that each comes by itself
            while piece := connection.recv(65_536):
                told += piece
        except ConnectionError:  # refused before all of it had come
            pass
    found = [answer.partition(b"\r\n\r\n") for answer in told.split(b"HTTP/1.1 ")[1:]]
    return [(head, body) for head, _, body in found]


def post(*headers: bytes) -> bytes:
    return b"".join([b"POST /a?b=c HTTP/1.1\r\nHost: a\r\n", *headers, b"\r\n"])


LENGTH = b"Content-Length: %d\r\n" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER)


@pytest.mark.parametrize(
    "pieces",
    [
        (post(H2C, LENGTH) + INNER,),
        (post(H2C, LENGTH), INNER),
        (post(LENGTH, H2C)[:-3], post(LENGTH, H2C)[-3:] + INNER[:5], INNER[5:]),
        (post(H2C, CHUNKED) + CHUNKS,),
        (post(H2C, CHUNKED), CHUNKS[:9], CHUNKS[9:]),
    ],
    ids=["together", "apart", "in the head", "chunked", "chunked apart"],
)
def test_a_body_is_the_request_s_whatever_its_head_offers(
    place: tuple[str, int], pieces: tuple[bytes, ...]
) -> None:
    first, *others = answers(place, *pieces)
    assert first[0].startswith(b"200 ")
    method, path, names, body = json.loads(first[1])
    assert (method, path, body.encode()) == ("POST", "/a", INNER)
    assert set(names) <= {"connection", "content-length", "host", "transfer-encoding"}
    assert [json.loads(body)[1] for _, body in others] == ["/last"]


def test_offers_in_a_row_are_answered_one_by_one(place: tuple[str, int]) -> None:
    get = b"GET /g HTTP/1.1\r\nHost: a\r\n" + H2C + b"\r\n"
    told = answers(place, get + post(H2C, LENGTH) + INNER + get + get)
    assert [json.loads(body)[1] for _, body in told] == ["/g", "/a", "/g", "/g", "/last"]


def test_what_else_connection_says_holds(place: tuple[str, int]) -> None:
    closing = b"Connection: close\r\n" + H2C
    assert len(answers(place, post(closing, LENGTH) + INNER)) == 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("body", [b"", INNER])
def test_a_web_socket_is_refused_at_once(place: tuple[str, int], method: bytes, body: bytes) -> None:
    head = b"%s /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % (method, len(body))
    [(told, problem)] = answers(place, head + SOCKET + b"\r\n" + body)
    assert told.startswith(b"403 ")
    assert f"Content-Type: {MEDIA_TYPE}".encode() in told
    assert json.loads(problem)["title"] == "No WebSocket"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "and not 2"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n" + H2C + b"\r\n", "and not 2"),
        (b"GET /a HTTP/1.1\r\nX: a\r\n\r\n", "and not none"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER, "CONNECT"),
    ],
)
def test_a_head_that_may_mean_two_things_is_refused(place: tuple[str, int], head: bytes, why: str) -> None:
    """By who else is asked another host may be read of it (RFC 9112, 3.2)."""
    [(told, problem)] = answers(place, head)
    assert told.startswith(b"400 ")
    assert why in json.loads(problem)["detail"]
