"""Bodies that are too large, too slow, too many, compressed or made to cost: over real HTTP, without Ray."""

import asyncio
import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served_app import READER, served
from starlette.requests import Request
from starlette.types import Message

from rlad_core.client.errors import BusyError, LimitError
from rlad_core.client.forms import TeacherLimits
from services.serve import cluster
from services.serve.http import counting
from services.serve.http.bodies import Body, read_body
from services.serve.http.counting import objects_in
from services.serve.http.problems import MEDIA_TYPE, MOST_FAULTS, ProblemError
from services.serve.http.reading import BodyLimits, BodyReader
from services.teacher.forms import DetailsQuery
from services.teacher.reading import read_request

ROW = {"prompt_token_ids": [5], "response_token_ids": [6]}
FINE = json.dumps({"sequences": [ROW]}).encode()
MIB = 2**20


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(timeout_s=1.0, max_bytes=4 * MIB, total_bytes=6 * MIB) as url:
        yield url


def begun(url: str, announced: int, sent: bytes, source: str = "127.0.0.1") -> socket.socket:
    """A request of which only so much has been sent."""
    place = urlsplit(url)
    connection = socket.create_connection(
        (place.hostname, place.port), timeout=30, source_address=(source, 0)
    )
    head = f"POST /v1/score HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {announced}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["x-request-id"]
    return answer.status_code, answer.json()["detail"]


def test_slow_senders_are_told_so_and_keep_nobody_up(url: str) -> None:
    slow = [begun(url, 100, b"{") for _ in range(300)]
    assert httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    assert httpx.post(f"{url}/v1/score", content=FINE).json()["rows"] == 1
    for connection in slow:
        said = connection.recv(4096).decode()
        assert said.startswith("HTTP/1.1 408 ")
        assert "within 1 s; 1 bytes came" in said
        assert connection.recv(1) == b""
        connection.close()


def test_too_much_is_refused_announced_or_not(url: str) -> None:
    large = b"x" * (4 * MIB + 1)
    assert problem(httpx.post(f"{url}/v1/score", content=large))[0] == 413
    assert problem(httpx.post(f"{url}/v1/score", content=iter([large])))[0] == 413
    # By what is announced alone: nothing has to be sent.
    with begun(url, 2**40, b"") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_memory_of_all_bodies_has_a_limit_and_is_given_back(url: str) -> None:
    callers = ("127.0.0.1", "127.0.0.2")
    held = [begun(url, 3 * MIB, b" " * (3 * MIB - 1), caller) for caller in callers]
    time.sleep(0.3)
    status, detail = problem(httpx.post(f"{url}/v1/score", content=b" " * MIB))
    assert (status, "at most 6291456 are held" in detail) == (429, True)
    for connection in held:
        connection.close()
    # Once their connections are gone, or their time is over.
    deadline = time.monotonic() + 20
    while (answer := httpx.post(f"{url}/v1/score", content=b" " * MIB)).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.status_code == 400


def test_what_has_no_place_is_refused_and_health_is_not(url: str) -> None:
    def wait() -> None:
        with suppress(httpx.ReadTimeout):
            # Refused as long as one of the requests below has the place.
            while httpx.post(f"{url}/v1/wait", content=b"{}", timeout=5).status_code == 429:
                time.sleep(0.01)

    for _ in range(2):
        threading.Thread(target=wait, daemon=True).start()
    deadline = time.monotonic() + 10
    while httpx.post(f"{url}/v1/score", content=FINE).status_code != 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = httpx.post(f"{url}/v1/score", content=FINE)
    assert problem(answer) == (
        429,
        "2 requests are worked on or wait here, and with these 1 it would be more than 2",
    )
    assert answer.headers["retry-after"] == "1"
    assert httpx.get(f"{url}/healthz", timeout=5).status_code == 200


@pytest.fixture(scope="module")
def free_url() -> Iterator[str]:
    with served() as url:
        yield url


