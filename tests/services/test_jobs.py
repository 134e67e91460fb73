"""Jobs in memory: kept as files, worked on by one at a time, gone on with by the next."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs_of_numbers import ANSWER, BODY, PARTS, reading

from rlad_core.client.errors import BusyError, InvalidRequestError
from services.base import telemetry
from services.serve.fair import ASKER
from services.serve.job_limits import JobLimits
from services.serve.jobs import at_work
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


def test_a_job_is_done_by_one_and_its_parts_once(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    async def do(numbers: list[int]) -> None:
        seen.append(numbers)
        await asyncio.sleep(0.01)

    async def body() -> None:
        replicas = [Jobs("teacher", str(tmp_path), JobLimits(), reading(do)) for _ in range(3)]
        kept = [await replicas[0].submit("me", BODY, {}) for _ in range(4)]
        for replica in replicas:
            replica.start()
        await until(lambda: all(job.status == "done" for job in kept))
        # The parts go when the answer is there.
        await until(lambda: not any(list(job.folder.glob("*.arrow")) for job in kept))
        for replica in replicas:
            replica.stop()
        for job in kept:
            assert json.loads(job.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())
    assert sorted(seen) == sorted([[number, number + 1] for number in range(0, 2 * PARTS, 2)] * 4)


def test_the_next_replica_goes_on_behind_the_last_part(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    held = asyncio.Event()

    async def stuck(numbers: list[int]) -> None:
        seen.append(numbers)
        if numbers[0] == 4:
            await held.wait()

    async def goes(numbers: list[int]) -> None:
        seen.append(numbers)

    async def body() -> None:
        first = Jobs("teacher", str(tmp_path), JobLimits(), reading(stuck))
        job = await first.submit("me", BODY, {})
        assert job.status == "queued"
        first.start()
        await until(lambda: len(seen) == 3)
        assert (job.status, job.progress) == ("running", (2, PARTS))
        first.stop()
        await until(lambda: job.status == "queued")  # its lease is free
        second = Jobs("teacher", str(tmp_path), JobLimits(), reading(goes))
        second.start()
        await until(lambda: job.status == "done")
        second.stop()
        assert json.loads(job.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())
    assert seen == [[0, 1], [2, 3], [4, 5], [4, 5], [6, 7], [8, 9]]


def test_jobs_of_callers_take_turns(tmp_path: Path) -> None:
    # One caller's jobs were all there first; the other's only one is not behind them.
    ended: list[str] = []
    seen: list[str] = []

    async def do(numbers: list[int]) -> None:
        seen.append(ASKER.get().caller)

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(at_a_time=1, turn_s=0), reading(do))
        kept = [await jobs.submit(owner, BODY, {}) for owner in ("many", "many", "many", "one")]
        jobs.start()

        def all_done() -> bool:
            for job in kept:
                if job.status == "done" and job.id not in ended:
                    ended.append(job.id)
            return len(ended) == len(kept)

        await until(all_done)
        jobs.stop()
        for job in kept:
            assert json.loads(job.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())
    # A part each while there are two, then the rest; no part is done twice.
    assert seen == ["many", "one"] * PARTS + ["many"] * 2 * PARTS


def test_a_killed_process_loses_its_lease(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.add(Handed("me", time.time(), "json", "json", "identity", {}), b"[]")
    code = (
        "import sys, time; from pathlib import Path; from services.serve.jobs.job import StoredJob\n"
        "with StoredJob(Path(sys.argv[1])).lease() as mine: print(mine, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(job.folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    assert job.status == "running"
    holder.kill()
    holder.wait(10)
    assert job.status == "queued"


def test_what_fails_says_why_and_what_is_busy_is_asked_again(tmp_path: Path) -> None:
    tries: list[int] = []

    async def do(numbers: list[int]) -> None:
        tries.append(numbers[0])
        if len(tries) == 1:
            raise BusyError("too much waits", 0.01)
        if numbers[0] == 2:
            raise InvalidRequestError("sequence 'b': is odd")

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        jobs.start()
        job = await jobs.submit("me", BODY, {})
        await until(lambda: job.status == "failed")
        jobs.stop()
        assert job.problem == {
            "type": "about:blank",
            "title": "The request cannot be worked on",
            "status": 422,
            "detail": "sequence 'b': is odd",
        }

    asyncio.run(body())
    assert tries == [0, 0, 2]


def test_what_fails_because_its_replica_ends_is_left_to_others(tmp_path: Path) -> None:
    """Serve ends the replica's engine or workers first, and what works on a job hears of it."""
    seen: list[int] = []

    async def body() -> None:
        ended = asyncio.Event()

        async def ends(numbers: list[int]) -> None:
            if numbers[0] == 4:
                await ended.wait()
                raise RuntimeError("the pool of worker processes is closed")

        async def goes_on(numbers: list[int]) -> None:
            seen.append(numbers[0])

        ending = Jobs("teacher", str(tmp_path), JobLimits(), reading(ends))
        ending.start()
        job = await ending.submit("me", BODY, {})
        await until(lambda: job.part_schema(1) is not None)
        ending.stop()
        ended.set()
        await until(lambda: job.status == "queued")
        other = Jobs("teacher", str(tmp_path), JobLimits(), reading(goes_on))
        other.start()
        await until(lambda: job.status == "done")
        other.stop()

    asyncio.run(body())
    assert seen == [4, 6, 8]


