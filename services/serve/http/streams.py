"""Answers that are sent as they are made, so that no memory holds one: a line or a batch after the other.

NDJSON (``Accept: application/x-ndjson``): a line for each result, and in the end ``{"results": COUNT}``, by
which a reader knows that nothing is missing. Arrow (``?stream=true``): the same stream as otherwise, in a
batch for each part; one that broke off has no end mark. What fails before the first part is answered as ever;
later it is the last line, ``{"error": PROBLEM}``, or the end of the connection.
"""

import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pyarrow as pa
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from rlad_core.client.forms import ARROW
from services.base import telemetry
from services.serve.http.bodies import NDJSON
from services.serve.http.problems import as_problem

Results = Callable[[pa.Table, int], Iterable[dict[str, Any]]]
"""What was done for rows, and the number of the first one -> their results as JSON has them."""


class InBatches(BaseModel):
    """Query parameters of routes whose Arrow may come so. A misspelled one is refused, and not missed."""

    model_config = ConfigDict(extra="forbid")

    stream: bool = Field(
        default=False, description="Arrow in a batch for each part, as it is done; of a job it says nothing."
    )


class Streamed(StreamingResponse):
    """Holds a request's place until the last byte is sent, or its client has left."""

    def __init__(self, content: AsyncIterator[bytes], held: AsyncExitStack, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def streamed(
    parts: AsyncIterator[tuple[int, pa.Table]], results: Results | None, held: AsyncExitStack
) -> Streamed:
    """The answer that is made of parts, of which the first is waited for.

    Args:
        parts: number of the first row, and what was done for the rows from there on.
        results: for NDJSON; None: Arrow.
        held: closed in the end.

    Raises:
        Exception: what the first part raises.
    """
    async with held as stack:
        first = await anext(parts)
        chunks = _lines(first, parts, results) if results else _batches(first, parts)
        return Streamed(chunks, stack.pop_all(), NDJSON if results else ARROW)
    raise AssertionError("the block above returns")


async def _lines(
    first: tuple[int, pa.Table], parts: AsyncIterator[tuple[int, pa.Table]], results: Results
) -> AsyncIterator[bytes]:
    count = 0
    try:
        async for start, done in _after(first, parts):
            lines = [orjson.dumps(each, option=_OPTIONS) for each in results(done, start)]
            count += len(lines)
            yield b"".join(lines)
        last: dict[str, Any] = {"results": count}
    except Exception as error:  # noqa: BLE001 - the status is sent; the last line tells what became of the rest
        telemetry.log("stream_failed", level="warning", kind=type(error).__name__, error=str(error))
        last = {"error": as_problem(error)}
    yield orjson.dumps(last, option=_OPTIONS)


_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


async def _batches(
    first: tuple[int, pa.Table], parts: AsyncIterator[tuple[int, pa.Table]]
) -> AsyncIterator[bytes]:
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(sink, first[1].schema)
    async for _, done in _after(first, parts):
        writer.write_table(done)
        yield _taken(sink)
    writer.close()
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


async def _after(
    first: tuple[int, pa.Table], parts: AsyncIterator[tuple[int, pa.Table]]
) -> AsyncIterator[tuple[int, pa.Table]]:
    yield first
    async for part in parts:
        yield part