def test_one_callers_bodies_leave_room_for_others() -> None:
    reader = BodyReader(BodyLimits(total_bytes=8 * MIB))

    async def whole() -> Message:
        return {"type": "http.request", "body": b" " * MIB, "more_body": False}

    async def hold(stack: AsyncExitStack, caller: str) -> None:
        await stack.enter_async_context(reader.reading(whole, None, caller=caller))

    async def work() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(7):
                await hold(stack, "greedy")
            with pytest.raises(BusyError, match=r"bodies of your requests here have \d+ bytes together"):
                await hold(stack, "greedy")
            await hold(stack, "modest")
            with pytest.raises(BusyError, match=r"the bodies of all requests here"):
                await hold(stack, "modest")
        assert (reader.held, reader._of) == (0, {})

    asyncio.run(work())


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_bodies_unpack_to_counts_as_held(coding: str) -> None:
    content = b" " * (3 * MIB)
    small = gzip.compress(content) if coding == "gzip" else pa.Codec("zstd").compress(content, asbytes=True)
    reader = BodyReader(BodyLimits(total_bytes=4 * MIB))

    async def receive() -> Message:
        return {"type": "http.request", "body": small, "more_body": False}

    async def body() -> None:
        headers = [(b"content-encoding", coding.encode())]
        request = Request({"type": "http", "headers": headers}, receive)
        async with read_body(request, reader, 4 * MIB) as first:
            assert first.content == content
            assert reader.held == len(small) + len(content)
            with pytest.raises(BusyError, match="at most 4194304 are held"):
                async with read_body(request, reader, 4 * MIB):
                    pass
            assert reader.held == len(small) + len(content)
        assert reader.held == 0

    asyncio.run(body())


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_compressed_bodies_and_answers(free_url: str, coding: str) -> None:
    content = gzip.compress(FINE) if coding == "gzip" else pa.Codec("zstd").compress(FINE, asbytes=True)
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding}
    with httpx.stream("POST", f"{free_url}/v1/score", content=content, headers=headers) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, coding)
    whole = (
        gzip.decompress(raw)
        if coding == "gzip"
        else pa.CompressedInputStream(pa.BufferReader(raw), coding).read()
    )
    assert json.loads(whole)["rows"] == 1
    plain = httpx.post(f"{free_url}/v1/score", content=FINE, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    cut = httpx.post(f"{free_url}/v1/score", content=content[:-3], headers=headers)
    assert (problem(cut)[0], "not whole" in problem(cut)[1]) == (400, True)


def test_a_small_body_that_unpacks_to_a_large_one(free_url: str) -> None:
    for coding, bomb in (
        ("gzip", gzip.compress(b" " * (65 * MIB))),
        ("zstd", pa.Codec("zstd").compress(b" " * (65 * MIB), asbytes=True)),
    ):
        told = httpx.post(f"{free_url}/v1/score", content=bomb, headers={"Content-Encoding": coding})
        assert (problem(told)[0], "unpacked" in problem(told)[1]) == (413, True)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "x" * 1000])
def test_unknown_codings(free_url: str, coding: str) -> None:
    told = httpx.post(f"{free_url}/v1/score", content=FINE, headers={"Content-Encoding": coding})
    assert problem(told)[0] == 415


def test_codings_in_two_headers(free_url: str) -> None:
    twice = [("Content-Encoding", "gzip"), ("Content-Encoding", "br")]
    told = httpx.post(f"{free_url}/v1/score", content=gzip.compress(FINE), headers=twice)
    assert problem(told) == (415, "'gzip, br': send gzip, zstd or none")


def read(body: bytes) -> Any:
    return read_request(Body(body, "json", "json"), DetailsQuery(), READER, "sha256:mine", TeacherLimits())


