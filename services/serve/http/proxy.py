"""What stands before Serve's own proxy: `services.serve.http.body_first`, what its own answers become,
`services.serve.http.slow_clients.answers_taken`, and `services.serve.http.heads`.

`ProxyProblems` says as problems (RFC 9457) what no service wrote: no such route, no replica, a full queue.
The proxy listens before the first service has a route, and says 404 to everything until then. That would tell
the callers of a teacher which has just been restarted to give up, so it becomes 503. Where a replica is lost
in the middle of a request, the proxy says nothing at all; that becomes 503 too, and so does what comes after
it until the service's `/healthz` answers again, instead of waiting for the new replica. Where there is no
replica, Serve lets a request wait for ever: one that waits for a replica where Serve's router knows of none,
and one without an answer from a service that is silent, get 503 too.

The proxy takes this in when ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names `middlewares` in the
environment of the Ray nodes; `rlad serve` and the images set it.
"""

import asyncio
import contextvars
import gc
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlad_core.client.errors import BusyError, DeadlineError, NotReadyError, UnknownNameError
from services.serve.http.auth import Tokens
from services.serve.http.body_first import LIST_OF_ROUTES, OWN_ROUTES, BodyFirst
from services.serve.http.callers import REQUEST_ID, bounded_id, stranger
from services.serve.http.gate import without_tokens
from services.serve.http.heads import bound_heads
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails, answer, told
from services.serve.http.routers import Routers
from services.serve.http.slow_clients.answers_taken import AnswersTaken

_RETRY_AFTER_S = "1"
_LOOK_EVERY_S = 0.2
_LOOKS = 600
_LOOKS_FOR_A_REPLICA = 5
"""In a row that find none; a service whose settings change may have none for less."""
_LISTEN_EVERY_S = 5.0
_SILENT_S = 25.0
"""Health answers within a second under any load; a machine that swaps or moves may be away for longer."""
_ANSWERS = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
"""To a question for health: the second of what has no such route."""

_MEANINGS: dict[int, tuple[int, str]] = {
    404: (404, UnknownNameError.title),
    # The proxy means its own limit, not the client's slowness.
    408: (504, DeadlineError.title),
    429: (429, BusyError.title),
    503: (503, NotReadyError.title),
}


def middlewares() -> list[Middleware]:
    """Called by Serve's proxy when it starts, before its server does."""
    bound_heads()
    # What it has imported stays; to look at it again with every full collection would hold up all requests.
    gc.collect()
    gc.freeze()
    # The last one is the outermost.
    return [Middleware(ProxyProblems), Middleware(BodyFirst), Middleware(AnswersTaken)]


