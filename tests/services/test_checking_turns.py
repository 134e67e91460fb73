"""Callers of a pool of worker processes share the time of workers, whatever their checks take."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rlad_core.tasks.base import TaskSpec
from services.serve.fair import ASKER, OWN, Asker
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool
from services.verifier.checking.queue import Queue, Request

TASKS = {"timed": TaskSpec("timed_task:Timed", {})}
HANGS = "600"


@asynccontextmanager
async def started(
    workers: int, time_limit_s: float, on_batch: Callable[[int], None] = lambda checks: None
) -> AsyncIterator[CheckPool]:
    pool = CheckPool(
        TASKS, workers=workers, time_limit_s=time_limit_s, memory_limit_bytes=2**28, on_batch=on_batch
    )
    try:
        await pool.start()
        yield pool
    finally:
        pool.close()


async def asked(pool: CheckPool, caller: str, *seconds: str) -> list[Outcome]:
    ASKER.set(Asker(caller))
    return await pool.judge([Check("timed", each, "{}") for each in seconds])


@pytest.mark.timeout(120)
def test_good_checks_one_after_the_other_do_not_wait_for_requests_that_hang() -> None:
    """Each hanging check is a request of its own, so nothing is known of it before it hangs."""

    async def body() -> int:
        async with started(workers=2, time_limit_s=2.0) as pool:
            hanging = [asyncio.create_task(asked(pool, "hostile", HANGS)) for _ in range(60)]
            # All the places that it gets: of 2 + 6 processes one is left.
            while pool.queue_length > 60 - 7:  # noqa: ASYNC110 - a number of another thread
                await asyncio.sleep(0.01)
            for _ in range(30):
                [outcome] = await asked(pool, "good", "0")
                assert not isinstance(outcome, Failed)
            ended = sum(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            return ended

    # One ended for each good one, 28 or 29, where they had turns alike.
    assert asyncio.run(body()) <= 20


@pytest.mark.timeout(120)
def test_workers_time_is_shared_evenly_between_checks_that_hang_and_quick_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"good": 0.0, "hostile": 0.0}
    charge = Queue.charge

    def counted(queue: Queue, request: Request, more: float) -> None:
        seconds[request.asker.caller] += more
        charge(queue, request, more)

    monkeypatch.setattr(Queue, "charge", counted)

    async def body() -> int:
        async with started(workers=2, time_limit_s=0.5) as pool:
            hanging = [asyncio.create_task(asked(pool, "hostile", HANGS)) for _ in range(100)]
            await asked(pool, "good", *["0.02"] * 300)
            ended = sum(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            return ended

    ended = asyncio.run(body())
    # Every check was counted for what it took at least.
    assert seconds["good"] >= 300 * 0.02
    assert seconds["hostile"] >= ended * 0.5
    # 8 processes may have a check each whose time is not counted yet when one of the two gets a turn.
    assert abs(seconds["good"] - seconds["hostile"]) <= 8 * 0.6


def test_a_chunk_is_no_longer_than_a_turn() -> None:
    batches: list[int] = []

    async def body() -> None:
        async with started(workers=1, time_limit_s=60.0, on_batch=batches.append) as pool:
            assert not any(isinstance(each, Failed) for each in await asked(pool, "one", *["0.02"] * 64))

    asyncio.run(body())
    # Three of them take longer than a turn.
    assert len(batches) >= 64 / 3


def test_the_last_place_is_for_callers_whose_checks_are_not_slow() -> None:
    async def body() -> None:
        def waiting(caller: str) -> Request:
            ASKER.set(Asker(caller))
            request = Request([Check("timed", "0", "{}")] * 2, lambda: None)
            queue.add(request)
            return request

        def takes(*, last: bool) -> str:
            return "".join(job.request.asker.caller for job in queue.take(1, crowded=True, last=last))

        queue = Queue(32)
        slow, same, run = waiting("slow"), waiting("slow"), waiting(OWN)
        queue.slow(slow, 1)
        queue.slow(run, 1)
        waiting("other")
        waiting(OWN)
        assert sorted(iter(lambda: takes(last=True), "")) == [OWN, OWN, "other", "other"]
        assert len(queue) == 6
        assert takes(last=False) == "slow"
        assert (len(slow.waiting), len(same.waiting)) == (2, 1)
        queue.slow(slow, -1)
        assert takes(last=True) == "slow"

    asyncio.run(body())
