"""Answers that are sent as they are made, so that no memory holds one: a line or a batch after the other.

NDJSON (``Accept: application/x-ndjson``) or Arrow (``?stream=true``), as `services.serve.http.answers` writes
them. What fails before the first part is answered as ever; later it is the last line, ``{"error": PROBLEM}``,
or the end of the connection.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from services.base import telemetry
from services.serve.http.answers import Batches, Lines, Part
from services.serve.http.problems import as_problem


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


async def streamed(parts: AsyncIterator[Part], writer: Lines | Batches, held: AsyncExitStack) -> Streamed:
    """The answer that is made of parts, of which the first is waited for.

    Args:
        held: closed in the end.

    Raises:
        Exception: what the first part raises.
    """
    async with held as stack:
        first = await anext(parts)
        return Streamed(_chunks(first, parts, writer), stack.pop_all(), writer.media_type)
    raise AssertionError("the block above returns")


async def _chunks(first: Part, parts: AsyncIterator[Part], writer: Lines | Batches) -> AsyncIterator[bytes]:
    try:
        async for part in _after(first, parts):
            yield b"".join(writer.add(*part))
        last = writer.end()
    except Exception as error:  # the status is sent; a last line can tell what became of the rest
        if isinstance(writer, Batches):
            raise
        telemetry.log("stream_failed", level="warning", kind=type(error).__name__, error=str(error))
        last = writer.broken(as_problem(error))
    yield b"".join(last)


async def _after(first: Part, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
    yield first
    async for part in parts:
        yield part
