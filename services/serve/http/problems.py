"""Errors over HTTP as ``application/problem+json`` (RFC 9457), the same for every service.

On the routes that OpenAI's clients ask, the member ``error`` says the same in the form that they read.
"""

import math
from typing import Annotated, Any, Self

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from rlad_core.client.errors import InvalidRequestError, ServiceError, UnknownNameError
from services.serve.http.refusals import count_refusal

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 20
"""Told of one request."""
MOST_CHARACTERS = 1000
"""Of what is said of a fault; more would be what was sent, sent back."""
_OPENAI_PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/models")
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def shortened(text: str) -> str:
    """Its first `MOST_CHARACTERS`, with an ellipsis where there are more."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


_Told = Annotated[str, AfterValidator(shortened)]


class Fault(BaseModel):
    """One thing that is wrong with a request. What is said of it is shortened."""

    path: _Told = Field(description="Where in the request, for instance items[3].text.")
    message: _Told


class ProblemDetails(BaseModel):
    """Why there is no other answer. What is said of it is shortened."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "The request is over a limit",
                "status": 413,
                "detail": "the body has 70000000 bytes; at most 67108864 are taken",
            }
        }
    )

    type: str = "about:blank"
    title: _Told
    status: int
    detail: _Told
    errors: list[Fault] | None = None


class OpenAIError(BaseModel):
    """A problem as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = Field(description="Where in the request.")
    code: str | None

    @classmethod
    def of(cls, problem: ProblemDetails) -> Self:
        """What a problem says."""
        kind = "server_error" if problem.status >= 500 else "invalid_request_error"
        return cls(
            message=problem.detail,
            type=_OPENAI_TYPES.get(problem.status, kind),
            param=problem.errors[0].path if problem.errors else None,
            code="model_not_found" if problem.title == UnknownNameError.title else None,
        )


class OpenAIProblem(ProblemDetails):
    """Why there is no other answer, for OpenAI's clients too (a member of our own: RFC 9457, 3.2)."""

    error: OpenAIError


class ProblemError(Exception):
    """Raised where a request is read, to answer with a problem."""

    def __init__(self, status: int, title: str, detail: str, errors: list[Fault] | None = None) -> None:
        self.problem = ProblemDetails(title=title, status=status, detail=detail, errors=errors)
        super().__init__(self.problem.detail)


def documented(*statuses: int, openai: bool = False) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these problems.

    Args:
        openai: it is one of those that OpenAI's clients ask.
    """
    model = OpenAIProblem if openai else ProblemDetails
    return {status: {"model": model, "content": {MEDIA_TYPE: {}}} for status in statuses}


def faults(error_list: list[Any]) -> list[Fault]:
    """Pydantic's list of errors with readable paths."""
    return [
        Fault(path=_path(error["loc"]), message=error["msg"].removeprefix("Value error, "))
        for error in error_list
    ]


def add_problem_handlers(app: FastAPI, service: str) -> None:
    """Make what `app` refuses a problem. What breaks is `services.serve.http.gate`'s to answer.

    Args:
        service: value of the metrics' label `service`.
    """

    @app.exception_handler(ProblemError)
    async def refused(_: Request, error: ProblemError) -> Response:
        return answer(error.problem)

    @app.exception_handler(ServiceError)
    async def failed(_: Request, error: ServiceError) -> Response:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        count_refusal(service, InvalidRequestError.__name__)  # its route, which counts, was not asked
        found = faults(list(error.errors())[:MOST_FAULTS])
        # Who reads the detail alone is told where, too.
        detail = f"{found[0].path}: {found[0].message}"
        title = InvalidRequestError.title
        return answer(ProblemDetails(title=title, status=422, detail=detail, errors=found))

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        problem = ProblemDetails(title=str(error.detail), status=error.status_code, detail=str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(methods_of(request.scope))
        return answer(problem, headers)


def methods_of(scope: Scope) -> list[str]:
    """What a path answers, of all routes that it has; empty: there is none."""
    found: set[str] = set()
    for route in scope["app"].routes:
        for method in getattr(route, "methods", None) or ():
            if route.matches({**scope, "method": method})[0] is Match.FULL:
                found.add(method)
    if not found:
        return []
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))


def openai_error(error: ServiceError) -> dict[str, Any]:
    """What a service failed to do, for OpenAI's clients, in an answer that has begun."""
    return OpenAIError.of(_of_service(error)).model_dump()


def answer(problem: ProblemDetails, headers: dict[str, str] | None = None) -> Response:
    """The response that tells a problem."""
    return _Answer(problem, headers)


class _Answer(Response):
    """A problem, in the form for the path that it is sent to."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: ProblemDetails, headers: dict[str, str] | None) -> None:
        super().__init__(orjson.dumps(problem.model_dump(exclude_none=True)), problem.status, headers)
        self._problem, self._given = problem, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith(_OPENAI_PATHS) or f"{_OPENAI_PATHS[-1]}/" in path:
            fields = self._problem.model_dump(exclude_none=True)
            fields["error"] = OpenAIError.of(self._problem).model_dump()
            whole = Response(orjson.dumps(fields), self.status_code, self._given, media_type=MEDIA_TYPE)
            await whole(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def told(error: ServiceError, headers: dict[str, str] | None = None) -> Response:
    """The response that tells what a service refused or failed."""
    problem = _of_service(error)
    after_s = getattr(error, "retry_after_s", None)
    after = {} if after_s is None else {"Retry-After": str(math.ceil(after_s))}
    return answer(problem, {**after, **(headers or {})})


def _of_service(error: ServiceError) -> ProblemDetails:
    at_fault = None
    if isinstance(error, InvalidRequestError) and error.path is not None:
        at_fault = [Fault(path=error.path, message=error.message)]
    return ProblemDetails(title=error.title, status=error.status, detail=str(error), errors=at_fault)


def as_problem(error: BaseException) -> dict[str, Any]:
    """What `told` and the gate would tell of an error, for who asks later."""
    if isinstance(error, ProblemError):
        problem = error.problem
    elif isinstance(error, ServiceError):
        problem = _of_service(error)
    else:
        problem = ProblemDetails(
            title="The service failed", status=500, detail="Its log tells why; ask its operator."
        )
    return problem.model_dump(exclude_none=True)


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".") or "(body)"
