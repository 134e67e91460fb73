"""The pool of worker processes, without Ray."""

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from rlad_core.tasks.base import Verdict
from services.checking.pool import CheckPool
from services.checking.worker import Check, Failed, Outcome

HOSTILE = {"hostile": "hostile_task:Hostile"}


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    pool = CheckPool(HOSTILE, workers=2, time_limit_s=1.0, memory_limit_bytes=2**28)
    asyncio.run(pool.warm_up())
    yield pool
    pool.close()


def judge(pool: CheckPool, *responses: str) -> list[Outcome]:
    return asyncio.run(pool.judge([Check("hostile", response, "{}") for response in responses]))


def whys(outcomes: list[Outcome]) -> list[str]:
    return [outcome.why if isinstance(outcome, Failed) else "judged" for outcome in outcomes]


def test_outcomes_keep_their_order_over_many_chunks(pool: CheckPool) -> None:
    responses = ["" if i % 3 else "text" for i in range(300)]
    outcomes = judge(pool, *responses)
    assert [isinstance(o, Verdict) and o.correct for o in outcomes] == [bool(r) for r in responses]


def test_only_the_offenders_fail(pool: CheckPool) -> None:
    responses = ["a"] * 200
    for place, offence in ((3, "hang"), (40, "spin"), (41, "eat"), (120, "die"), (121, "raise")):
        responses[place] = offence
    outcomes = judge(pool, *responses)
    assert {place: why for place, why in enumerate(whys(outcomes)) if why != "judged"} == {
        3: "took longer than 1 s and was stopped",
        40: "took longer than 1 s and was stopped",
        41: "needed more than 256 MiB",
        120: "ended its process with exit code 7",
        121: "raised RecursionError: too deep",
    }
    assert [o.kind for o in outcomes if isinstance(o, Failed)] == ["time", "time", "memory", "crash", "error"]


def test_a_check_that_is_slow_within_its_limit_is_no_offender(pool: CheckPool) -> None:
    # Together they take several times the limit of one.
    assert whys(judge(pool, *["slow"] * 24)) == ["judged"] * 24


def test_a_killed_check_is_gone_and_the_pool_goes_on(pool: CheckPool) -> None:
    start = time.monotonic()
    assert whys(judge(pool, "hang", "a")) == ["took longer than 1 s and was stopped", "judged"]
    assert time.monotonic() - start < 10
    pool.check_health()
    survivors = {o.reason for o in judge(pool, *["a"] * 64) if isinstance(o, Verdict)}
    assert str(os.getpid()) not in " ".join(survivors)


def test_cancelling_ends_the_checks(pool: CheckPool) -> None:
    async def cancelled() -> None:
        await asyncio.wait_for(pool.judge([Check("hostile", "hang", "{}")] * 2), timeout=0.3)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    start = time.monotonic()
    assert whys(judge(pool, "a", "b")) == ["judged", "judged"]
    assert time.monotonic() - start < 10


def test_a_task_that_is_not_there_fails_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"task 'math': 'no\.such:Task' is no module:class"):
        CheckPool({"math": "no.such:Task"}, workers=1, time_limit_s=1, memory_limit_bytes=2**28)
