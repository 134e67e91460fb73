"""Requests to other services: what is repeated, what is not, and what is said in the end."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from rlad_core.client.bearer import token_from
from rlad_core.client.endpoint import Endpoint, UnauthorizedError
from rlad_core.client.errors import InvalidRequestError, LimitError, ServiceError, UnknownNameError
from services.serve.http.auth import Tokens

Script = list[tuple[int, dict[str, str], str]]

BREAKS, DRIPS = 0, 1
"""In place of a status: the connection breaks before the answer; its body comes a byte every tenth second."""


class Scripted(ThreadingHTTPServer):
    """Answers one request after the other as its script says, and notes what came."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[tuple[float, str, str | None]] = []
        self.takes_s = 0.0
        self.connections: set[tuple[str, int]] = set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((time.monotonic(), self.path, self.headers.get("authorization")))
        self.server.connections.add(self.client_address)
        status, headers, body = (
            self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        )
        if status == BREAKS:
            self.close_connection = True
            return
        time.sleep(self.server.takes_s)
        self.send_response(200 if status == DRIPS else status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if status != DRIPS:
            self.wfile.write(body.encode())
            return
        try:
            for byte in body.encode():
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        except OSError:  # the client had enough
            self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Scripted]]:
    servers: list[Scripted] = []

    def started(script: Script) -> Scripted:
        server = Scripted(script)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


FINE = (200, {}, "{}")


def post(server: Scripted, times: int = 1, **settings: object) -> list[httpx.Response]:
    async def body() -> list[httpx.Response]:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        async with Endpoint(url, **settings) as endpoint:
            return [
                await endpoint.request("POST", "/v1/score", what="the sequences 'a', 'b'", content=b"x")
                for _ in range(times)
            ]

    return asyncio.run(body())


@pytest.mark.parametrize("status", [BREAKS, 429, 502, 503, 504])
def test_what_passes_is_repeated(serve: Callable[[Script], Scripted], status: int) -> None:
    server = serve([(status, {}, "later"), FINE])
    assert post(server, token="secret")[0].status_code == 200
    assert [(path, token) for _, path, token in server.seen] == [("/v1/score", "Bearer secret")] * 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequestError),
        (401, UnauthorizedError),
        (404, UnknownNameError),
        (413, LimitError),
        (422, InvalidRequestError),
        (500, ServiceError),
    ],
)
def test_what_stays_wrong_is_not(
    serve: Callable[[Script], Scripted], status: int, error: type[Exception]
) -> None:
    server = serve([(status, {}, '{"detail": "token 7 of sequence b is odd"}')])
    says = rf"/v1/score answered {status}: token 7 of sequence b is odd \(asked for the sequences 'a', 'b'\)"
    with pytest.raises(error, match=says):
        post(server)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("url", "headers", "fault"),
    [
        ("teacher:8000", {}, "UnsupportedProtocol"),
        ("http://127.0.0.1:{port}", {"Accept": "two\nlines"}, "LocalProtocolError"),
        ("http://127.0.0.1:port", {}, "InvalidURL"),
    ],
)
def test_what_can_never_be_sent_is_told_at_once(
    serve: Callable[[Script], Scripted], url: str, headers: dict[str, str], fault: str
) -> None:
    url = url.replace("{port}", str(serve([FINE]).server_address[1]))

    async def body() -> None:
        async with Endpoint(url, timeout_s=3) as endpoint:
            await endpoint.request("POST", "/v1/score", what="the sequences 'a', 'b'", headers=headers)

    with pytest.raises(ServiceError, match=rf"POST {url}/v1/score cannot be asked .*'a', 'b': {fault}"):
        asyncio.run(body())


def test_an_answer_that_drips_is_cut_and_asked_for_again(serve: Callable[[Script], Scripted]) -> None:
    """Each silence is short; it is the attempt as a whole that takes too long."""
    server = serve([(DRIPS, {}, "x" * 100), FINE])
    started = time.monotonic()
    assert post(server, call_timeout_s=0.5)[0].text == "{}"
    assert time.monotonic() - started < 5
    server.script = [(DRIPS, {}, "x" * 100)]
    with pytest.raises(TimeoutError, match=r"the last one ended with: no whole answer within 0\.5 s"):
        post(server, call_timeout_s=0.5, timeout_s=2)


def test_waiting_for_a_connection_takes_nothing_from_the_time_of_a_request(
    serve: Callable[[Script], Scripted],
) -> None:
    server = serve([FINE])
    server.takes_s = 0.4

    async def body() -> None:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        async with Endpoint(url, connections=1, timeout_s=1.0) as endpoint:
            await asyncio.gather(*(endpoint.request("POST", "/v1/score", what=str(n)) for n in range(4)))

    asyncio.run(body())


def test_a_wait_for_a_connection_ends_and_says_so() -> None:
    async def body() -> None:
        async with Endpoint("http://127.0.0.1:9", connections=1, timeout_s=0.1) as endpoint:
            await endpoint._places.acquire()
            await endpoint.request("POST", "/v1/score", what="the sequences 'a', 'b'")

    with pytest.raises(TimeoutError, match=r"waited 0\.2 s for one of the 1 connections to .*'a', 'b'"):
        asyncio.run(body())


