"""Errors over HTTP as ``application/problem+json`` (RFC 9457), the same for every service."""

import math
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from rlad_core.client.errors import ServiceError

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 20
"""Told of one request."""


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    path: str = Field(description="Where in the request, for instance items[3].text.")
    message: str


class ProblemDetails(BaseModel):
    """Why there is no other answer."""

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
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


class ProblemError(Exception):
    """Raised where a request is read, to answer with a problem."""

    def __init__(self, status: int, title: str, detail: str, errors: list[Fault] | None = None) -> None:
        super().__init__(detail)
        self.problem = ProblemDetails(title=title, status=status, detail=detail, errors=errors)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these problems."""
    return {status: {"model": ProblemDetails, "content": {MEDIA_TYPE: {}}} for status in statuses}


def faults(error_list: list[Any]) -> list[Fault]:
    """Pydantic's list of errors with readable paths."""
    return [
        Fault(path=_path(error["loc"]), message=error["msg"].removeprefix("Value error, "))
        for error in error_list
    ]


def add_problem_handlers(app: FastAPI) -> None:
    """Make what `app` refuses a problem. What breaks is `services.serve.http.gate`'s to answer."""

    @app.exception_handler(ProblemError)
    async def refused(_: Request, error: ProblemError) -> Response:
        return answer(error.problem)

    @app.exception_handler(ServiceError)
    async def failed(_: Request, error: ServiceError) -> Response:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = faults(list(error.errors())[:MOST_FAULTS])
        return answer(
            ProblemDetails(
                title="The request cannot be worked on", status=422, detail=found[0].message, errors=found
            )
        )

    @app.exception_handler(HTTPException)
    async def refused_by_framework(_: Request, error: HTTPException) -> Response:
        problem = ProblemDetails(title=str(error.detail), status=error.status_code, detail=str(error.detail))
        headers = dict(error.headers or {})
        if allowed := headers.get("Allow"):
            more = ", HEAD" if "GET" in allowed else ""
            headers["Allow"] = f"{allowed}{more}, OPTIONS"
        return answer(problem, headers)


def answer(problem: ProblemDetails, headers: dict[str, str] | None = None) -> Response:
    """The response that tells a problem."""
    body = orjson.dumps(problem.model_dump(exclude_none=True))
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)


def told(error: ServiceError, headers: dict[str, str] | None = None) -> Response:
    """The response that tells what a service refused or failed."""
    problem = ProblemDetails(title=error.title, status=error.status, detail=str(error))
    after_s = getattr(error, "retry_after_s", None)
    after = {} if after_s is None else {"Retry-After": str(math.ceil(after_s))}
    return answer(problem, {**after, **(headers or {})})


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".") or "(body)"
