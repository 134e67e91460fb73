"""The pool of worker processes, without Ray."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlad_core.tasks.base import TaskSpec, Verdict
from services.serve.fair import ASKER, Asker
from services.verifier.checking.loading import LoadError
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool

HOSTILE = {"hostile": TaskSpec("hostile_task:Hostile", {})}


class Judging:
    """A pool, and the one event loop it is used on."""

    def __init__(self, runner: asyncio.Runner, pool: CheckPool) -> None:
        self.run = runner.run
        self.pool = pool

    def __call__(self, *responses: str) -> list[Outcome]:
        return self.run(self.pool.judge([Check("hostile", response, "{}") for response in responses]))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judging]:
    pool = CheckPool(HOSTILE, workers=2, time_limit_s=1.0, memory_limit_bytes=2**28)
    with asyncio.Runner() as runner:
        runner.run(pool.start())
        yield Judging(runner, pool)
        pool.close()


def whys(outcomes: list[Outcome]) -> list[str]:
    return [outcome.why if isinstance(outcome, Failed) else "judged" for outcome in outcomes]


def test_outcomes_keep_their_order_over_many_chunks(judge: Judging) -> None:
    responses = ["" if i % 3 else "text" for i in range(300)]
    outcomes = judge(*responses)
    assert [isinstance(o, Verdict) and o.correct for o in outcomes] == [bool(r) for r in responses]


def test_only_the_offenders_fail(judge: Judging) -> None:
    responses = ["a"] * 200
    for place, offence in ((3, "hang"), (40, "spin"), (41, "eat"), (120, "die"), (121, "raise")):
        responses[place] = offence
    outcomes = judge(*responses)
    told = {place: why for place, why in enumerate(whys(outcomes)) if why != "judged"}
    # One of the loop's two lines.
    assert re.fullmatch(
        r"took longer than 1 s and was stopped \(hostile_task\.py, line 2[45]\)", told.pop(40)
    )
    assert told == {
        3: "took longer than 1 s and was stopped (hostile_task.py, line 22)",
        41: "needed more than 256 MiB (hostile_task.py, line 27)",
        120: "ended its process with exit code 7 (hostile_task.py)",
        121: "raised RecursionError: too deep (hostile_task.py, line 31)",
    }
    assert [o.kind for o in outcomes if isinstance(o, Failed)] == ["time", "time", "memory", "crash", "error"]


def test_what_waits_and_what_a_worker_gets_is_told() -> None:
    batches: list[int] = []
    queue: list[int] = []
    taken: list[tuple[int, int]] = []

    async def judged() -> None:
        pool = CheckPool(
            HOSTILE,
            workers=1,
            time_limit_s=10.0,
            memory_limit_bytes=2**28,
            on_batch=batches.append,
            on_queue=queue.append,
        )
        try:
            await pool.start()
            assert not any(queue)
            busy = asyncio.create_task(pool.judge([Check("hostile", "slow", "{}")]))
            await asyncio.sleep(0.05)
            checks = [Check("hostile", "a", "{}")] * 70
            await pool.judge(checks, lambda: taken.append((len(batches), queue[-1])))
            await busy
        finally:
            pool.close()

    asyncio.run(judged())
    # The only worker is busy: all chunks wait, and the first is taken while the others still do.
    assert (max(queue), queue[-1]) == (70, 0)
    assert batches[:2] == [1, 32]
    assert taken == [(2, 38)]


def test_a_check_that_is_slow_within_its_limit_is_no_offender(judge: Judging) -> None:
    # Together they take several times the limit of one.
    assert whys(judge(*["slow"] * 24)) == ["judged"] * 24


def test_a_killed_check_is_gone_and_the_pool_goes_on(judge: Judging) -> None:
    start = time.monotonic()
    assert [why[:23] for why in whys(judge("hang", "a"))] == ["took longer than 1 s an", "judged"]
    assert time.monotonic() - start < 10
    survivors = {o.reason for o in judge(*["a"] * 64) if isinstance(o, Verdict)}
    assert str(os.getpid()) not in " ".join(survivors)


def test_cancelling_ends_the_checks(judge: Judging) -> None:
    async def cancelled() -> None:
        await asyncio.wait_for(judge.pool.judge([Check("hostile", "hang", "{}")] * 2), timeout=0.3)

    with pytest.raises(TimeoutError):
        judge.run(cancelled())
    start = time.monotonic()
    assert whys(judge("a", "b")) == ["judged", "judged"]
    assert time.monotonic() - start < 10


def test_crashes_one_after_the_other_never_reach_a_neighbour(judge: Judging) -> None:
    responses = ["die" if place % 10 == 0 else "a" for place in range(100)]
    outcomes = judge(*responses)
    assert [isinstance(o, Failed) and o.kind == "crash" for o in outcomes] == [r == "die" for r in responses]


def test_others_are_answered_while_checks_hang(judge: Judging) -> None:
    async def judged() -> None:
        def asking(*responses: str) -> asyncio.Task[list[Outcome]]:
            return asyncio.create_task(judge.pool.judge([Check("hostile", r, "{}") for r in responses]))

        # More that hang than there are workers, each in the middle of a request of 64.
        hanging = [asking(*["a"] * 20, offence, *["b"] * 43) for offence in ("hang", "spin", "hang")]
        answered = 0
        while not any(task.done() for task in hanging):
            await asyncio.sleep(0.15)
            others = await asyncio.gather(*(asking(*["a"] * 8) for _ in range(10)))
            assert all(whys(outcomes) == ["judged"] * 8 for outcomes in others)
            answered += not any(task.done() for task in hanging)
        assert answered, "whoever asked waited for those that hang"
        for outcomes in await asyncio.gather(*hanging):
            assert [isinstance(outcome, Failed) for outcome in outcomes] == [
                place == 20 for place in range(64)
            ]

    judge.run(judged())


def test_a_request_whose_checks_all_hang_leaves_room_for_others(judge: Judging) -> None:
    async def judged() -> None:
        hanging = asyncio.create_task(judge.pool.judge([Check("hostile", "hang", "{}")] * 9))
        # It has taken all the places that one request may have by then, and waits for more.
        await asyncio.sleep(0.8)
        assert whys(await judge.pool.judge([Check("hostile", "a", "{}")])) == ["judged"]
        assert not hanging.done()
        assert {outcome.kind for outcome in await hanging if isinstance(outcome, Failed)} == {"time"}

    judge.run(judged())
    # As many as before, once nothing is slow.
    judge(*["a"] * 64)
    assert len(judge.pool.pids) <= 3


def test_the_pool_serves_one_loop_after_the_other() -> None:
    pool = CheckPool(HOSTILE, workers=1, time_limit_s=1.0, memory_limit_bytes=2**28)
    asyncio.run(pool.start())
    for _ in range(2):
        assert whys(asyncio.run(pool.judge([Check("hostile", "a", "{}")]))) == ["judged"]
    assert asyncio.run(pool.judge([])) == []
    pool.close()
    with pytest.raises(RuntimeError, match="is closed"):
        asyncio.run(pool.judge([Check("hostile", "a", "{}")]))


def test_closing_tells_those_who_wait() -> None:
    async def judged() -> None:
        pool = CheckPool(HOSTILE, workers=1, time_limit_s=60.0, memory_limit_bytes=2**28)
        await pool.start()
        waiting = asyncio.create_task(pool.judge([Check("hostile", "hang", "{}")] * 3))
        await asyncio.sleep(0.3)
        pool.close()
        with pytest.raises(RuntimeError, match="the pool of worker processes is closed"):
            await waiting

    asyncio.run(judged())


def test_workers_that_are_killed_while_idle_are_replaced(judge: Judging) -> None:
    judge("a")
    before = judge.pool.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert whys(judge(*["a"] * 64)) == ["judged"] * 64
    judge.run(judge.pool.start())
    assert not set(judge.pool.pids) & set(before)


_KILLED_SERVICE = """
import asyncio, os, signal
from rlad_core.tasks.base import TaskSpec
from services.verifier.checking.messages import Check
from services.verifier.checking.pool import CheckPool