class ProxyProblems:
    """ASGI middleware that rewrites errors which no service wrote; everything else passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._routers = Routers(app)
        self._tokens = Tokens()
        # Services that lost a replica in the middle of a request and have not answered since, by route.
        self._lost: dict[str, asyncio.Task[None]] = {}
        # Of services that somebody waits for, by route: see `_listen`; and how many wait.
        self._listening: dict[str, tuple[asyncio.Task[bool], int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_ROUTES):
            await self._app(scope, receive, send)
            return
        if (scope["method"], scope["path"]) == ("OPTIONS", "*"):
            # Of the server, and no route (RFC 9110, 9.3.7): only that it is there.
            await Response(status_code=204)(scope, receive, send)
            return
        service = _service(scope["path"])
        if service in self._lost:
            await _lost(scope)(scope, receive, send)
            return
        held: Message | None = None
        body = b""
        begun = left = given_up = False

        async def watching() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        async def rewriting(message: Message) -> None:
            nonlocal held, body, begun
            if given_up:
                return
            begun = True
            if message["type"] == "http.response.start" and _is_the_proxys(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    told = _problem(held, body)
                    if held["status"] == 404 and (refused := self._not_from_here(scope, held)) is not None:
                        told = refused
                    elif held["status"] == 404 and not await self._has_routes(scope, receive):
                        told = _problem({**held, "status": 503}, b"no service is up here yet")
                    await told(scope, receive, send)

        # A copy: Serve's proxy takes the route out of the path in place, and the watch needs it whole.
        context = contextvars.copy_context()
        work = asyncio.create_task(_awaited(self._app({**scope}, watching, rewriting)), context=context)
        try:
            while not (work.done() or begun or given_up):
                with self._listener(service, scope) as listening:
                    await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
                    if not (work.done() or begun):
                        # A replica that is being replaced is no longer among those that there are, and
                        # finishes what it has.
                        is_silent = listening.result()
                        given_up = is_silent or self._routers.is_waiting(scope["path"], context)
            if not given_up:
                await work
        finally:
            work.cancel()
        if not (begun or left):
            self._watch(service, scope)
            await _lost(scope)(scope, receive, send)

    def _not_from_here(self, scope: Scope, start: Message) -> ASGIApp | None:
        """The refusal of who is served nothing here, where no service has the route; None: they are."""
        if self._tokens.required or (found := stranger(scope, Headers(scope=scope))) is None:
            return None
        refused = without_tokens(*found)
        refused.headers.update(_kept(start))
        return refused

    @contextmanager
    def _listener(self, service: str, scope: Scope) -> Iterator[asyncio.Task[bool]]:
        """What listens to a service that is waited for; one for all who wait."""
        task, waiting = self._listening.get(service, (None, 0))
        if task is None or task.done():
            task = asyncio.create_task(self._listen(service, scope))
        self._listening[service] = task, waiting + 1
        try:
            yield task
        finally:
            task, waiting = self._listening[service]
            if waiting > 1:
                self._listening[service] = task, waiting - 1
            else:
                del self._listening[service]
                task.cancel()

    async def _listen(self, service: str, scope: Scope) -> bool:
        """Ends when a service is silent, which is True, or has no replica."""
        await asyncio.sleep(_LOOK_EVERY_S)  # longer than most requests take
        silent = asyncio.create_task(self._silent(service, scope))
        try:
            looks = 0
            while looks < _LOOKS_FOR_A_REPLICA:
                if (await asyncio.wait({silent}, timeout=_LOOK_EVERY_S))[0]:
                    return True
                looks = looks + 1 if self._routers.has_no_replica(scope["path"]) else 0
            return False
        finally:
            silent.cancel()

    async def _silent(self, service: str, scope: Scope) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(_LISTEN_EVERY_S)
        until = clock() + _SILENT_S
        while (left_s := until - clock()) > 0:
            # Serve itself answers for a service whose replicas cannot be started, while those who wait for
            # one are left to wait.
            if await self._health(service, scope, left_s) in _ANSWERS:
                await asyncio.sleep(_LISTEN_EVERY_S)
                until = clock() + _SILENT_S
            else:
                await asyncio.sleep(_LOOK_EVERY_S)

    def _watch(self, service: str, scope: Scope) -> None:
        """Refuse what comes for a service until it answers again."""
        if service not in self._lost:
            watch = asyncio.create_task(self._answers(service, scope))
            self._lost[service] = watch
            watch.add_done_callback(lambda _: self._lost.pop(service))

    async def _answers(self, service: str, scope: Scope) -> None:
        for _ in range(_LOOKS):
            # Serve may still send it to the lost one, and say 500 or nothing.
            if await self._health(service, scope, _SILENT_S) in _ANSWERS:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _health(self, service: str, scope: Scope, limit_s: float) -> int:
        """The status that a service's health is answered with; 0: nothing is said within the limit."""
        path = f"{service}/healthz"
        wanted = {"path": path, "raw_path": path.encode(), "method": "GET", "query_string": b""}
        # Serve's proxy takes an id for granted.
        wanted["headers"] = [(REQUEST_ID.encode(), uuid.uuid4().hex.encode())]
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        async def stay() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("nobody leaves")

        # In a task of its own: Serve's proxy takes a cancellation for a client that left, and swallows it.
        asked = asyncio.ensure_future(self._app({**scope, **wanted}, stay, note))
        try:
            if not (await asyncio.wait({asked}, timeout=limit_s))[0]:
                return 0
            await asked
            return status
        finally:
            asked.cancel()

    async def _has_routes(self, scope: Scope, receive: Receive) -> bool:
        body = b""

        async def collect(message: Message) -> None:
            nonlocal body
            body += message.get("body", b"")

        wanted = {"path": LIST_OF_ROUTES, "raw_path": LIST_OF_ROUTES.encode(), "method": "GET"}
        await self._app({**scope, **wanted, "query_string": b""}, receive, collect)
        # By path prefix, as JSON; no JSON: the proxy does not know them yet.
        return body.lstrip().startswith(b"{") and body.strip() != b"{}"


async def _awaited(work: Awaitable[None]) -> None:
    """What a task is made of, where only something to wait for is there."""
    await work


def _service(path: str) -> str:
    """The route prefix of a path: what stands before the paths that our services have."""
    marks = ("/v1/", "/get_sequence_logprobs", "/health", "/readyz", "/docs", "/openapi.json", "/metrics")
    for mark in marks:
        if (place := path.find(mark)) >= 0:
            return path[:place]
    return path.rstrip("/")


def _lost(scope: Scope) -> ASGIApp:
    request_id = bounded_id(Headers(scope=scope))
    return told(
        NotReadyError("the replica that worked on this was lost, or there is none yet; ask again"),
        {REQUEST_ID: request_id} if request_id else {},
    )


def _is_the_proxys(start: Message) -> bool:
    content = Headers(raw=list(start.get("headers", []))).get("content-type", "")
    # A page is a service's too: the one that asks a person for a token.
    return start["status"] >= 400 and not content.startswith((MEDIA_TYPE, "text/html"))


def _kept(start: Message) -> dict[str, str]:
    headers = Headers(raw=list(start.get("headers", [])))
    return {name: headers[name] for name in ("x-request-id", "retry-after", "allow") if name in headers}


def _problem(start: Message, body: bytes) -> ASGIApp:
    status, title = _MEANINGS.get(start["status"], (start["status"], HTTPStatus(start["status"]).phrase))
    # What broke inside is for the operator's log.
    detail = body.decode(errors="replace") if status < 500 or status in (503, 504) else "Its log tells why."
    kept = _kept(start)
    if status in (429, 503):
        kept.setdefault("retry-after", _RETRY_AFTER_S)
    return answer(ProblemDetails(title=title, status=status, detail=detail), kept)
