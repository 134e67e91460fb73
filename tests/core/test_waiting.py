"""Waiting for several, and within limits."""

import asyncio

import pytest

from rlad_core.waiting import all_of, limit


async def value(number: int, after: float = 0.0) -> int:
    await asyncio.sleep(after)
    return number


async def fails(what: str, after: float = 0.0) -> int:
    await asyncio.sleep(after)
    raise ValueError(what)


def test_results_come_in_order() -> None:
    assert asyncio.run(all_of(value(n, 0.03 - n / 100) for n in range(3))) == [0, 1, 2]
    assert asyncio.run(all_of([])) == []
    assert asyncio.run(all_of((value(n) for n in range(5)), at_most=2)) == [0, 1, 2, 3, 4]


def test_the_first_failure_in_time_is_raised_and_the_others_end() -> None:
    ended: list[str] = []

    async def other() -> int:
        try:
            return await value(1, 60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            await asyncio.sleep(0.01)
            ended.append("and cleaned up")
            raise

    with pytest.raises(ValueError, match="the first"):
        asyncio.run(all_of([other(), fails("the second", 60), fails("the first", 0.01)]))
    assert ended == ["cancelled", "and cleaned up"]


def test_cancelling_ends_all() -> None:
    async def body() -> None:
        tasks: list[asyncio.Task[int]] = []

        async def noted() -> int:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            return await value(1, 60)

        waiting = asyncio.create_task(all_of([noted(), noted()]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [task.cancelled() for task in tasks] == [True, True]

    asyncio.run(body())


def test_a_limit_around_is_still_one_after_a_failure_that_was_caught() -> None:
    """A caller that tries again must hear of its limit by the limit's own error."""

    async def body() -> None:
        async with limit(0.1, "an answer"):
            with pytest.raises(ValueError, match="once"):
                await all_of([fails("once", 0.01), value(1, 60)])
            await value(2, 60)

    with pytest.raises(TimeoutError, match=r"waited 0\.1 s for an answer"):
        asyncio.run(body())
