"""Answers that are sent as they are made, so that no memory holds one: a line or a batch after the other.

NDJSON (``Accept: application/x-ndjson``) or Arrow (``?stream=true``), as `services.serve.http.answers` writes
them, and packed as ``Accept-Encoding`` says, each part so that it can be unpacked when it comes. What fails
before the first part is answered as ever; later it is the last line, ``{"error": PROBLEM}``, or the end of
the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from services.base import telemetry
from services.serve.http.answers import Batches, Lines, Part, Telling, gathered
from services.serve.http.bodies import Body
from services.serve.http.encodings import Packer, Piece, cut_up, packer, told_of
from services.serve.http.problems import as_problem
from services.serve.http.query_values import Flag


class InBatches(BaseModel):
    """Query parameters of routes whose Arrow may come so. A misspelled one is refused, and not missed."""

    model_config = ConfigDict(extra="forbid")

    stream: Flag = Field(
        default=False, description="Arrow in a batch for each part, as it is done; of a job it says nothing."
    )


class Held(Response):
    """An answer that holds a request's place until its last byte is sent, or its client has left.

    Args:
        answer: that is sent.
        held: closed then.
    """

    def __init__(self, answer: Response, held: AsyncExitStack) -> None:
        super().__init__(status_code=answer.status_code)
        self._answer, self._held = answer, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with self._held:
            await self._answer(scope, receive, send)


async def streamed(parts: AsyncIterator[Part], telling: Telling, body: Body, held: AsyncExitStack) -> Held:
    """The answer to `body` that is made of parts, of which the first is waited for.

    Args:
        held: closed in the end.

    Raises:
        Exception: what the first part raises.
    """
    async with held as stack:
        first = await anext(parts)
        writer = telling.writer(body.answer)
        chunks = _chunks(first, parts, writer, packer(body.coding))
        told = StreamingResponse(chunks, headers=told_of(body.coding), media_type=writer.media_type)
        return Held(told, stack.pop_all())
    raise AssertionError("the block above returns")


async def _chunks(
    first: Part, parts: AsyncIterator[Part], writer: Lines | Batches, into: Packer
) -> AsyncIterator[bytes]:
    try:
        async for part in _after(first, parts):
            pieces = gathered(map(bytes, _packed(writer.add(*part), into)))
            # In threads: a part may take seconds of CPU.
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        last = writer.end()
    except Exception as error:  # the status is sent; a last line can tell what became of the rest
        if isinstance(writer, Batches):
            raise
        telemetry.log("stream_failed", level="warning", kind=type(error).__name__, error=str(error))
        last = writer.broken(as_problem(error))
    yield b"".join([*_packed(last, into), *into.end()])


def _packed(pieces: Iterator[Piece], into: Packer) -> Iterator[Piece]:
    for piece in cut_up(pieces):
        yield from into.add(piece)
    yield from into.flush()


async def _after(first: Part, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
    yield first
    async for part in parts:
        yield part
