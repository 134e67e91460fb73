"""Answers of jobs that do not come to their end: nothing of them is left, and they are made again."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from answers_of_jobs import IN_A_PART, ROWS, being_written, carried_out, handed_in, reading, rewards, until

from services.base import telemetry
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body, whole_answer
from services.serve.job_limits import JobLimits
from services.serve.jobs import at_work
from services.serve.jobs.room import Room
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs


class Gate:
    """A telling that stops in the middle of the answer until it is opened."""

    def __init__(self, telling: Telling) -> None:
        self.at_it, self.open = threading.Event(), threading.Event()
        self.telling = Telling(lambda done, start: self._held(telling.results(done, start), start))

    def _held(self, results: Any, start: int) -> Iterator[dict[str, Any]]:
        for each in results:
            # Long enough that some of it is in the file.
            yield {**each, "padding": "x" * 2**20}
        if start > ROWS // 2:
            self.at_it.set()
            assert self.open.wait(30)


@pytest.mark.parametrize("by", ["stop", "cancel"])
def test_an_answer_that_is_left_in_the_middle_leaves_nothing(tmp_path: Path, by: str) -> None:
    telling, whole = rewards()
    gate = Gate(telling)
    job = handed_in(tmp_path, "ndjson")

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(gate.telling, whole, IN_A_PART))
        jobs.start()
        await until(gate.at_it.is_set)
        [unfinished] = being_written(job)
        assert unfinished.stat().st_size > 2**20
        if by == "stop":
            jobs.stop()
        else:
            job.cancel()
            await asyncio.sleep(0.6)  # until it is looked whether anybody wants it
        gate.open.set()
        await until(lambda: job.status != "running")
        jobs.stop()

    asyncio.run(body())
    assert job.status == ("queued" if by == "stop" else "cancelled")
    assert being_written(job) == []
    assert not (job.folder / "answer").exists()
    assert job.begun("*") == set()
    if by == "stop":
        carried_out(tmp_path, job, reading(gate.telling, whole, IN_A_PART))
        assert job.answer[0].read_bytes().endswith(b'{"results":50}\n')


def test_a_disk_that_is_full_in_the_middle_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the system that says so here: a file may not become larger."""
    telling, whole = rewards()
    long = Telling(
        lambda done, start: ({**each, "padding": "x" * 2**16} for each in telling.results(done, start))
    )
    told: list[str] = []
    monkeypatch.setattr(telemetry, "log", lambda event, **fields: told.append(f"{event} {fields}"))
    monkeypatch.setattr(at_work, "_WRITE_AGAIN_S", 0.3)
    job = handed_in(tmp_path, "ndjson")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def failed() -> int:
        return sum(each.startswith("job_not_written") and "File too large" in each for each in told)

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(long, whole, IN_A_PART))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
        try:
            jobs.start()
            await until(lambda: failed() == 2)
            assert being_written(job) == []
            assert not (job.folder / "answer").exists()
            assert (job.status, len(job.begun("answer"))) == ("running", 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await until(lambda: job.status == "done")
        jobs.stop()

    asyncio.run(body())
    assert job.answer[0].read_bytes() == whole_answer(long, whole, Body(b"{}", "json", "ndjson")).body
    assert being_written(job) == []
    assert job.begun("*") == set()


def test_an_answer_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    telling, whole = rewards()
    written: list[int] = []

    def results(done: pa.Table, start: int) -> Iterator[dict[str, Any]]:
        for each in telling.results(done, start):
            written.append(2**20)
            yield {**each, "padding": "x" * 2**20}

    monkeypatch.setattr("services.serve.jobs.room._LOOK_EVERY_BYTES", 2**21)
    job = handed_in(tmp_path, "ndjson")
    limits = JobLimits(max_gib=8 * 2**20 / 2**30)
    carried_out(tmp_path, job, reading(Telling(results), whole, IN_A_PART), limits)
    assert job.problem is not None
    assert job.problem["status"] == 413
    assert "and with the answer of this job it would be more" in job.problem["detail"]
    assert 8 * 2**20 <= sum(written) <= 12 * 2**20
    assert being_written(job) == []


def test_an_answer_that_is_written_takes_the_place_of_its_parts(tmp_path: Path) -> None:
    job = handed_in(tmp_path)
    store = JobStore(tmp_path / "teacher")
    job.keep_part(0, pa.table({"n": np.zeros(1000)}))
    parts = job.bytes
    assert parts > 8000
    sizes: list[int] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 5000
            sizes.append(job.bytes)

    room = Room(store, JobLimits(max_gib=23_000 / 2**30))
    room.finish(job, pieces(), {})
    assert sizes[0] == parts  # what is buffered is in no file yet
    assert sizes[-1] > parts
    assert job.answer[0].stat().st_size == 20_000


KILLED = """
import asyncio, sys, time
from pathlib import Path
from services.serve.http.answers import Telling
from services.serve.job_limits import JobLimits
from services.serve.jobs.worker import Jobs
from answers_of_jobs import IN_A_PART, ROWS, reading, rewards

telling, whole = rewards()


def results(done, start):
    for each in telling.results(done, start):
        yield {**each, "verdict": "x" * 2**20}
    if start > ROWS // 2:
        print("at it", flush=True)
        time.sleep(60)


async def work():
    Jobs("teacher", sys.argv[1], JobLimits(), reading(Telling(results), whole, IN_A_PART)).start()
    await asyncio.Event().wait()


asyncio.run(work())
"""


def test_a_process_that_is_killed_in_the_middle_of_the_answer(tmp_path: Path) -> None:
    job = handed_in(tmp_path, "ndjson")
    here = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "at it\n"
        process.send_signal(signal.SIGKILL)
    assert (job.status, len(job.begun("answer"))) == ("queued", 1)
    [left] = being_written(job)
    assert left.stat().st_size > 2**20
    telling, whole = rewards()
    carried_out(tmp_path, job, reading(telling, whole, IN_A_PART))
    assert job.status == "done"
    assert job.answer[0].read_bytes() == whole_answer(telling, whole, Body(b"{}", "json", "ndjson")).body
    assert {file.name for file in job.folder.iterdir()} == {
        "answer",
        "answer.json",
        "job.json",
        "lease",
        "plan",
    }
