"""What is said once of all responses and written out for each: it counts with the bodies. Without Ray."""

import asyncio
import json
from typing import Any

import pyarrow as pa
import pytest
from starlette.requests import Request
from starlette.types import Message

from rlad_core.client.errors import BusyError
from services.serve.http.bodies import read_body
from services.serve.http.reading import BodyLimits, BodyReader
from services.verifier.http import read_request
from services.verifier.service import _alike
from services.verifier.settings import VerifierLimits

MIB = 2**20
LONG = "a" * MIB
RESPONSES = [{"response": "5"}] * 3


@pytest.mark.parametrize("once", [{"opened": LONG}, {"opened": "", "gold": LONG[:-9]}])
def test_what_is_written_out_counts_as_held(once: dict[str, Any]) -> None:
    content = json.dumps({"task": "math", "gold": "5", **once, "responses": RESPONSES}).encode()
    reader, limits = BodyReader(BodyLimits(total_bytes=4 * MIB)), VerifierLimits()

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def work() -> None:
        request = Request({"type": "http", "headers": []}, receive)
        async with read_body(request, reader, 4 * MIB) as first:
            await asyncio.to_thread(read_request, first, {}, limits)
            assert 2.9 * MIB < reader.held < 3.1 * MIB
            held = reader.held
            with pytest.raises(BusyError, match="at most 4194304 are held"):
                async with read_body(request, reader, 4 * MIB) as second:
                    await asyncio.to_thread(read_request, second, {}, limits)
            assert reader.held == held
        assert (reader.held, reader._of) == (0, {})
        first.hold(MIB)  # a thread goes on when its client has left
        assert (reader.held, reader._of) == (0, {})

    asyncio.run(work())


def test_what_each_response_says_itself_is_in_its_body_and_not_counted_again() -> None:
    content = json.dumps({"task": "t", "gold": "5", "responses": [{"response": LONG}] * 3}).encode()
    reader = BodyReader(BodyLimits())

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def work() -> None:
        async with read_body(Request({"type": "http", "headers": []}, receive), reader, 4 * MIB) as body:
            await asyncio.to_thread(read_request, body, {}, VerifierLimits())
            assert reader.held == len(content)

    asyncio.run(work())


def test_equal_texts_of_a_table_are_one_object() -> None:
    first, second, other = _alike(pa.chunked_array([[LONG, LONG, "b"]]))
    assert first is second
    assert (first, other) == (LONG, "b")
    assert list(_alike(pa.chunked_array([["a"], ["b", "a"]]))) == ["a", "b", "a"]
    assert not list(_alike(pa.chunked_array([], pa.string())))