def test_a_job_that_fails_is_no_fault_of_whoever_works_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(telemetry, "log", lambda event, **_: told.append(event))

    async def do(numbers: list[int]) -> None:
        raise InvalidRequestError("sequence 'a': is odd")

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        jobs.start()
        kept = [await jobs.submit("me", BODY, {}) for _ in range(3)]
        await until(lambda: all(job.status == "failed" for job in kept))
        await until(lambda: told.count("job_failed") == 3)
        jobs.stop()

    asyncio.run(body())
    assert set(told) == {"job_submitted", "job_failed"}


def test_work_that_cannot_be_written_is_written_later_and_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    writes = ("begin", "plan", "keep_part", "finish")
    faults = {name: [OSError(28, "No space left on device")] * 2 for name in writes}

    def failing(name: str) -> Callable[..., None]:
        whole = getattr(StoredJob, name)

        def write(self: StoredJob, *args: Any) -> None:
            if faults[name]:
                raise faults[name].pop()
            whole(self, *args)

        return write

    for name in faults:
        monkeypatch.setattr(StoredJob, name, failing(name))
    monkeypatch.setattr(at_work, "_WRITE_AGAIN_S", 0.05)

    async def do(numbers: list[int]) -> None:
        seen.append(numbers[0])

    async def body() -> StoredJob:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        jobs.start()
        job = await jobs.submit("me", BODY, {})
        await until(lambda: job.ended is not None)
        jobs.stop()
        return job

    job = asyncio.run(body())
    assert (job.status, seen) == ("done", [0, 2, 4, 6, 8])
    assert not any(faults.values())


def test_a_sweep_that_fails_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [OSError(24, "Too many open files")]
    expire = JobStore.expire

    def once(self: JobStore, keep_s: float) -> None:
        if faults:
            raise faults.pop()
        expire(self, keep_s)

    monkeypatch.setattr(JobStore, "expire", once)

    async def do(numbers: list[int]) -> None:
        pass

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(keep_s=0.2), reading(do))
        jobs.start()
        job = await jobs.submit("me", BODY, {})
        await until(lambda: not job.folder.exists())
        jobs.stop()

    asyncio.run(body())
    assert not faults


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_jobs": 2}, "2 jobs are kept here at most"),
        ({"max_jobs_per_caller": 2}, "2 jobs of one caller are kept here at most"),
        ({"max_gib": len(BODY.content) / 2 / 2**30}, "GiB of jobs are kept here at most"),
    ],
)
def test_limits_of_number_and_bytes(tmp_path: Path, limits: dict[str, Any], says: str) -> None:
    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        jobs = Jobs("teacher", str(tmp_path), JobLimits(**limits), reading(do))
        for _ in range(0 if "max_gib" in limits else 2):
            await jobs.submit("me", BODY, {})
        with pytest.raises(BusyError, match=says):
            await jobs.submit("me", BODY, {})
        if "max_jobs_per_caller" in limits:
            await jobs.submit("somebody else", BODY, {})

    asyncio.run(body())


