"""Files of a job that nobody can read are that job's fault, and nobody else's."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from jobs_of_numbers import ANSWER, BODY, reading
from jobs_over_http import served

from services.base import telemetry
from services.serve.job_limits import JobLimits
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


async def others_are_served(client: httpx.AsyncClient) -> None:
    place = (await client.post("/v1/jobs", content=BODY.content)).headers["location"]
    async with asyncio.timeout(30):
        while (answer := await client.get(f"{place}/result")).status_code == 409:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert answer.json() == ANSWER
