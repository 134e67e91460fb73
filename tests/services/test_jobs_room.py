"""Where jobs have no room: cancelled ones make some, and a full disk is told as such."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_of_numbers import BODY, reading

from rlad_core.client.errors import BusyError
from services.serve.job_limits import JobLimits
from services.serve.jobs import store, worker
from services.serve.jobs.errors import NotKeptError
from services.serve.jobs.worker import Jobs


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("limit", ["max_jobs", "max_jobs_per_caller"])
def test_a_cancelled_job_makes_room_for_another(tmp_path: Path, limit: str) -> None:
    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        jobs = Jobs("teacher", str(tmp_path), JobLimits(**{limit: 3}), reading(do))
        first, second, third = [await jobs.submit("me", BODY, {}) for _ in range(3)]
        for job in (second, third):
            job.cancel()
        assert [job.status for job in jobs.store.all()] == ["queued", "cancelled", "cancelled"]
        fourth = await jobs.submit("me", BODY, {})
        assert [job.id for job in jobs.store.all()] == [first.id, third.id, fourth.id]
        await jobs.submit("me", BODY, {})
        with pytest.raises(BusyError, match=f"{3} jobs .*are kept here at most"):
            await jobs.submit("me", BODY, {})

    asyncio.run(body())


def test_a_job_that_has_made_room_is_not_worked_on_any_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def body() -> None:
        async def stuck(_: list[int]) -> None:
            await asyncio.Event().wait()

        jobs = Jobs("teacher", str(tmp_path), JobLimits(max_jobs=1, at_a_time=1), reading(stuck))
        jobs.start()
        first = await jobs.submit("me", BODY, {})
        await until(lambda: first.status == "running")
        first.cancel()
        second = await jobs.submit("me", BODY, {})
        assert not first.folder.exists()
        await until(lambda: second.status == "running")
        jobs.stop()

    asyncio.run(body())
    assert "job_cancelled" in (told := capfd.readouterr().err)
    assert "jobs_not_worked_on" not in told


def test_a_full_disk_is_told_and_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(NotKeptError, match="cannot be kept: No space left on device") as told:
            await jobs.submit("me", BODY, {})
        assert (told.value.status, told.value.retry_after_s) == (503, 30)
        assert jobs.store.all() == []

    asyncio.run(body())


def test_another_replica_that_stands_still_while_it_keeps_a_job_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_ADDING_S", 0.1)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        with (
            jobs.store.adding(),  # as in another process: it is the file that is locked
            pytest.raises(NotKeptError, match=r"waited 0\.1 s for another replica to keep the job"),
        ):
            await jobs.submit("me", BODY, {})
        await jobs.submit("me", BODY, {})

    asyncio.run(body())


def test_nobody_waits_behind_others_who_wait_for_it_for_longer_than_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_ADDING_S", 0.5)
    monkeypatch.setattr(worker, "_ADDING_S", 0.1)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        with jobs.store.adding():
            submitted = [jobs.submit("me", BODY, {}) for _ in range(4)]
            first, *others = await asyncio.gather(*submitted, return_exceptions=True)
        assert "another replica" in str(first)
        assert {str(each) for each in others} == {
            "the job cannot be kept: waited 0.1 s for jobs that came before to be kept"
        }
        await jobs.submit("me", BODY, {})

    asyncio.run(body())
