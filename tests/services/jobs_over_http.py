"""The routes of jobs on a service's application, and jobs that were handed in through them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from jobs_of_numbers import BODY, Do, reading

from rlad_core.client.forms import ScoreAnswer
from services.serve.http.gate import service_app
from services.serve.http.health import Intake
from services.serve.job_limits import JobLimits
from services.serve.jobs.job import StoredJob
from services.serve.jobs.lease import is_free
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs
from services.serve.replica_settings import ReplicaArgs
from services.teacher.forms import EXAMPLE, ScoreQuery, ScoreRequest


@asynccontextmanager
async def served(folder: Path | None, do: Do, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The routes on a service's application, in this loop."""

    async def fine() -> None: ...

    app = service_app("teacher", "Example", "For a test.")
    add_job_routes(app, ScoreRequest, ScoreAnswer, EXAMPLE, ScoreQuery)
    jobs = Jobs("teacher", None if folder is None else str(folder), JobLimits(), reading(do))
    serve_jobs(jobs, Intake("teacher", fine, "the engine", ReplicaArgs(**settings)), 60, 2**20)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        jobs.stop()


async def done_job(client: httpx.AsyncClient) -> str:
    """Where a job is told of that was handed in and carried out."""
    place = (await client.post("/v1/jobs", content=BODY.content)).headers["location"]
    async with asyncio.timeout(60):
        while (await client.get(place)).json()["status"] != "done":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return place


async def left_job(client: httpx.AsyncClient, folder: Path) -> tuple[str, StoredJob]:
    """The same, and the job as it lies in the service's folder, where nobody is at work on it any more."""
    place = await done_job(client)
    stored = JobStore(folder / "teacher").get(place.rpartition("/")[2])
    assert stored is not None
    async with asyncio.timeout(60):  # whoever has worked on it clears up yet
        while not is_free(stored.folder / "lease"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return place, stored