BOMBS = {
    "numbers": b'{"sequences":[' + b"1," * (5 * MIB) + b"1]}",
    "objects": b'{"sequences":[' + b"{}," * (3 * MIB) + b"{}]}",
    "rows": b'{"sequences":[' + b'{"prompt":"a","response":"b"},' * (MIB // 2) + b"{}]}",
    "levels": b"[" * (10 * MIB),
    "token ids": b'{"sequences":[{"prompt_token_ids":[' + b"1," * (5 * MIB) + b'1],"response":"b"}]}',
    "nested ids": b'{"sequences":[{"response":"b","prompt_token_ids":[' + b"[]," * (3 * MIB) + b"[]]}]}",
    "named ids": b'{"sequences":[{"prompt":"a","response_token_ids":[1],"named_token_ids":['
    + b"0," * (5 * MIB)
    + b"0]}]}",
    "end tokens": b'{"end_token_ids":[' + b"999," * (5 * MIB // 2) + b'1],"sequences":[]}',
    "unknown fields": b"{" + b"".join(b'"%07d":1,' % n for n in range(900_000)) + b'"sequences":[]}',
    "one key again and again": b"{" + b'"entropy":true,' * (700_000) + b'"sequences":[]}',
    "text": b'{"sequences":[{"response":"b","prompt":"' + b"a " * (5 * MIB) + b'"}]}',
    "messages": b'{"sequences":[{"response":"b","messages":['
    + b",".join([b'{"role":"a","content":""}'] * (MIB // 2))
    + b"]}]}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_invalid_costs_little(name: str) -> None:
    body = BOMBS[name]
    assert len(body) > 9 * MIB
    tracemalloc.start()
    try:
        with pytest.raises((ProblemError, LimitError)) as refused:
            read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body)
    if isinstance(refused.value, ProblemError):
        assert 400 <= refused.value.problem.status < 500
        assert len(refused.value.problem.errors or []) <= MOST_FAULTS
        assert len(refused.value.problem.detail) < 1000


def test_a_full_valid_request_takes_little_too() -> None:
    rows = [{"prompt_token_ids": list(range(300, 556)), "response_token_ids": [1] * 64}] * 3000
    body = json.dumps({"sequences": rows}).encode()
    tracemalloc.start()
    try:
        assert read(body).sequences.num_rows == 3000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ("[", 422, "(body)"),
        ('{"sequences":[', 400, ""),
        ('{"sequences":[{}]}', 422, "sequences[0]"),
        ({"sequences": [{**ROW, "prompt": "x"}]}, 422, "sequences[0]"),
        ({"sequences": [{**ROW, "extra": 1}]}, 422, "sequences[0].extra"),
        ({"sequences": [ROW], "extra": 1}, 422, "extra"),
        ({"sequences": [ROW], "e" * 65: 1}, 422, "(body)"),
        ({"sequences": [ROW], "entropy": 0}, 422, "entropy"),
        ({"sequences": [ROW], "top_k": "2"}, 422, "top_k"),
        ({"sequences": [ROW], "end_token_ids": [1, "2"]}, 422, "end_token_ids[1]"),
        ({"sequences": [ROW], "end_token_ids": None}, 422, "end_token_ids"),
        ({"sequences": [ROW], "end_token_ids": [1] * 1025}, 422, "end_token_ids"),
        ({"sequences": [{**ROW, "id": 5}]}, 422, "sequences[0].id"),
        ({"sequences": [{**ROW, "prompt_token_ids": [1, 2.5]}]}, 422, "sequences[0].prompt_token_ids[1]"),
        ({"sequences": [{**ROW, "prompt_token_ids": [1, -1]}]}, 422, "sequences[0].prompt_token_ids[1]"),
        ({"sequences": [{**ROW, "prompt_token_ids": [2**70]}]}, 422, "sequences[0].prompt_token_ids"),
        ({"sequences": [{**ROW, "prompt_token_ids": None}]}, 422, "sequences[0].prompt_token_ids"),
        ({"sequences": [{**ROW, "prompt_token_ids": []}]}, 422, "sequences[0].prompt_token_ids"),
        ({"sequences": [{**ROW, "prompt_token_ids": [1] * 1001}]}, 422, "sequences[0].prompt_token_ids"),
        ({"sequences": [{"prompt": "a " * 50_000, "response": "b"}]}, 422, "sequences[0].prompt"),
        ({"sequences": [{"prompt": "a " * 1001, "response": "b"}]}, 422, "sequences[0].prompt"),
        ({"sequences": [{"prompt": "a", "response": "b " * 10_000}]}, 422, "sequences[0].response"),
        ({"sequences": [{**ROW, "named_token_ids": [5]}]}, 422, "sequences[0].named_token_ids[0]"),
        ({"sequences": [{**ROW, "named_token_ids": [[5], 6]}]}, 422, "sequences[0].named_token_ids[1]"),
        ({"sequences": [{**ROW, "named_token_ids": [[5], [6]]}]}, 422, "sequences[0].named_token_ids"),
    ],
)
def test_faults_are_named_by_their_place(body: Any, status: int, where: str) -> None:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(ProblemError) as refused:
        read(content)
    assert refused.value.problem.status == status
    assert [fault.path for fault in refused.value.problem.errors or []] == ([where] if where else [])


@pytest.mark.parametrize("before", ["", "\N{EURO SIGN}" * 30_000])
def test_a_byte_that_is_no_utf_8_is_found(before: str) -> None:
    shown = "du caf\N{LATIN SMALL LETTER E WITH ACUTE} de M"
    body = b'{"sequences":[{"prompt":"' + (before + shown).encode() + b'\xe9lanie","response":"b"}]}'
    with pytest.raises(ProblemError, match=rf"byte 0xe9 behind '.*{shown}' is no UTF-8"):
        read(body)


def test_counts_are_looked_at_before_texts_are_tokenized() -> None:
    class NoTokenizer:
        def __call__(self, *_: Any, **__: Any) -> None:
            raise AssertionError("tokenized")

    reader = replace(READER, tokenizer=NoTokenizer())  # type: ignore[arg-type]
    limits = TeacherLimits(max_sequences_per_request=2, max_tokens_per_request=100)
    for rows in ([{"prompt": "a", "response": "b"}] * 3, [{"prompt": "a" * 6400, "response": "b"}]):
        body = Body(json.dumps({"sequences": rows}).encode(), "json", "json")
        with pytest.raises(LimitError):
            read_request(body, DetailsQuery(), reader, "sha256:mine", limits)


def plainly_counted(text: str) -> int:
    found, inside, escaping = 0, False, False
    for letter in text:
        if escaping:
            escaping = False
        elif inside and letter == "\\":
            escaping = True
        elif letter == '"':
            inside = not inside
        else:
            found += letter == "{" and not inside
    return found


@given(
    st.recursive(st.text('{}"\\a'), lambda x: st.lists(x) | st.dictionaries(st.text('{"\\'), x)),
    st.sampled_from([1, 2, 3, 64]),
)
def test_objects_are_counted_outside_of_strings(value: Any, piece: int) -> None:
    text = json.dumps(value)
    before, counting._PIECE = counting._PIECE, piece
    try:
        assert min(objects_in(text.encode(), 0), 1) == min(plainly_counted(text), 1)
        assert objects_in(text.encode(), plainly_counted(text)) >= plainly_counted(text)
        assert objects_in(text.encode(), 10**6) >= plainly_counted(text)
        for enough in range(plainly_counted(text)):
            assert objects_in(text.encode(), enough) > enough
    finally:
        counting._PIECE = before


def test_limits_come_from_the_environment() -> None:
    given = {"RLAD_MAX_BODY_MIB": "1", "RLAD_BODY_MEMORY_MIB": "2.5", "RLAD_BODY_TIMEOUT_S": "3"}
    assert BodyLimits.of_environment(given) == BodyLimits(MIB, 5 * MIB // 2, 3.0)
    assert BodyLimits.of_environment({}) == BodyLimits()
    for wrong in ("0", "-1", "x", "inf", "nan"):
        with pytest.raises(ValueError, match=f"RLAD_BODY_TIMEOUT_S: '{wrong}' is no positive number"):
            BodyLimits.of_environment({"RLAD_BODY_TIMEOUT_S": wrong})


@pytest.mark.parametrize("variable", ["RLAD_BODY_TIMEOUT_S", "RLAD_ANSWER_MEMORY_MIB"])
def test_a_limit_that_is_none_is_told_before_ray_starts(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> None:
        raise AssertionError("it starts")

    monkeypatch.setattr(cluster, "_quiet", start)
    monkeypatch.setenv(variable, "abc")
    with (
        pytest.raises(ValueError, match=f"{variable}: 'abc' is no positive number"),
        cluster.embedded_ray(num_cpus=1),
    ):
        pass