async def main():
    tasks = {"hostile": TaskSpec("hostile_task:Hostile", {})}
    pool = CheckPool(tasks, workers=1, time_limit_s=600, memory_limit_bytes=2**28)
    await pool.start()
    asyncio.create_task(pool.judge([Check("hostile", "spin", "{}")]))
    await asyncio.sleep(0.3)
    print(pool.pids[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_hanging_check_does_not_outlive_its_service(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(_KILLED_SERVICE)
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    service = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert service.stdout is not None
    worker = int(service.stdout.readline())
    assert service.wait(timeout=30) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.1)
    service.stdout.close()


def test_a_task_that_is_not_there_fails_at_the_start() -> None:
    limits = {"workers": 1, "time_limit_s": 1.0, "memory_limit_bytes": 2**28}
    with pytest.raises(LoadError, match=r"task 'riddles': there is no Riddles in rlad_core\.tasks\.base; it"):
        CheckPool({"riddles": TaskSpec("rlad_core.tasks.base:Riddles", {})}, **limits)


def test_a_good_check_and_a_probe_do_not_wait_behind_those_that_hang(judge: Judging) -> None:
    async def asked(caller: str, *responses: str) -> list[Outcome]:
        ASKER.set(Asker(caller))
        return await judge.pool.judge([Check("hostile", response, "{}") for response in responses])

    async def body() -> None:
        hanging = asyncio.create_task(asked("one", *["hang"] * 16))
        while judge.pool.queue_length < 5:  # noqa: ASYNC110 - until each has a process of its own
            await asyncio.sleep(0.01)
        assert judge.pool.callers == 1
        for good in (asked("two", "text"), asked("one", "text")):
            [outcome] = await good
            assert isinstance(outcome, Verdict)
            assert outcome.correct
        await judge.pool.start()
        assert not hanging.done()
        assert whys(await hanging) == [whys(await asked("two", "hang"))[0]] * 16
        assert judge.pool.queue_length == judge.pool.callers == 0

    judge.run(body())
