"""In which encoding and coding an answer comes, as its caller weighs them."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.serve.http.bodies import Body, read_body
from services.serve.http.encodings import wanted
from services.serve.http.reading import BodyLimits, BodyReader


def read(accepted: list[str]) -> Body:
    """A body beside these headers ``Accept``."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def reading() -> Body:
        headers = [(b"accept", each.encode()) for each in accepted]
        async with read_body(
            Request({"type": "http", "headers": headers}, receive), BodyReader(BodyLimits()), 9
        ) as body:
            return body

    return asyncio.run(reading())


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ([], "json"),
        (["*/*"], "json"),
        (["application/x-ndjson"], "ndjson"),
        (["Application/X-NDJSON; q=1"], "ndjson"),
        (["application/json, application/vnd.apache.arrow.stream;q=0.1"], "json"),
        (["application/x-ndjson;q=0, application/json;q=0.2"], "json"),
        (["application/vnd.apache.arrow.stream;q=0, */*"], "json"),
        (["application/json;q=0.5", "application/vnd.apache.arrow.stream"], "arrow"),
        (["application/json-seq"], "json"),
    ],
)
def test_the_encoding_that_weighs_most(accepted: list[str], encoding: str) -> None:
    assert read(accepted).answer == encoding


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, zstd", "zstd"),
        ("gzip;q=0.9, zstd;q=0.5", "gzip"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity, gzip", "gzip"),
        ("gzip;q=0", "identity"),
        ("br", "identity"),
    ],
)
def test_the_coding_that_weighs_most(accepted: str, coding: str) -> None:
    assert wanted(accepted) == coding
