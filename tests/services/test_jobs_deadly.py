"""Jobs that end the process that works on them: three times, and not for as long as they may take."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from jobs_of_numbers import ANSWER, BODY, PARTS, reading

from rlad_core.client.errors import NotReadyError
from rlad_core.client.forms import ScoreAnswer
from services.serve.http.gate import service_app
from services.serve.http.health import Intake
from services.serve.job_limits import JobLimits
from services.serve.jobs.attempts import MOST
from services.serve.jobs.job import Handed, StoredJob, part_step
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.store import JobStore
from services.serve.jobs.worker import Jobs
from services.serve.replica_settings import ReplicaArgs
from services.teacher.forms import EXAMPLE, ScoreQuery, ScoreRequest

# The loop has a thread of its own and the signal is the main one's, as in a replica of Serve.
PROCESS = """
import asyncio, os, signal, sys, threading
from jobs_of_numbers import reading
from services.serve.job_limits import JobLimits
from services.serve.jobs.worker import Jobs

folder, engine = sys.argv[1:]

async def do(numbers):
    if numbers[0] == 4:
        if engine == "lost":
            os._exit(1)
        print("at it", flush=True)
        await asyncio.Event().wait()

async def work():
    Jobs("teacher", folder, JobLimits(), reading(do)).start()
    await asyncio.Event().wait()

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
threading.Thread(target=asyncio.run, args=(work(),), daemon=True).start()
threading.Event().wait()
"""


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


def handed_in(folder: Path) -> StoredJob:
    handed = Handed("me", time.time(), "json", "json", "identity", {})
    return JobStore(folder / "teacher").add(handed, BODY.content)


def carried_out(folder: Path, job: StoredJob, do: Callable[[list[int]], Awaitable[None]]) -> None:
    """A service takes the job up, and it comes to an end of either kind."""

    async def body() -> None:
        jobs = Jobs("teacher", str(folder), JobLimits(), reading(do))
        jobs.start()
        await until(lambda: job.ended is not None)
        jobs.stop()

    asyncio.run(body())


def ended_at(job: StoredJob, step: str, *processes: str) -> None:
    for process in processes:
        job.begin(job.note(step, process))


def started(folder: Path, engine: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(folder), engine],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path))},
    )


def ended_by(process: subprocess.Popen[str], sent: signal.Signals) -> int:
    """How a process ended that was sent a signal in the middle of the third part."""
    with process:
        assert process.stdout
        assert process.stdout.readline() == "at it\n"
        process.send_signal(sent)
        return process.wait(30)


def test_a_job_that_ends_its_process_three_times_fails(tmp_path: Path) -> None:
    job = handed_in(tmp_path)
    with started(tmp_path, "lost") as process:
        assert process.wait(60) == 1
    for _ in range(2):
        assert job.status == "queued"
        assert ended_by(started(tmp_path, "there"), signal.SIGKILL) == -signal.SIGKILL
    assert len(job.begun(part_step(2))) == MOST == 3
    assert (job.status, job.progress) == ("queued", (2, PARTS))
    seen: list[list[int]] = []

    async def do(numbers: list[int]) -> None:
        seen.append(numbers)

    carried_out(tmp_path, job, do)
    assert (job.status, seen) == ("failed", [])
    assert job.problem is not None
    assert (job.problem["status"], job.problem["title"]) == (500, "The job ended what worked on it")
    said = job.problem["detail"]
    assert said.startswith(
        "the process that worked on the job ended 3 times, each time at part 3 of 5 (rows 5 to 6 of 10). "
    )
    assert "Hand it in again as smaller jobs" in said
    assert job.begun("*") == set()


def test_a_process_that_is_told_to_end_was_not_ended_by_its_job(tmp_path: Path) -> None:
    job = handed_in(tmp_path)
    assert ended_by(started(tmp_path, "there"), signal.SIGTERM) == 1
    assert (job.status, job.progress, job.begun("*")) == ("queued", (2, PARTS), set())


@pytest.mark.parametrize("by", ["stop", "Serve"])
def test_a_service_that_is_stopped_often_ends_no_job(tmp_path: Path, by: str) -> None:
    async def stuck(numbers: list[int]) -> None:
        await asyncio.Event().wait()

    async def goes(_: list[int]) -> None: ...

    async def fine() -> None: ...

    async def body() -> None:
        job = handed_in(tmp_path)
        for _ in range(MOST + 1):
            jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(stuck))
            app = service_app("teacher", "Example", "For a test.")
            add_job_routes(app, ScoreRequest, ScoreAnswer, EXAMPLE, ScoreQuery)
            async with app.router.lifespan_context(app):
                serve_jobs(jobs, Intake("teacher", fine, "the engine", ReplicaArgs()), 60, 2**20)
                await until(lambda: len(job.begun(part_step(0))) == 1)
                if by == "stop":
                    jobs.stop()
                    # At once: who stops a service may kill it before the loops have come to an end.
                    assert job.begun("*") == set()
            assert job.begun("*") == set()
            await until(lambda: job.status == "queued")
        assert job.begun("*") == set()
        last = Jobs("teacher", str(tmp_path), JobLimits(), reading(goes))
        last.start()
        await until(lambda: job.status == "done")
        last.stop()
        assert json.loads(job.answer[0].read_bytes()) == ANSWER

    asyncio.run(body())


@pytest.mark.parametrize(
    ("step", "at"), [("request", "reading its request"), ("answer", "putting its answer together")]
)
def test_what_is_no_part_may_end_a_process_too(tmp_path: Path, step: str, at: str) -> None:
    async def do(_: list[int]) -> None: ...

    job = handed_in(tmp_path)
    ended_at(job, step, "one", "another", "a third")
    carried_out(tmp_path, job, do)
    assert job.problem is not None
    assert f"ended 3 times, each time at {at}. " in job.problem["detail"]


def test_a_part_that_is_done_says_nothing_of_the_next(tmp_path: Path) -> None:
    job = handed_in(tmp_path)
    for step in (part_step(0), part_step(1), part_step(3), "answer"):
        ended_at(job, step, "one", "another")
    there: list[list[int]] = []

    async def do(numbers: list[int]) -> None:
        there.append([len(job.begun(step)) for step in (*map(part_step, range(PARTS)), "answer")])

    carried_out(tmp_path, job, do)
    # Two each, and the one who is at it.
    assert there == [
        [3, 2, 0, 2, 0, 2],
        [0, 3, 0, 2, 0, 2],
        [0, 0, 1, 2, 0, 2],
        [0, 0, 0, 3, 0, 2],
        [0, 0, 0, 0, 1, 2],
    ]
    assert (job.status, job.begun("*")) == ("done", set())


def test_who_waits_for_a_turn_is_at_no_part(tmp_path: Path) -> None:
    job = handed_in(tmp_path)
    tries: list[int] = []
    waiting: list[int] = []

    class Waiting(NotReadyError):
        @property
        def retry_after_s(self) -> float:
            waiting.append(len(job.begun("*")))
            return 0.01

    async def do(numbers: list[int]) -> None:
        tries.append(len(job.begun("*")))
        if len(tries) <= MOST:
            raise Waiting("the engine does not answer")

    async def body() -> None:
        jobs = Jobs("teacher", str(tmp_path), JobLimits(), reading(do))
        jobs.start()
        await until(lambda: job.status == "done")
        jobs.stop()

    asyncio.run(body())
    assert (tries, waiting) == ([1] * (MOST + PARTS), [0] * MOST)


def test_jobs_that_a_process_ended_at_go_one_at_a_time(tmp_path: Path) -> None:
    # One of the two ended it; which one, the next process says.
    first, second, other = (handed_in(tmp_path) for _ in range(3))
    ended_at(first, part_step(0), "one", "another")
    ended_at(second, part_step(0), "one", "another")

    async def body() -> None:
        gate = asyncio.Event()

        async def do(numbers: list[int]) -> None:
            await gate.wait()

        jobs = Jobs("teacher", str(tmp_path), JobLimits(at_a_time=3), reading(do))
        jobs.start()
        await until(lambda: first.status == other.status == "running")
        await asyncio.sleep(0.2)
        assert (second.status, len(second.begun("*"))) == ("queued", 2)
        gate.set()
        await until(lambda: first.status == second.status == other.status == "done")
        jobs.stop()

    asyncio.run(body())
