"""The routes of jobs, the same for each service."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from rlad_core.client.errors import UnknownNameError
from services.serve import here
from services.serve.http.bodies import accepts, documents
from services.serve.http.encodings import pieces
from services.serve.http.health import Intake
from services.serve.http.problems import ProblemDetails, answer, documented
from services.serve.http.queries import values_of
from services.serve.http.streams import Held
from services.serve.jobs.errors import POLL_AFTER_S, CancelledError, UnfinishedError
from services.serve.jobs.job import Status, StoredJob
from services.serve.jobs.worker import Jobs


class Job(BaseModel):
    """Work that was handed in."""

    id: str
    status: Status = Field(description="An answer can be fetched when it is done.")
    parts_done: int
    parts: int | None = Field(description="That it is worked on in; null until it is taken up.")
    created: datetime
    ended: datetime | None = None
    expires: datetime | None = Field(default=None, description="Until then a job that has ended is kept.")
    problem: ProblemDetails | None = Field(default=None, description="Why it failed.")


@dataclass(frozen=True)
class _Served:
    jobs: Jobs
    intake: Intake
    keep_s: float
    max_body_bytes: int


def serve_jobs(jobs: Jobs, intake: Intake, keep_s: float, max_body_bytes: int) -> None:
    """To be called once in a replica: its jobs are those that the routes are about."""
    here.keep(_Served(jobs, intake, keep_s, max_body_bytes))
    jobs.start()


def add_job_routes(
    app: FastAPI,
    request: Any,
    answer: type[BaseModel],
    example: dict[str, Any],
    query: type[BaseModel],
) -> None:
    """Give a service's application the routes.

    Args:
        request, answer, example: of its main route, see `documents`.
        query: the query parameters that it has.
    """
    main = documents(request, answer, example)
    errors = {status: told for status, told in main["responses"].items() if status != 200}
    told = documented(401, 403, 404, 429, 501, 503)
    app.add_api_route(
        "/v1/jobs",
        _submit_with(query),
        methods=["POST"],
        status_code=202,
        response_model=Job,
        responses={**errors, **documented(501)},
        openapi_extra=main["openapi_extra"],
    )
    one = "/v1/jobs/{job_id}"
    app.add_api_route(one, look, methods=["GET"], response_model=Job, responses=told)
    app.add_api_route(one, cancel, methods=["DELETE"], response_model=Job, responses=told)
    app.add_api_route(
        one + "/result",
        fetch,
        methods=["GET"],
        response_model=answer,
        # Those of the main route too: of a job that failed it is told what that would have said.
        responses={**main["responses"], **told, **documented(409, 410)},
    )
    # Serve tells the application before it ends a replica, and not every service passes that on.
    app.router.add_event_handler("shutdown", leave)


def leave() -> None:
    """Leave this replica's jobs to others, since it is ended."""
    if (served := here.look(_Served)) is not None:
        served.jobs.stop()


async def submit(request: Request) -> Response:
    """Hand in a request as the service's main route takes it, body, headers and query; it is answered at once
    with the job's id, and worked on for as long as it takes.
    """
    served = here.part(_Served)
    _ = served.jobs.store
    async with served.intake.admit(request, served.max_body_bytes) as body:
        query = values_of(request.query_params)
        job = await served.jobs.submit(_caller(request), body, query)
    prefix = request.scope.get("root_path", "").rstrip("/")
    return await asyncio.to_thread(_told, job, 202, {"Location": f"{prefix}/v1/jobs/{job.id}"})


def _submit_with(query: type[BaseModel]) -> Callable[..., Awaitable[Response]]:
    """`submit`, with query parameters that are checked and documented."""

    async def checked(request: Request, _: BaseModel) -> Response:
        return await submit(request)

    checked.__name__, checked.__doc__ = submit.__name__, submit.__doc__
    checked.__annotations__["_"] = Annotated[query, Query()]
    return checked


def look(job_id: str, request: Request) -> Response:
    """How a job is; to whom handed it in, and to nobody else."""
    with _own(job_id, request) as job:
        return _told(job, 200, {"Retry-After": str(POLL_AFTER_S)} if job.ended is None else {})


def cancel(job_id: str, request: Request) -> Response:
    """Stop a job, and remove its request and its answer."""
    with _own(job_id, request) as job:
        job.cancel()
        return _told(job, 200, {})


async def fetch(job_id: str, request: Request) -> Response:
    """What the service's main route would have answered."""
    async with AsyncExitStack() as held:
        # However slowly its client takes it, and however many it asks for at a time.
        await held.enter_async_context(here.part(_Served).intake.place(request))
        return Held(await asyncio.to_thread(_fetched, job_id, request), held.pop_all())
    raise AssertionError("the block above returns")


def _fetched(job_id: str, request: Request) -> Response:
    with _own(job_id, request) as job:
        status = job.status
        if status == "cancelled":
            raise CancelledError(f"job {job_id} was cancelled; there is no answer")
        if status == "done":
            return _sent(*job.answer, request)
        if (problem := job.problem) is not None:
            return answer(ProblemDetails.model_validate(problem))
    raise UnfinishedError(f"job {job_id} is {status}; ask again, or look at /v1/jobs/{job_id}")


def _sent(file: Path, headers: dict[str, str], request: Request) -> Response:
    """An answer, whose file is opened now: it may be removed while it is sent. Always whole: a part that is
    asked for with ``Range`` may be ignored (RFC 9110, 14.2).

    Raises:
        FileNotFoundError: it is gone already.
    """
    headers = {name: value for name, value in headers.items() if name != "content-length"}
    coding = headers.get("content-encoding", "identity")
    if coding == "identity" or accepts(request, coding):
        opened = pa.input_stream(str(file), compression=None)
        headers["content-length"] = str(opened.size())
    else:
        # Who fetches it need not be the program that handed it in, and may not be able to unpack it.
        del headers["content-encoding"]
        opened = pa.input_stream(str(file), compression=coding)
    return StreamingResponse(pieces(opened), headers=headers)


def _caller(request: Request) -> str:
    return str(request.scope.get("caller", ""))


@contextmanager
def _own(job_id: str, request: Request) -> Iterator[StoredJob]:
    """The caller's job; one whose time is over may go while it is looked at."""
    none = UnknownNameError(f"there is no job {job_id[:100]!r} of yours here")
    job = here.part(_Served).jobs.store.get(job_id)
    # Another's is not told from none.
    if job is None or job.handed.owner != _caller(request):
        raise none
    try:
        yield job
    except FileNotFoundError as error:
        raise none from error


def _told(job: StoredJob, status: int, headers: dict[str, str]) -> Response:
    done, parts = job.progress
    where, ended, problem = job.status, job.ended, job.problem
    told = Job(
        id=job.id,
        status=where,
        parts_done=(parts or 0) if where == "done" else done,
        parts=parts,
        created=_time(job.handed.created),
        ended=None if ended is None else _time(ended),
        expires=None if ended is None else _time(ended + here.part(_Served).keep_s),
        problem=None if problem is None else ProblemDetails.model_validate(problem),
    )
    return Response(told.model_dump_json(), status, headers, media_type="application/json")


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
