"""Files of a job that nobody can read are that job's fault, and nobody else's."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from jobs_of_numbers import ANSWER, BODY, reading
from jobs_over_http import served
from storage_faults import unreadable

from services.base import telemetry
from services.serve.job_limits import JobLimits
from services.serve.jobs.job import StoredJob
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs

HANDED = {
    "owner": "me",
    "created": time.time(),
    "encoding": "json",
    "answer": "json",
    "coding": "identity",
    "query": {},
}
GARBLED = [
    b"",
    b'{"owner": "me", "crea',
    b"[]",
    b"\xff\xfe",
    json.dumps({"owner": "me"}).encode(),
    json.dumps({**HANDED, "encoding": "xml"}).encode(),
]


def kept(store: Path, content: bytes) -> str:
    """Id of a job whose job.json has this content."""
    folder = store / f"{len(list(store.iterdir())):032x}"
    folder.mkdir()
    (folder / "job.json").write_bytes(content)
    (folder / "request").write_bytes(BODY.content)
    return folder.name


async def do(_: list[int]) -> None: ...


def test_others_are_taken_in_and_worked_on_beside_jobs_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(telemetry, "log", lambda event, **more: told.append((event, more.get("job", ""))))

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(keep_s=0.2), reading(do))
        garbled = [kept(tmp_path / "teacher", content) for content in GARBLED]
        jobs.start()
        first, second = [await jobs.submit("me", BODY, {}) for _ in range(2)]
        async with asyncio.timeout(30):  # done, and then removed by a sweep
            while first.folder.exists() or second.folder.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        jobs.stop()
        assert sorted(job for event, job in told if event == "job_left_alone") == sorted(garbled)
        assert all((tmp_path / "teacher" / name / "request").exists() for name in garbled)
        assert not {event for event, _ in told} & {"jobs_not_swept", "jobs_not_worked_on"}

    asyncio.run(body())


def test_a_later_version_may_say_more_of_a_job(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.get(kept(tmp_path, json.dumps({**HANDED, "priority": 3}).encode()))
    assert job is not None
    assert (job.handed.owner, store.unfinished()[0].id) == ("me", job.id)


@pytest.mark.parametrize("name", ["job.json", "plan", "failed.json", "answer.json"])
def test_who_asks_for_it_is_told_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async with served(tmp_path, do) as client:
            taken = await client.post("/v1/jobs", content=BODY.content)
            place = taken.headers["location"]
            async with asyncio.timeout(30):
                while (await client.get(place)).json()["status"] != "done":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            folder = tmp_path / "teacher" / taken.json()["id"]
            if name == "failed.json":
                (folder / "answer.json").unlink()
            (folder / name).write_bytes(b'{"half')
            told = await client.get(f"{place}/result" if name == "answer.json" else place)
            assert told.status_code == 500
            assert told.json()["title"] == "The job cannot be read"
            assert f"{name} of job {folder.name}" in told.json()["detail"]
            await others_are_served(client)

    asyncio.run(body())


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize("garble", [lambda file: file.write_bytes(b""), unreadable])
def test_a_part_that_cannot_be_read_is_done_again(tmp_path: Path, garble: Any) -> None:
    job, seen = left_at(tmp_path, 2), list[int]()
    garble(job.folder / "000000.arrow")
    assert problem_of(tmp_path, job, seen) is None
    assert json.loads((job.folder / "answer").read_bytes()) == ANSWER
    assert seen == [0, 4, 6, 8]


@pytest.mark.parametrize(
    ("name", "garble"), [("request", unreadable), ("000001.arrow", half)], ids=["request", "part"]
)
def test_a_job_that_cannot_be_gone_on_with_says_what_is_wrong(tmp_path: Path, name: str, garble: Any) -> None:
    job = left_at(tmp_path, 2)
    garble(job.folder / name)
    problem = problem_of(tmp_path, job, [])
    assert problem is not None
    assert (problem["status"], problem["title"]) == (500, "The job cannot be read")
    assert f"{name} of job {job.id} cannot be read: " in problem["detail"]


def left_at(folder: Path, parts: int) -> StoredJob:
    """A job of which so many parts are done, and that nobody works on."""

    async def stands_still(numbers: list[int]) -> None:
        if numbers[0] == 2 * parts:
            await asyncio.Event().wait()

    async def body() -> StoredJob:
        jobs = Jobs("teacher", str(folder), JobLimits(), reading(stands_still))
        jobs.start()
        job = await jobs.submit("me", BODY, {})
        async with asyncio.timeout(30):
            while job.part_schema(parts - 1) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            jobs.stop()
            while job.status != "queued":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return job

    return asyncio.run(body())


def problem_of(folder: Path, job: StoredJob, seen: list[int]) -> dict[str, Any] | None:
    """Why a job fails that another process goes on with; None: it is done. `seen`: its parts."""

    async def note(numbers: list[int]) -> None:
        seen.append(numbers[0])

    async def body() -> None:
        jobs = Jobs("teacher", str(folder), JobLimits(), reading(note))
        jobs.start()
        async with asyncio.timeout(30):
            while job.ended is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        jobs.stop()

    asyncio.run(body())
    return job.problem


async def others_are_served(client: httpx.AsyncClient) -> None:
    place = (await client.post("/v1/jobs", content=BODY.content)).headers["location"]
    async with asyncio.timeout(30):
        while (answer := await client.get(f"{place}/result")).status_code == 409:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert answer.json() == ANSWER
