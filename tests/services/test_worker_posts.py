"""What the pool knows of a worker process: whichever way both sides come to look, no check is lost."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlad_core.tasks.base import TaskSpec, Verdict
from services.verifier.checking.messages import Check
from services.verifier.checking.pool import CheckPool
from services.verifier.checking.post import Post
from services.verifier.checking.process import WorkerProcess
from services.verifier.checking.progress import At, make, read
from services.verifier.checking.queue import Job, Request

RIGHT = Verdict(1.0, {}, True, "")


@dataclass
class Said:
    """Of a process: which check it is at."""

    place: int = 0
    began: float = 0.0

    def at(self) -> At:
        return At(1, self.place, self.began)

    def waited_s(self) -> float:
        return 0.0


def judging(checks: int, last: int, tells: list[bool]) -> Iterator[tuple[str, int]]:
    """As `worker.judge` goes: it begins a check, tells outcomes now and then, and ends behind a slow one."""
    untold = 0
    for place in range(last + 1):
        yield "begin", place
        untold += 1
        if tells[place] or place == last < checks - 1:
            yield "tell", untold
            untold = 0
    yield "tell", untold
    yield "end", 0


@given(checks=st.integers(1, 6), data=st.data())
def test_every_check_of_a_chunk_is_told_given_to_others_or_left(checks: int, data: st.DataObject) -> None:
    async def scenario() -> None:
        said = Said()
        post = Post(cast(WorkerProcess, said))
        request = Request([Check("task", str(place), "{}") for place in range(checks)], lambda: None)
        jobs = list(request.waiting)
        post.give(jobs)
        last = data.draw(st.integers(0, checks - 1), "the check behind which the worker ends")
        tells = data.draw(st.lists(st.booleans(), min_size=checks, max_size=checks), "what is told at once")
        sent: list[tuple[str, int]] = []
        told: list[Job] = []
        elsewhere: list[Job] = []
        to_do = list(judging(checks, last, tells))
        while True:
            moves = ["work"] * bool(to_do) + ["read"] * bool(sent) + ["look"]
            what = data.draw(st.sampled_from(moves))
            if what == "work":
                kind, number = to_do.pop(0)
                if kind == "begin":
                    said.place = number
                else:
                    sent.append((kind, number))
            elif what == "look":
                if (seen := post.look()) is not None:
                    assert seen.job not in told
                    elsewhere += post.leave_to_others(but=seen.job)
            else:
                kind, count = sent.pop(0)
                if kind == "end":
                    break
                told += jobs[len(told) : len(told) + count]
                post.settle([RIGHT] * count)
        left = post.end_of_chunk()
        assert {*told, *elsewhere, *left} == set(jobs)
        assert len(elsewhere) == len(set(elsewhere))
        assert not {*told, *elsewhere} & set(left)
        assert not post.is_busy

    asyncio.run(scenario())


def test_a_check_is_as_old_as_the_last_word_of_the_one_before() -> None:
    async def scenario() -> None:
        said = Said(began=time.monotonic() - 1000)
        post = Post(cast(WorkerProcess, said))
        jobs = list(Request([Check("task", str(place), "{}") for place in range(2)], lambda: None).waiting)
        post.give(jobs)
        first = post.look()
        assert first is not None
        assert (first.job, first.has_begun) == (jobs[0], True)
        assert first.ran_s > 600
        post.settle([RIGHT])
        second = post.look()
        assert second is not None
        assert (second.job, second.has_begun) == (jobs[1], False)
        assert second.ran_s < 600
        post.settle([RIGHT])
        assert post.look() is None

    asyncio.run(scenario())


def test_progress_is_written_whole() -> None:
    """Whoever reads meanwhile sees a check that has begun just now, never one that began with the machine."""
    descriptor = make()
    program = (
        "import sys; from services.verifier.checking.progress import Progress\n"
        f"progress = Progress({descriptor}); progress.next_chunk()\n"
        "while True:\n    for place in range(1000): progress.begin(place)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], pass_fds=[descriptor])
    try:
        while not read(descriptor).chunk:
            assert writer.poll() is None
        started = read(descriptor).began
        assert all(read(descriptor).began >= started for _ in range(100_000))
    finally:
        writer.kill()
        writer.wait()
        os.close(descriptor)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("dawdles", "limit_s"), [(300, 10.0), (1500, 0.7)])
def test_no_check_is_lost_by_a_worker_that_dawdles_behind_a_slow_one(dawdles: int, limit_s: float) -> None:
    """It tells of a check that took long, and is held up before it tells that its chunk has ended; also for
    longer than a check may take.
    """

    async def judged(pool: CheckPool, takes: int) -> list[bool]:
        responses = [f"{takes} {dawdles}", *[""] * 3]
        outcomes = await asyncio.wait_for(
            pool.judge([Check("dawdling", response, "{}") for response in responses]), timeout=20
        )
        return [isinstance(each, Verdict) and each.correct for each in outcomes]

    async def scenario() -> None:
        task = TaskSpec("dawdling_task:Dawdling", {})
        pool = CheckPool({"dawdling": task}, workers=1, time_limit_s=limit_s, memory_limit_bytes=2**28)
        try:
            await pool.start()
            # The pool looks every 50 ms, so some of these end before they are seen to be slow.
            for takes in range(100, 150, 10):
                assert await judged(pool, takes) == [True] * 4
        finally:
            pool.close()

    asyncio.run(scenario())