def test_retry_after_is_kept(serve: Callable[[Script], Scripted]) -> None:
    server = serve([(429, {"Retry-After": "2"}, "full"), FINE])
    post(server)
    (first, *_), (second, *_) = server.seen
    assert second - first >= 2


def test_retry_after_as_c_writes_a_date_is_kept_too(serve: Callable[[Script], Scripted]) -> None:
    """The third form that a recipient must read (RFC 9110, 5.6.7)."""
    then = datetime.now(UTC) + timedelta(seconds=3)
    server = serve([(429, {"Retry-After": then.strftime("%a %b %e %H:%M:%S %Y")}, "full"), FINE])
    post(server)
    assert datetime.now(UTC) >= then.replace(microsecond=0)


@pytest.mark.parametrize(
    "odd",
    [
        "Thu, 31 Dec 99999999999999999999 23:59:59 GMT",
        "Thu, 31 Dec 2026 23:59:59 +99999999999999999",
        "Thu, 31 Dec 0000 99:00:00 GMT",
        "soon",
        "-3",
        "\N{SUPERSCRIPT TWO}",
    ],
)
def test_a_retry_after_that_says_nothing_is_as_if_there_were_none(
    serve: Callable[[Script], Scripted], odd: str
) -> None:
    server = serve([(503, {"Retry-After": odd}, "full"), FINE])
    post(server)
    assert len(server.seen) == 2


def test_the_last_error_names_endpoint_status_and_sequences(serve: Callable[[Script], Scripted]) -> None:
    server = serve([(503, {}, '{"detail": "engine restarts"}')])
    says = (
        r"POST http://127\.0\.0\.1:\d+/v1/score did not succeed within 1\.5 s in \d+ attempts, for the "
        r"sequences 'a', 'b'; the last one ended with: status 503, engine restarts"
    )
    with pytest.raises(TimeoutError, match=says):
        post(server, timeout_s=1.5)
    assert len(server.seen) >= 2


def test_nobody_there_is_named_too() -> None:
    async def body() -> None:
        async with Endpoint("http://127.0.0.1:9", timeout_s=1.0) as endpoint:
            await endpoint.request("GET", "/v1/info", what="the teacher's settings")

    with pytest.raises(TimeoutError, match=r"for the teacher's settings; the last one ended with: Connect"):
        asyncio.run(body())


def test_connections_are_reused(serve: Callable[[Script], Scripted]) -> None:
    server = serve([FINE])
    post(server, times=5)
    assert len(server.seen) == 5
    assert len(server.connections) == 1


def test_tokens_come_from_where_the_recipe_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEACHER_TOKEN", " abc\n")
    assert token_from("TEACHER_TOKEN", None) == "abc"
    assert token_from(None, None) is None
    (file := tmp_path / "token").write_text("\n abc \n")
    assert token_from(None, str(file)) == "abc"
    with pytest.raises(ValueError, match="NO_SUCH_TOKEN holds no token"):
        token_from("NO_SUCH_TOKEN", None)
    with pytest.raises(ValueError, match="there is no token in /nowhere"):
        token_from(None, "/nowhere")
    file.write_text(" \n\n")
    with pytest.raises(ValueError, match=r"there is no token in .*: its lines are empty"):
        token_from(None, str(file))
    file.write_bytes(b"a\x00b\n")
    with pytest.raises(ValueError, match="token: the token has control characters"):
        token_from(None, str(file))
    monkeypatch.setenv("TEACHER_TOKEN", "two\nlines")
    with pytest.raises(ValueError, match="TEACHER_TOKEN: the token has line breaks"):
        token_from("TEACHER_TOKEN", None)


@pytest.mark.parametrize(
    "line", [b"secret", b"my secret", b"a  b\tc", "pässword €".encode(), b"\xff\x80\xe9", b'"quoted, "\\']
)
def test_a_token_is_sent_as_the_bytes_of_its_line(
    serve: Callable[[Script], Scripted], tmp_path: Path, line: bytes
) -> None:
    (file := tmp_path / "tokens").write_bytes(b"\r\n \t" + line + b" \r\nanother\n")
    server = serve([FINE])
    post(server, token=token_from(None, str(file)))
    [(_, _, sent)] = server.seen
    assert sent is not None
    assert sent.encode("latin-1") == b"Bearer " + line
    assert Tokens({"RLAD_API_TOKENS_FILE": str(file)}).accept(sent)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("sec\nret", "line breaks"),
        ("secret\r\n", "line breaks"),
        (" secret", "a blank"),
        ("secret\0", "control"),
        ("secret\ud800", "half"),
    ],
)
def test_a_token_that_no_header_takes_is_refused_unseen(token: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        Endpoint("http://nowhere", token=token)
    assert "sec" not in repr(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
