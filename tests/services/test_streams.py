"""Answers that are sent as they are made: what the main route tells, up to where they break off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pyarrow as pa
import pytest
from answers_of_jobs import IN_A_PART, ROWS, SERVICES

from rlad_core import schema
from rlad_core.client.errors import BusyError
from services.serve.http.answers import AnswerEncoding, Part, Telling
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.streams import streamed


async def parts(whole: pa.Table, fails_at: int) -> AsyncIterator[Part]:
    for start in range(0, ROWS, IN_A_PART):
        if start == fails_at:
            raise BusyError("too much waits", 1.0)
        yield start, whole.slice(start, IN_A_PART)


def sent(
    telling: Telling, whole: pa.Table, answer: AnswerEncoding, fails_at: int = -1
) -> tuple[list[bytes], str]:
    """What is sent, and why it breaks off; in the end the request's place is free in any case."""
    given_back: list[bool] = []

    async def body() -> tuple[list[bytes], str]:
        held = AsyncExitStack()
        held.callback(given_back.append, True)
        told = await streamed(parts(whole, fails_at), telling.writer(answer), held)
        chunks: list[bytes] = []
        try:
            async with told._held:
                chunks.extend([bytes(chunk) async for chunk in told.body_iterator])  # type: ignore[arg-type]
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
