"""The routes of jobs, the same for each service."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, Field

from rlad_core.client.errors import UnknownNameError
from rlad_core.client.forms import JSON
from services.serve import here
from services.serve.http.answers import MEDIA_TYPES
from services.serve.http.bodies import documents
from services.serve.http.health import Intake
from services.serve.http.problems import ProblemDetails, answer, documented
from services.serve.http.queries import values_of
from services.serve.http.streams import Held
from services.serve.jobs.errors import POLL_AFTER_S, CancelledError, UnfinishedError, UnreadableJobError
from services.serve.jobs.job import Status, StoredJob
from services.serve.jobs.sending import sent
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


_PART = {
    "description": "The bytes that `Range` asks for.",
    "content": {media_type: {} for media_type in MEDIA_TYPES.values()},
}
_KNOWN = {"description": "The answer is the one that `If-None-Match` names."}
_RANGE = {
    "name": "Range",
    "in": "header",
    "description": "Bytes of the answer; one range, with `If-Range` the `ETag` that was told with the first.",
    "schema": {"type": "string"},
    "example": "bytes=1048576-",
}


class JobList(BaseModel):
    """The jobs of a caller."""

    jobs: list[Job] = Field(description="The newest first.")


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
    of_all = documented(401, 403, 501, 503)
    app.add_api_route("/v1/jobs", look_at_all, methods=["GET"], response_model=JobList, responses=of_all)
    one = "/v1/jobs/{job_id}"
    app.add_api_route(one, look, methods=["GET"], response_model=Job, responses=told)
    app.add_api_route(one, cancel, methods=["DELETE"], response_model=Job, responses=told)
    app.add_api_route(
        one + "/result",
        fetch,
        methods=["GET"],
        response_model=answer,
        # Those of the main route too: of a job that failed it is told what that would have said.
        responses={**main["responses"], **told, **documented(409, 410, 412, 416), 206: _PART, 304: _KNOWN},
        openapi_extra={"parameters": [_RANGE]},
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


def look_at_all(request: Request) -> Response:
    """How all jobs are that the caller has here, but for those whose files cannot be read."""
    store, caller = here.part(_Served).jobs.store, _caller(request)
    found: list[Job] = []
    for job in reversed(store.all()):
        if job.handed.owner == caller:
            with suppress(FileNotFoundError, UnreadableJobError):  # its time is over
                found.append(_told_of(job))
    return Response(JobList(jobs=found).model_dump_json(), media_type=JSON)


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
            return sent(job, request)
        if (problem := job.problem) is not None:
            return answer(ProblemDetails.model_validate(problem))
    raise UnfinishedError(f"job {job_id} is {status}; ask again, or look at /v1/jobs/{job_id}")


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
    return Response(_told_of(job).model_dump_json(), status, headers, media_type=JSON)


def _told_of(job: StoredJob) -> Job:
    done, parts = job.progress
    where, ended, problem = job.status, job.ended, job.problem
    return Job(
        id=job.id,
        status=where,
        parts_done=(parts or 0) if where == "done" else done,
        parts=parts,
        created=_time(job.handed.created),
        ended=None if ended is None else _time(ended),
        expires=None if ended is None else _time(ended + here.part(_Served).keep_s),
        problem=None if problem is None else ProblemDetails.model_validate(problem),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
