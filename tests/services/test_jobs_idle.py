"""What kept jobs cost while nobody asks for any: none that has ended is read again, and none on the loop."""

import asyncio
import fcntl
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from jobs_of_numbers import BODY, reading

from rlad_core.client.errors import BusyError, InvalidRequestError
from rlad_core.client.forms import ScoreAnswer
from services.serve.http.gate import service_app
from services.serve.http.health import Intake
from services.serve.job_limits import JobLimits
from services.serve.jobs import worker
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs
from services.serve.replica_settings import ReplicaArgs
from services.teacher.forms import EXAMPLE, ScoreQuery, ScoreRequest

HANDED = Handed("me", time.time(), "json", "json", "identity", {})


async def none(_: list[int]) -> None: ...


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110 - a route is asked
            await asyncio.sleep(0.02)


def test_what_has_ended_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path / "teacher")
    kept = [store.add(HANDED, b"[]") for _ in range(6)]
    kept[0].cancel()
    kept[1].fail({})
    for job in kept[2:]:
        job.finish([b"[]"], {})
    read: Counter[str] = Counter()
    looks = threading.Semaphore(0)
    get, unfinished = JobStore.get, JobStore.unfinished

    def counted(self: JobStore, job_id: str) -> StoredJob | None:
        read[job_id] += 1
        return get(self, job_id)

    def looked(self: JobStore) -> list[StoredJob]:
        looks.release()
        return unfinished(self)

    monkeypatch.setattr(JobStore, "get", counted)
    monkeypatch.setattr(JobStore, "unfinished", looked)
    monkeypatch.setattr(worker, "_LOOK_EVERY_S", 0.01)

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(none))
        jobs.start()
        for _ in range(20):
            await asyncio.to_thread(looks.acquire)
        jobs.stop()

    asyncio.run(body())
    # Once by those that look for work, and once to see whether its time is over.
    assert {job.id: read[job.id] for job in kept} == {job.id: 2 for job in kept}


def test_what_has_ended_counts_and_expires(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "teacher")
    queued, done = (store.add(HANDED, b"[]") for _ in range(2))
    assert {job.id for job in store.unfinished()} == {queued.id, done.id}
    done.finish([b"[]"], {})
    for _ in range(2):
        assert [job.id for job in store.unfinished()] == [queued.id]
        assert len(store.all()) == 2

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(max_jobs=2), reading(none))
        with pytest.raises(BusyError, match="2 jobs are kept here at most"):
            await jobs.submit("me", BODY, {})

    asyncio.run(body())
    store.expire(keep_s=-1)
    assert [job.id for job in store.all()] == [job.id for job in store.unfinished()] == [queued.id]
    assert store._ended == frozenset()
    late = store.add(HANDED, b"[]")
    assert {job.id for job in store.unfinished()} == {queued.id, late.id}


def test_no_file_is_touched_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one over a network that does not answer, and the loop also says that the service is up."""
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)
    on_loop: list[str] = []
    loop_thread = threading.get_ident()

    def noting(module: Any, name: str) -> None:
        whole = getattr(module, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            # A lock has a number in place of a path.
            where = str(args[0]) if args else ""
            if threading.get_ident() == loop_thread and (name == "flock" or where.startswith(str(tmp_path))):
                on_loop.append(f"{name} {where}")
            return whole(*args, **kwargs)

        monkeypatch.setattr(module, name, noted)

    async def do(numbers: list[int]) -> None:
        if 99 in numbers:
            raise InvalidRequestError("99 is not doubled")

    async def fine() -> None: ...

    async def body() -> None:
        app = service_app("teacher", "Example", "For a test.")
        add_job_routes(app, ScoreRequest, ScoreAnswer, EXAMPLE, ScoreQuery)
        jobs = Jobs("teacher", str(tmp_path), JobLimits(turn_s=0), reading(do))
        for name in ("stat", "open", "listdir", "scandir", "unlink", "replace", "mkdir"):
            noting(os, name)
        noting(io, "open")
        noting(fcntl, "flock")
        serve_jobs(jobs, Intake("teacher", fine, "the engine", ReplicaArgs()), 60, 2**20)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def handed_in(content: bytes) -> str:
                return (await client.post("/v1/jobs", content=content)).headers["location"]

            async def ended(place: str) -> bool:
                return (await client.get(place)).json()["ended"] is not None

            places = [await handed_in(content) for content in (BODY.content, BODY.content, b"[99]")]
            for place in places:
                await until(lambda at=place: ended(at))
            assert (await client.get(f"{places[0]}/result")).status_code == 200
            assert (await client.get(f"{places[2]}/result")).status_code == 422
            assert (await client.delete(places[1])).json()["status"] == "cancelled"
            await asyncio.sleep(1.1)  # a look while nothing is to be done
        jobs.stop()
        await asyncio.wait(jobs._loops)

    asyncio.run(body())
    assert on_loop == []
