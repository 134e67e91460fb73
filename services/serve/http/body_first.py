"""What a request passes before Serve's proxy has it: its body is read, and it waits for its turn.

Serve gives a request a place at a replica before its body is there, and keeps what comes of it without a
limit. `BodyFirst` turns that around: a request goes to a replica when it has come whole, within the limits of
`services.serve.http.reading`, so that those who send slowly or too much hold nobody up.

And at each turn of the event loop one request is passed on, in fair order of callers. Serve's proxy works on
all that it has, a piece of each at every turn, so a request for health, which takes some thirty turns, would
wait for thirty pieces of everybody's who is there. Those who wait here cost nothing.
"""

import asyncio
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlad_core.client.errors import ServiceError
from services.serve.fair import Asker, FairPlaces
from services.serve.http.auth import AuthError, Tokens
from services.serve.http.callers import (
    REQUEST_ID,
    bounded_id,
    caller_of,
    for_pages,
    odd_prober,
    stranger,
)
from services.serve.http.gate import OPEN_PATHS, no_token, without_tokens
from services.serve.http.problems import told
from services.serve.http.queries import long_query
from services.serve.http.reading import BodyLimits, BodyReader, HeldBody
from services.serve.http.refusals import PROXY, count_refusal

OWN_ROUTES = "/-/"
"""What the paths of Serve's own routes begin with."""
LIST_OF_ROUTES = "/-/routes"
"""By which Serve's proxy tells what services it has."""
_HEALTH = "/-/healthz"
# By these Serve's proxy lets whoever asks turn off that it sees a client leave, or its own time limit. They
# are meant for a proxy in front of it.
_HINTS = ("x-request-disconnect-disabled", "x-request-timeout-seconds")


class BodyFirst:
    """ASGI middleware that passes a request on when its body has come whole, and within limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tokens = Tokens()
        self._reader = BodyReader(BodyLimits.of_environment())
        self._door = FairPlaces(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        send = for_pages(headers, send)
        request_id = headers[REQUEST_ID] = bounded_id(headers) or uuid.uuid4().hex
        for name in _HINTS:
            del headers[name]
        if (refusal := long_query(scope)) is not None:
            _count(refusal)
            await told(refusal, {REQUEST_ID: request_id})(scope, receive, send)
            return
        if (refused := self._not_for_them(scope, headers)) is not None:
            count_refusal(PROXY, "UnauthorizedError")
            refused.headers[REQUEST_ID] = request_id
            await refused(scope, _nothing_more(receive), send)
            return
        if not self._may_send(scope, headers):
            # The service answers, or says why not; what the body holds is of no interest.
            await self._app({**scope, "headers": _bodiless(scope)}, _nothing_more(receive), send)
            return
        caller = caller_of(scope, headers, self._tokens.required)
        try:
            async with self._reader.reading(receive, headers.get("content-length"), caller=caller) as held:
                await self._door.take(asker=Asker(caller))
                asyncio.get_running_loop().call_soon(self._door.give)
                await self._app(scope, _replay(held, receive), send)
        except ServiceError as error:
            _count(error)
            close = {"Connection": "close"} if error.status == 408 else {}
            await told(error, {**close, REQUEST_ID: request_id})(scope, receive, send)
        except ClientDisconnect:
            return

    def _not_for_them(self, scope: Scope, headers: Headers) -> Response | None:
        """The refusal of who may not have Serve's own routes, which no service guards; None: they may."""
        path = scope["path"]
        if not path.startswith(OWN_ROUTES):
            return None
        if self._tokens.required:
            return no_token() if path == LIST_OF_ROUTES and not self._may_send(scope, headers) else None
        found = odd_prober(headers) if path == _HEALTH else stranger(scope, headers)
        return None if found is None else without_tokens(*found)

    def _may_send(self, scope: Scope, headers: Headers) -> bool:
        """Whether a body is read at all: not of those who bring none of the tokens, and not where health is
        asked for, which everybody may do, and which has no use for one.
        """
        if scope["path"].endswith(OPEN_PATHS):
            return False
        if not self._tokens.required:
            return True
        try:
            return self._tokens.accept(headers.get("authorization"))
        except AuthError:
            return False


def _replay(held: HeldBody, receive: Receive) -> Receive:
    """What came of the body as one message, and then what `receive` tells: that the client has left."""
    given = False

    async def replaying() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": held.take(), "more_body": False}

    return replaying


def _nothing_more(receive: Receive) -> Receive:
    """A request without a body; what comes of one is thrown away."""
    given = False

    async def empty() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return empty


def _bodiless(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]


def _count(error: ServiceError) -> None:
    count_refusal(PROXY, type(error).__name__, error.limit)
