"""Answers that are sent as they are made: what the main route tells, up to where they break off."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from answers_of_jobs import IN_A_PART, ROWS, SERVICES

from rlad_core import schema
from rlad_core.client.errors import BusyError
from services.serve.http.answers import AnswerEncoding, Part, Telling
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.encodings import CODINGS
from services.serve.http.streams import streamed


async def parts(whole: pa.Table, fails_at: int) -> AsyncIterator[Part]:
    for start in range(0, ROWS, IN_A_PART):
        if start == fails_at:
            raise BusyError("too much waits", 1.0)
        yield start, whole.slice(start, IN_A_PART)


def sent(
    telling: Telling,
    whole: pa.Table,
    answer: AnswerEncoding,
    fails_at: int = -1,
    coding: str = "identity",
) -> tuple[list[bytes], str]:
    """What is sent, and why it breaks off; in the end the request's place is free in any case."""
    given_back: list[bool] = []

    async def body() -> tuple[list[bytes], str]:
        held = AsyncExitStack()
        held.callback(given_back.append, True)
        told = await streamed(parts(whole, fails_at), telling, Body(b"", "json", answer, coding), held)
        headers = told._answer.headers
        assert headers["vary"] == "Accept, Accept-Encoding"
        assert headers.get("content-encoding", "identity") == coding
        chunks: list[bytes] = []
        try:
            async with told._held:
                chunks.extend([bytes(chunk) async for chunk in told._answer.body_iterator])  # type: ignore[arg-type]
        except BusyError as error:
            return chunks, str(error)
        return chunks, ""

    try:
        return asyncio.run(body())
    finally:
        assert given_back == [True]


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_sent_as_it_is_made_is_what_the_route_tells(service: str) -> None:
    telling, whole = SERVICES[service]()
    lines, _ = sent(telling, whole, "ndjson")
    assert b"".join(lines) == whole_answer(telling, whole, Body(b"", "json", "ndjson")).body
    assert len(lines) == -(-ROWS // IN_A_PART) + 1
    batches, _ = sent(telling, whole, "arrow")
    assert schema.from_ipc(b"".join(batches)).equals(whole, check_metadata=True)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("answer", ["ndjson", "arrow"])
@pytest.mark.parametrize("service", SERVICES)
def test_what_is_packed_can_be_unpacked_as_it_comes(
    service: str, answer: AnswerEncoding, coding: str
) -> None:
    """By whoever has a part, before the next one is made; and it is smaller."""
    telling, whole = SERVICES[service]()
    plain, _ = sent(telling, whole, answer)
    packed, _ = sent(telling, whole, answer, coding=coding)
    for parts in range(1, len(plain) + 1):
        wanted, come = b"".join(plain[:parts]), b"".join(packed[:parts])
        with pa.CompressedInputStream(pa.BufferReader(come), coding) as stream:
            assert stream.read(len(wanted)) == wanted
    assert len(come) < 0.8 * len(wanted)


@pytest.mark.parametrize("service", SERVICES)
def test_the_last_line_says_what_json_says_beside_the_results(service: str) -> None:
    telling, whole = SERVICES[service]()
    lines, _ = sent(telling, whole, "ndjson")
    last = json.loads(b"".join(lines).splitlines()[-1])
    told = json.loads(whole_answer(telling, whole, Body(b"", "json", "json")).body)
    assert last == {**told, "results": len(told["results"])}
    if service != "verifier":
        assert {"model", "policy_version", "usage"} < set(last)
    assert ("made_with" in last) == (service == "teacher")


def test_what_fails_later_is_the_last_line_or_the_end() -> None:
    telling, whole = SERVICES["verifier"]()
    lines, fault = sent(telling, whole, "ndjson", 2 * IN_A_PART)
    *results, last = map(json.loads, b"".join(lines).splitlines())
    assert (len(results), last["error"]["status"], fault) == (2 * IN_A_PART, 429, "")
    _, fault = sent(telling, whole, "arrow", 2 * IN_A_PART)
    assert fault == "too much waits"


def test_what_fails_first_is_raised() -> None:
    telling, whole = SERVICES["verifier"]()
    with pytest.raises(BusyError, match="too much waits"):
        sent(telling, whole, "ndjson", 0)


def test_answers_are_written_in_threads_and_in_pieces() -> None:
    """Whoever writes a large part on the event loop answers nobody else meanwhile."""
    telling, whole = SERVICES["verifier"]()
    threads = set[int]()

    def results(done: pa.Table, start: int) -> Iterator[dict[str, Any]]:
        for each in telling.results(done, start):
            threads.add(threading.get_ident())
            yield {**each, "padding": "x" * 2**18}

    lines, _ = sent(Telling(results), whole, "ndjson")
    assert threading.get_ident() not in threads
    assert len(lines) >= ROWS
    assert [json.loads(line)["padding"] for line in b"".join(lines).splitlines()[:-1]] == ["x" * 2**18] * ROWS

    large = pa.table({"numbers": list(np.random.default_rng(0).normal(size=(ROWS, 20_000)))})
    batches, _ = sent(telling, large, "arrow")
    assert max(map(len, batches)) <= 2**20 + 2**18
    assert len(batches) < 30  # small ones go together
    assert schema.from_ipc(b"".join(batches)).equals(large)


def test_a_large_array_is_written_place_by_place() -> None:
    """Whoever writes it at once lets no other thread work, however large it is."""
    hidden = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    small = np.arange(6, dtype=np.float32).reshape(3, 2)
    fields = {"id": "a", "hidden_states": hidden, "small": small, "none": hidden[:0]}
    table = pa.table({"row": [0]})
    for answer in ("ndjson", "json"):
        telling = Telling(lambda *_: iter([dict(fields)]))
        pieces = list(telling.pieces(answer, [(0, table)]))
        text = b"".join(pieces)
        assert max(map(len, pieces)) < 2**19 < len(text) / 4
        wanted = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
        assert text == (
            wanted + b'\n{"results":1}\n' if answer == "ndjson" else b'{"results":[' + wanted + b"]}"
        )
