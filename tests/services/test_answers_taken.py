"""Clients that take their answers slowly or not at all: over real HTTP, without Ray."""

import asyncio
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from certificates import make_certificate
from served_app import running
from starlette.types import Receive, Scope, Send

from services.serve.http.slow_clients.answers_taken import AnswersTaken
from services.serve.http.slow_clients.clients_behind import LEAST
from services.serve.http.slow_clients.unsent import UNSENT

MIB = 2**20
TIMEOUT_S = 1.0
LARGE = 6 * MIB
"""More than kernels hold of an answer whose client is on the same machine, all but the smallest."""
ENDS_WITHIN_S = 60.0


@cache
def content(size: int) -> bytes:
    """Bytes that are not the same anywhere."""
    return random.Random(size).randbytes(size)


async def left(receive: Receive) -> None:
    """Ends when the client has left; what is told before is how much it has taken."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class Answers:
    """``/whole/SIZE`` in one message, ``/parts/SIZE/COUNT`` in parts, ``/thinking/COUNT`` in parts that take
    longer than clients may, ``/endless`` until the client has left.
    """

    left: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, kind, *numbers = scope["path"].split("/")
        headers = [(b"content-length", numbers[0].encode())] if kind == "whole" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def body(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        match kind, [int(number) for number in numbers]:
            case "whole", [size]:
                await body(content(size), more=False)
            case "parts", [size, count]:
                for _ in range(count):
                    await body(content(size))
                await body(b"", more=False)
            case "thinking", [count]:
                for place in range(count):
                    await asyncio.sleep(1.5 * TIMEOUT_S)
                    await body(b"%d" % place, more=place < count - 1)
            case "endless", []:
                assert (await receive())["type"] == "http.request"
                leaves = asyncio.ensure_future(left(receive))
                while not leaves.done():
                    await body(content(MIB))
                    await asyncio.sleep(0)
                self.left.set()


@dataclass
class Served:
    """Answers in a real server, and what stands before them."""

    url: str
    answers: Answers
    first: AnswersTaken

    def asks(
        self, path: str, *, receives: int = 0, small_buffers: bool = False, more: str = ""
    ) -> socket.socket:
        """A connection that has asked and read nothing.

        Args:
            receives: bytes of its buffer; 0: as many as the kernel likes.
            small_buffers: on both sides.
        """
        place = urlsplit(self.url)
        connection = socket.socket()
        connection.settimeout(ENDS_WITHIN_S)
        if receives or small_buffers:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives or 4096)
        if small_buffers:  # the server's has room for some segments
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.connect((place.hostname, place.port))
        if place.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n{more}\r\n".encode())
        return connection


@pytest.fixture(scope="module", params=["uvloop httptools", "asyncio h11"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    loop, http = request.param.split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAD_ANSWER_TIMEOUT_S", str(TIMEOUT_S))
        answers = Answers()
        first = AnswersTaken(answers)
    with running(first, loop=loop, http=http) as url:
        yield Served(url, answers, first)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while first._behind._waits:
            assert time.monotonic() < deadline, first._behind._waits
            time.sleep(0.05)


def ends(connection: socket.socket) -> bool:
    """Whether the connection breaks, without a look at what came."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(1000 * ENDS_WITHIN_S))


@pytest.mark.parametrize("size", [0, 1, LEAST - 1, LEAST, LEAST + 1, 3 * LEAST, LARGE + 17])
def test_answers_are_what_they_were(served: Served, size: int) -> None:
    with httpx.Client(base_url=served.url, timeout=60) as http:
        whole = http.get(f"/whole/{size}")
        assert (whole.content == content(size), whole.headers["content-length"]) == (True, str(size))
        assert http.get(f"/parts/{size}/3").content == 3 * content(size)
        head = http.head(f"/whole/{size}")
        assert (head.content, head.headers["content-length"]) == (b"", str(size))
        # The connection goes on behind each of them.
        assert http.get("/whole/5").content == content(5)


@pytest.mark.parametrize(
    ("path", "small_buffers", "more"),
    [
        (f"/whole/{LARGE}", False, ""),
        (f"/parts/{MIB}/20", False, ""),
        (f"/parts/1000/{LARGE // 1000}", False, ""),
        # What the server has done with, and only waits for the client to take: less than a piece.
        (f"/whole/{LEAST}", True, ""),
        (f"/whole/{LEAST}", True, "Connection: close\r\n"),
    ],
)
def test_who_takes_nothing_is_cut_off_and_nobody_else(
    served: Served, path: str, small_buffers: bool, more: str
) -> None:
    waiting = [served.asks(path, small_buffers=small_buffers, more=more) for _ in range(20)]
    assert httpx.get(f"{served.url}/whole/{LARGE}", timeout=60).content == content(LARGE)
    for connection in waiting:
        assert ends(connection)
        connection.close()
    assert httpx.get(f"{served.url}/whole/5").content == content(5)


