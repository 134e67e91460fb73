"""What an answer passes last: it is sent in pieces, as fast as its client takes them.

uvicorn waits for a client before it sends more, but writes what it is given whole, however large, and what is
written lies in this process until the client takes it. In pieces little lies there, and who takes nothing is
found out by `clients_behind`, which cuts the connection off. Then uvicorn tells as ever that the client has
left, and the work for it ends. With TLS the end of an answer waits until the rest has gone: behind it uvicorn
closes the connection, at once or soon, and what one with TLS has not sent 30 s later is lost. The replica
that makes an answer is told how much of it is taken (`taken`), and whoever ends the process how many are not
sent whole (`unsent`).
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.base import telemetry
from services.serve.http.slow_clients.clients_behind import LEAST, AnswerLimits, ClientsBehind
from services.serve.http.slow_clients.lying import is_encrypted, lies_in
from services.serve.http.slow_clients.taken import TellsTaken
from services.serve.http.slow_clients.unsent import UNSENT

_LONGEST_PAUSE_S = 0.1


class AnswersTaken:
    """ASGI middleware that sends answers in pieces, to clients that take them. The outermost one: it looks
    for the connection behind what uvicorn sends with.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._behind = ClientsBehind(AnswerLimits.of_environment())
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back in pieces."""
        if scope["type"] == "websocket":
            # None of ours is one. Closed before it is accepted, it is refused with 403.
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = _connection(send)
        if connection is None:
            if not self._warned:
                self._warned = True
                telemetry.log("answers_without_limit", level="warning", sent_by=repr(send))
            await self._app(scope, receive, send)
            return

        taken, encrypted = TellsTaken(receive), is_encrypted(connection)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body") and encrypted:
                await in_pieces({**message, "more_body": True})
                await _gone(connection)
                message = {"type": "http.response.body"}
            await in_pieces(message)

        async def in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= LEAST:
                await send(message)
                taken.add(len(body))
                self._behind.sent(connection)
                return
            try:
                for start in range(0, len(body), LEAST):
                    end = start + LEAST
                    more = end < len(body) or message.get("more_body", False)
                    # A copy: a view of the whole would keep it for as long as the last piece lies there.
                    await send({**message, "body": body[start:end], "more_body": more})
                    taken.add(len(body[start:end]))
                    if connection.is_closing():
                        break
                    self._behind.sent(connection, held=len(body))
            finally:
                self._behind.sent(connection)

        with UNSENT.answering(connection):
            try:
                await self._app(taken.extended(scope), taken.receive, sending)
            finally:
                taken.close()


async def _gone(connection: asyncio.Transport) -> None:
    """Until nothing of what was written to it lies here, or it is closed."""
    pause_s = 0.0
    while lies_in(connection) and not connection.is_closing():
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s + 0.001, _LONGEST_PAUSE_S)


def _connection(send: Send) -> asyncio.Transport | None:
    # ASGI has no word for it. uvicorn's `send` is a method of what it keeps of a request, both of its kinds.
    return getattr(getattr(send, "__self__", None), "transport", None)