def test_jobs_that_come_at_once_are_counted_one_after_the_other(tmp_path: Path) -> None:
    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        replicas = [Jobs("teacher", str(tmp_path), JobLimits(max_jobs=3), reading(do)) for _ in range(2)]
        submitted = [replicas[number % 2].submit("me", BODY, {}) for number in range(12)]
        came = await asyncio.gather(*submitted, return_exceptions=True)
        refused = [each for each in came if isinstance(each, BaseException)]
        assert len(refused) == 9
        assert all(isinstance(each, BusyError) for each in refused)
        assert len(replicas[0].store.all()) == 3

    asyncio.run(body())


async def problem_of_a_job(folder: Path, limits: JobLimits, created: float) -> tuple[dict[str, Any], int]:
    """Why it failed, and in how many parts it was worked on."""
    seen: list[list[int]] = []

    async def do(numbers: list[int]) -> None:
        seen.append(numbers)
        await asyncio.sleep(0.1)

    jobs = Jobs("teacher", str(folder), limits, reading(do))
    job = jobs.store.add(Handed("me", created, "json", "json", "identity", {}), BODY.content)
    jobs.start()
    await until(lambda: job.status == "failed")
    jobs.stop()
    assert job.problem is not None
    return job.problem, len(seen)


def test_a_job_whose_parts_become_too_large_fails(tmp_path: Path) -> None:
    limits = JobLimits(max_gib=1000 / 2**30)  # a part is some 300 bytes
    problem, parts = asyncio.run(problem_of_a_job(tmp_path, limits, time.time()))
    assert problem["status"] == 413
    assert "GiB of jobs are kept here at most, and with part" in problem["detail"]
    assert 1 <= parts < PARTS


def test_a_job_has_no_more_time_than_it_has(tmp_path: Path) -> None:
    limits = JobLimits(timeout_s=100)
    problem, parts = asyncio.run(problem_of_a_job(tmp_path / "late", limits, time.time() - 101))
    assert (problem["status"], parts) == (504, 0)
    assert problem["detail"].startswith("the job was not done within 100 s; it was taken up too late")
    problem, parts = asyncio.run(problem_of_a_job(tmp_path / "slow", limits, time.time() - 99.75))
    assert problem["status"] == 504
    assert f"{parts} of {PARTS} parts were" in problem["detail"]
    assert 1 <= parts < PARTS


def test_what_has_ended_expires_and_what_has_not_stays(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    old, queued = (
        store.add(Handed("me", time.time() - 1000, "json", "json", "identity", {}), b"[]") for _ in range(2)
    )
    old.finish([b"[]"], {})
    store.expire(keep_s=60)
    assert len(store.all()) == 2
    store.expire(keep_s=-1)
    assert [job.id for job in store.all()] == [queued.id]
    assert store.get(old.id) is None
    assert store.get("../../etc") is None
    shutil.rmtree(queued.folder)  # as another replica's store may do meanwhile
    assert queued.bytes == 0


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
def test_a_job_that_is_deleted_again_is_kept_no_longer(tmp_path: Path, end: str) -> None:
    """A client that repeats its DELETE, as it may after a broken connection, moves nothing."""
    job = JobStore(tmp_path).add(Handed("me", time.time(), "json", "json", "identity", {}), b"[]")
    {"finish": lambda: job.finish([b"[]"], {}), "fail": lambda: job.fail({}), "cancel": job.cancel}[end]()
    for file in job.folder.iterdir():
        os.utime(file, (1000, 1000))
    for _ in range(2):
        job.cancel()
        assert (job.status, job.ended) == ("cancelled", 1000)
    job.clear_if_cancelled()
    assert job.ended == 1000
    assert not (job.folder / "answer").exists()
