"""What every HTTP request of a service passes: its id, its token, one log line, and no traceback.

A request's id is the header ``X-Request-ID``, or a new one. Ray Serve's proxy makes it and echoes it; here it
goes into the log lines of everything that happens for the request.

Every route that answers GET answers HEAD with the same headers, and OPTIONS tells what a route answers
(RFC 9110, 9.3.2 and 9.3.7).
"""

import asyncio
import time
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.base.telemetry import log
from services.serve.http.auth import TOKENS, TOKENS_FILE, AuthError, Tokens
from services.serve.http.callers import bounded_id, caller_of, for_pages, is_preflight, site_of, stranger
from services.serve.http.pages import ASSETS, add_pages, is_for_a_browser, page, release
from services.serve.http.problems import ProblemDetails, add_problem_handlers, answer, methods_of, told
from services.serve.http.queries import long_query
from services.serve.http.refusals import count_refusal
from services.serve.http.slow_clients.taken import held_back

OPEN_PATHS = ("/healthz", "/readyz", "/health", "/health/")
"""Asked by load balancers, kubelets and TRL's clients, which have no token."""
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def service_app(service: str, title: str, summary: str) -> FastAPI:
    """A FastAPI application behind the gate, whose refusals are problems (RFC 9457).

    Args:
        service: value of the metrics' label `service`.
        title, summary: for the OpenAPI document.
    """
    app = FastAPI(
        title=title,
        summary=summary,
        version=release(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # the address would be made of what the caller says is ours
    )
    add_problem_handlers(app, service)
    add_pages(app)
    app.add_middleware(Gate, service=service)
    return app


class Gate:
    """ASGI middleware, the outermost one of a service's application."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service
        self._tokens = Tokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | str = "none"
        clock = time.perf_counter()
        method, headers = scope["method"], Headers(scope=scope)
        receive, send = held_back(scope, receive, send)
        readable = for_pages(headers, send)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await readable(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        scope["caller"] = caller_of(scope, headers, self._tokens.required)
        with structlog.contextvars.bound_contextvars(request_id=bounded_id(headers)):
            try:
                is_open = path in OPEN_PATHS or path.startswith(ASSETS)
                if self._tokens.required and site_of(headers) and is_preflight(method, headers):
                    is_open = True
                refusal = None if is_open else self._refusal(scope, headers)
                if refusal is not None:
                    count_refusal(self._service, "UnauthorizedError")
                elif (long := long_query(scope)) is not None:
                    count_refusal(self._service, type(long).__name__, long.limit)
                    refusal = told(long)
                elif method == "OPTIONS":
                    refusal = _methods(scope)
                elif method == "HEAD":
                    # Of its own: the server looks at its scope for what an answer to HEAD may lack.
                    scope = {**scope, "method": "GET", "is_head": True}
                await (refusal or self._app)(scope, receive, noting)
            except (asyncio.CancelledError, ClientDisconnect) as error:
                status = "client left"
                if isinstance(error, asyncio.CancelledError):
                    raise
            except Exception as error:  # noqa: BLE001 - told to the operator; the client learns no details
                log(
                    "request_failed",
                    level="error",
                    kind=type(error).__name__,
                    error=str(error),
                    exc_info=error,
                )
                if status == "none":
                    await _failure()(scope, receive, noting)
            finally:
                fields: dict[str, Any] = {"method": method, "path": path[:500], "status": status}
                if path not in OPEN_PATHS or status != 200:
                    log("request", seconds=round(time.perf_counter() - clock, 6), **fields)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._tokens.required:
            found = stranger(scope, headers)
            return None if found is None else without_tokens(*found)
        try:
            if self._tokens.accept(headers.get("authorization")):
                return None
        except AuthError as error:
            log("tokens_unreadable", level="error", error=str(error))
            return _unauthorized("the service cannot read its tokens; its log tells why")
        if is_for_a_browser(scope["path"].removeprefix(scope.get("root_path", "")), headers):
            return page(401, _CHALLENGE)
        return no_token()


def without_tokens(status: int, why: str) -> Response:
    """What those are told who are not served while no token is configured.

    Args:
        status, why: see `services.serve.http.callers.stranger`.
    """
    detail = f"no token is configured here, so {why}; set {TOKENS} or {TOKENS_FILE} where the service runs"
    return _unauthorized(detail) if status == 401 else _forbidden(detail)


def no_token() -> Response:
    """What those are told who send none of the tokens."""
    return _unauthorized("send a valid token in the header 'Authorization: Bearer TOKEN'")


def _unauthorized(detail: str) -> Response:
    problem = ProblemDetails(title="Not authorized", status=401, detail=detail)
    return answer(problem, _CHALLENGE)


def _forbidden(detail: str) -> Response:
    return answer(ProblemDetails(title="Not from here", status=403, detail=detail))


def _methods(scope: Scope) -> Response | None:
    """What a route answers; None: there is no such route."""
    found = methods_of(scope)
    return Response(status_code=204, headers={"Allow": ", ".join(found)}) if found else None


def _failure() -> Response:
    return answer(
        ProblemDetails(title="The service failed", status=500, detail="Its log tells why; ask its operator.")
    )
