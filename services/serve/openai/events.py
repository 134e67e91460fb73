"""Answers that come piece by piece, as server-sent events (the HTML standard, 9.2)."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from rlad_core.client.errors import ServiceError
from services.serve.http.bodies import EVENTS
from services.serve.http.problems import openai_error


class EventStream(Response):
    """An answer whose events are made while it is sent.

    Args:
        first: its beginning, made before: what fails until then is a refusal like any other.
        others: the rest.
        held: left when the last event is sent or the client has gone: until then the request is in work.
    """

    def __init__(self, first: bytes, others: AsyncGenerator[bytes, None], held: AsyncExitStack) -> None:
        super().__init__(headers={"Cache-Control": "no-store"}, media_type=EVENTS)
        del self.headers["content-length"]
        self._first, self._others, self._held = first, others, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with self._held, aclosing(self._others) as others:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for event in others:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except ServiceError as error:
                told = b"data: " + orjson.dumps({"error": openai_error(error)}) + b"\n\n"
                await send({"type": "http.response.body", "body": told, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