def test_little_of_an_answer_lies_on_its_connection(served: Served) -> None:
    with served.asks(f"/whole/{10 * LARGE}") as connection:
        most = 0
        poll = select.poll()
        poll.register(connection, 0)
        while not poll.poll(10):
            waits = list(served.first._behind._waits)
            most = max([most, *(each.get_write_buffer_size() for each in waits)])
    assert LEAST // 2 < most < 2 * LEAST


def test_who_takes_a_byte_now_and_then_is_cut_off(served: Served) -> None:
    with served.asks(f"/whole/{LARGE}") as connection:
        over = threading.Event()

        def take() -> None:
            while not over.wait(0.1):
                connection.recv(1)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        assert ends(connection)
        over.set()
        thread.join(ENDS_WITHIN_S)


@pytest.mark.parametrize("path", [f"/whole/{2 * LARGE}", f"/parts/1000/{2 * LARGE // 1000}"])
def test_who_takes_a_little_all_the_time_gets_it_all(served: Served, path: str) -> None:
    with served.asks(path, more="Connection: close\r\n", receives=65536) as connection:
        came = bytearray()
        began = time.monotonic()
        while part := connection.recv(65536):
            came += part
            # Much faster than it has to be, and for longer than one who takes nothing may wait.
            time.sleep(max(0.0, began + len(came) / (20 * LEAST / TIMEOUT_S) - time.monotonic()))
    assert time.monotonic() - began > 2 * TIMEOUT_S
    if path.startswith("/whole"):
        assert came.endswith(b"\r\n\r\n" + content(2 * LARGE))
    else:
        assert came.count(content(1000)) == 2 * LARGE // 1000
        assert came.endswith(b"\r\n0\r\n\r\n")


def test_a_slow_engine_is_not_the_clients_fault(served: Served) -> None:
    assert httpx.get(f"{served.url}/thinking/2", timeout=60).content == b"01"


def test_the_work_for_who_takes_nothing_ends(served: Served) -> None:
    served.answers.left.clear()
    with served.asks("/endless") as connection:
        assert ends(connection)
    assert served.answers.left.wait(ENDS_WITHIN_S)


def test_who_leaves_in_the_middle_is_forgotten(served: Served) -> None:
    for _ in range(20):
        with served.asks(f"/whole/{LARGE}") as connection:
            connection.recv(1000)
    assert httpx.get(f"{served.url}/whole/5").content == content(5)
    # That nothing is left of them is seen to at the end of this server.


@contextmanager
def by_tls(folder: Path, loop: str) -> Iterator[Served]:
    certificate, key = make_certificate(folder)
    answers = Answers()
    first = AnswersTaken(answers)
    # That uvicorn ends a connection, and TLS does so with what lies on it, is no part of this.
    options = {"loop": loop, "timeout_keep_alive": 3600, "ssl_certfile": certificate, "ssl_keyfile": key}
    with running(first, **options) as url:
        yield Served(url, answers, first)


LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


@LOOPS
def test_the_same_by_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    monkeypatch.setenv("RLAD_ANSWER_TIMEOUT_S", str(TIMEOUT_S))
    with by_tls(tmp_path, loop) as served:
        # Of the second all is encrypted, and what the kernel does not take lies below the layer that does it.
        waiting = [served.asks(f"/whole/{2 * LARGE}"), served.asks(f"/whole/{LEAST}", small_buffers=True)]
        for path in (f"/whole/{LARGE}", "/whole/0", f"/parts/{LARGE}/1"):
            whole = httpx.get(served.url + path, timeout=60, verify=False)
            assert whole.content == content(int(path.split("/")[2]))
        for connection in waiting:
            assert ends(connection)
            connection.close()
        deadline = time.monotonic() + ENDS_WITHIN_S
        while served.first._behind._waits:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@LOOPS
def test_by_tls_an_answer_is_not_over_before_it_has_left_this_process(tmp_path: Path, loop: str) -> None:
    with by_tls(tmp_path, loop) as served:
        began = time.monotonic()
        with served.asks(f"/whole/{LEAST}", small_buffers=True) as connection:
            came = connection.recv(1)
            time.sleep(0.5)  # in which all is encrypted that will be
            assert (UNSENT.count(time.monotonic()), UNSENT.count(began)) == (1, 0)
            while not came.endswith(content(LEAST)):
                came += connection.recv(65_536)
            deadline = time.monotonic() + ENDS_WITHIN_S
            while UNSENT.count(time.monotonic()):
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_what_is_not_sent_whole_is_counted_until_its_client_has_taken_it(served: Served) -> None:
    def left(before: float) -> int:
        return UNSENT.count(before)

    began = time.monotonic()
    for path in (f"/whole/{LARGE}", f"/parts/1000/{LARGE // 1000}", f"/whole/{LEAST}"):
        with served.asks(path, small_buffers=True, more="Connection: close\r\n") as connection:
            connection.recv(1)
            asked = time.monotonic()
            assert (left(asked), left(began)) == (1, 0)
            while connection.recv(65_536):
                pass
        deadline = time.monotonic() + ENDS_WITHIN_S
        while left(asked):
            assert time.monotonic() < deadline
            time.sleep(0.01)
