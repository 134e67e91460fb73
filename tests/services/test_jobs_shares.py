"""Bytes of jobs: no caller takes all of them, and what was accepted waits for its room."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_of_numbers import ANSWER, BODY, reading

from rlad_core.client.errors import BusyError
from services.base import telemetry
from services.serve.job_limits import JobLimits
from services.serve.jobs import room
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.worker import Jobs

MOST = 2**20
LIMITS = JobLimits(max_gib=MOST / 2**30, at_a_time=1)


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


async def do(_: list[int]) -> None: ...


def finished(jobs: Jobs, owner: str, size: int) -> StoredJob:
    """A job whose answer has so many bytes, and a few beside it."""
    handed = Handed(owner, time.time(), "json", "json", "identity", {})
    job = jobs.store.add(handed, b"")
    job.finish([b"x" * size], {})
    return job


def test_a_caller_leaves_room_for_the_next_one(tmp_path: Path) -> None:
    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), LIMITS, reading(do))
        # Seven times what is left free.
        finished(jobs, "many", MOST * 7 // 8)
        with pytest.raises(BusyError, match=r"GiB of yours are kept here.* left for each caller now"):
            await jobs.submit("many", BODY, {})
        job = await jobs.submit("one", BODY, {})
        jobs.start()
        await until(lambda: job.status == "done")
        jobs.stop()
        assert json.loads(job.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())


def test_an_accepted_job_waits_for_room_and_others_are_worked_on_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_LOOK_AGAIN_S", 0.05)
    told: list[str] = []
    monkeypatch.setattr(telemetry, "log", lambda event, **_: told.append(event))
    seen: list[int] = []

    async def counted(numbers: list[int]) -> None:
        seen.append(numbers[0])

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), LIMITS, reading(counted))
        waits = await jobs.submit("many", BODY, {})
        kept = finished(jobs, "many", MOST * 7 // 8)  # so that no part of the other fits
        jobs.start()
        await until(lambda: told.count("job_waits_for_room") == 1)
        other = await jobs.submit("one", BODY, {})
        await until(lambda: other.status == "done")
        done = len(seen)
        await asyncio.sleep(1.5)  # in which it is looked at again and again
        assert (waits.status, len(seen), told.count("job_waits_for_room")) == ("queued", done, 1)
        shutil.rmtree(kept.folder)
        await until(lambda: waits.status == "done")
        jobs.stop()
        assert json.loads(waits.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())
    assert "job_failed" not in told


def test_a_job_waits_for_room_until_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LOOK_AGAIN_S", 0.05)

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), LIMITS.model_copy(update={"timeout_s": 3.0}), reading(do))
        finished(jobs, "another", MOST * 15 // 16)
        handed = Handed("me", time.time(), "json", "json", "identity", {})
        job = jobs.store.add(handed, BODY.content + b" " * (MOST // 16 - 1000))
        jobs.start()
        await until(lambda: job.status == "failed")
        jobs.stop()
        assert job.problem is not None
        assert job.problem["status"] == 504
        assert "not done within 3 s; " in job.problem["detail"]
        assert "Fetch and delete finished ones" in job.problem["detail"]

    asyncio.run(body())


def test_a_job_that_never_has_room_fails_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), LIMITS, reading(do))
        handed = Handed("me", time.time(), "json", "json", "identity", {})
        job = jobs.store.add(handed, BODY.content + b" " * (MOST * 7 // 8))
        jobs.start()
        await until(lambda: job.status == "failed")
        jobs.stop()
        assert job.problem is not None
        assert (job.problem["status"], "as several jobs" in job.problem["detail"]) == (413, True)

    asyncio.run(body())
