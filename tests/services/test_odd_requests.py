"""Requests that no usual client sends, and what the proxy says to pages: over real HTTP, without Ray."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from served_app import running, served
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http import auto

from services.serve.http.body_first import BodyFirst
from services.serve.http.heads import bound_heads
from services.serve.http.problems import MEDIA_TYPE
from services.serve.http.proxy import ProxyProblems
from services.serve.http.slow_clients.answers_taken import AnswersTaken

SITE = "http://localhost:3000"
UPGRADE = """Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    before = auto.AutoHTTPProtocol
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "AutoHTTPProtocol", before)
        patch.setenv("RLAD_ALLOWED_ORIGINS", SITE)
        assert bound_heads()
        with served(max_bytes=2**20, timeout_s=1.0) as url:
            yield url


def said(url: str, sent: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what is answered to these characters."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(sent.replace("\n", "\r\n").encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def asked(line: str, *headers: str, body: str = "") -> str:
    """A request on a connection that ends with the answer."""
    return "\n".join([f"{line} HTTP/1.1", "Host: localhost", *headers, "Connection: close", "", body])


@pytest.mark.parametrize(
    ("length", "status"),
    [("0" * 5000 + "2", 422), ("2", 422), ("0" * 5000 + "9" * 18, 413), ("9" * 18, 413)],
)
def test_a_length_has_as_many_digits_as_it_likes(url: str, length: str, status: int) -> None:
    told, headers, body = said(url, asked("POST /v1/score", f"Content-Length: {length}", body="{}"))
    assert (told, headers["content-type"]) == (status, MEDIA_TYPE), body


@pytest.mark.parametrize("path", ["/v1/score", "/-/routes"])
def test_nothing_here_is_a_web_socket(path: str) -> None:
    """Nobody behind the door looks at one, and so at its token."""
    inside: list[str] = []

    async def seen(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(scope["type"])

    with running(AnswersTaken(BodyFirst(ProxyProblems(seen)))) as url:
        request = asked(f"GET {path}").replace("Connection: close\n", UPGRADE)
        assert (said(url, request)[0], inside) == (403, [])


@pytest.mark.parametrize("sent", ["GARBAGE\n\n", "BREW /v1/info HTTP/1.1\nHost: localhost\n\n"])
def test_what_is_no_http_is_told_as_a_problem(url: str, sent: str) -> None:
    status, headers, body = said(url, sent)
    assert (status, headers["content-type"]) == (400, MEDIA_TYPE), body


def test_the_server_itself_may_be_asked_whether_it_is_there(url: str) -> None:
    status, _, body = said(url, asked("OPTIONS *"))
    assert (status, body) == (204, b"")


def test_no_address_is_made_of_what_a_caller_says_is_ours(url: str) -> None:
    for path in ("/v1/score/", "/docs/"):
        answer = httpx.post(url + path, json={}, headers={"Host": "localhost"})
        assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_a_page_that_may_ask_may_read_what_the_proxy_refuses(url: str) -> None:
    """What is too large, too long, too slow; and to others nothing is told of it."""
    of_page = [f"Origin: {SITE}"]
    requests = {
        413: asked("POST /v1/score", f"Content-Length: {2**21}", *of_page),
        414: asked("GET /v1/info?" + "a" * 33_000, *of_page),
        408: asked("POST /v1/score", "Content-Length: 10", *of_page, body="{"),
    }
    for status, request in requests.items():
        told, headers, _ = said(url, request)
        assert (told, headers.get("access-control-allow-origin")) == (status, SITE)
        assert headers["vary"] == "Origin"
    other = said(url, requests[413].replace(SITE, "https://evil.example"))
    assert (other[0], "access-control-allow-origin" in other[1]) == (413, False)


def test_what_a_service_lets_a_page_read_is_said_once(url: str) -> None:
    answer = httpx.post(f"{url}/v1/score", content=b"{}", headers={"Origin": SITE, "Host": "localhost"})
    assert answer.headers.get_list("access-control-allow-origin") == [SITE]
    assert answer.headers["vary"].count("Origin") == 1
