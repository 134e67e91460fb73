"""What Serve's own proxy answers, as problems (RFC 9457): no such route, no replica, a full queue.

The proxy listens before the first service has a route, and says 404 to everything until then. That would tell
the callers of a teacher which has just been restarted to give up, so it becomes 503.

The proxy takes this in when ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names `middlewares` in the
environment of the Ray nodes; `rlad serve` and the images set it.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlad_core.client.errors import BusyError, DeadlineError, NotReadyError, UnknownNameError
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails, answer

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "services.serve.http.proxy:middlewares"
_RETRY_AFTER_S = "1"
_OWN_ROUTES = "/-/"  # Serve's health check and list of routes
_LIST_OF_ROUTES = "/-/routes"

_MEANINGS: dict[int, tuple[int, str]] = {
    404: (404, UnknownNameError.title),
    # The proxy means its own limit, not the client's slowness.
    408: (504, DeadlineError.title),
    429: (429, BusyError.title),
    503: (503, NotReadyError.title),
}


def middlewares() -> list[Middleware]:
    """Called by Serve's proxy when it starts."""
    return [Middleware(ProxyProblems)]


class ProxyProblems:
    """ASGI middleware that rewrites errors which no service wrote; everything else passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http" or scope["path"].startswith(_OWN_ROUTES):
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        body = b""

        async def rewriting(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start" and _is_the_proxys(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    if held["status"] == 404 and not await self._has_routes(scope, receive):
                        held, body = {**held, "status": 503}, b"no service is up here yet"
                    await _problem(held, body)(scope, receive, send)

        await self._app(scope, receive, rewriting)

    async def _has_routes(self, scope: Scope, receive: Receive) -> bool:
        body = b""

        async def collect(message: Message) -> None:
            nonlocal body
            body += message.get("body", b"")

        wanted = {"path": _LIST_OF_ROUTES, "raw_path": _LIST_OF_ROUTES.encode(), "method": "GET"}
        await self._app({**scope, **wanted, "query_string": b""}, receive, collect)
        # By path prefix, as JSON; no JSON: the proxy does not know them yet.
        return body.lstrip().startswith(b"{") and body.strip() != b"{}"


def _is_the_proxys(start: Message) -> bool:
    content = Headers(raw=list(start.get("headers", []))).get("content-type", "")
    return start["status"] >= 400 and not content.startswith(MEDIA_TYPE)


def _problem(start: Message, body: bytes) -> ASGIApp:
    headers = Headers(raw=list(start.get("headers", [])))
    status, title = _MEANINGS.get(start["status"], (start["status"], HTTPStatus(start["status"]).phrase))
    # What broke inside is for the operator's log.
    detail = body.decode(errors="replace") if status < 500 or status in (503, 504) else "Its log tells why."
    kept = {name: headers[name] for name in ("x-request-id", "retry-after", "allow") if name in headers}
    if status in (429, 503):
        kept.setdefault("retry-after", _RETRY_AFTER_S)
    return answer(ProblemDetails(title=title, status=status, detail=detail), kept)
