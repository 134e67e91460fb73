"""Calls that are put together while others are under way: who gets what, who waits for whom, who fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clients import shared_calls
from services.clients.shared_calls import AT_ONCE, LARGE, SharedCalls


def rows(*ids: str) -> pa.Table:
    return pa.table({"sequence_id": list(ids)})


class Service:
    """Answers when it is let, its rows in the reverse order."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.left: list[list[str]] = []
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self, table: pa.Table) -> pa.Table:
        ids = table.column("sequence_id").to_pylist()
        self.asked.append(ids)
        self.ends.append(asyncio.get_running_loop().create_future())
        try:
            await self.ends[-1]
        except asyncio.CancelledError:
            self.left.append(ids)
            raise
        return table.take(list(range(len(ids)))[::-1]).append_column("length", pa.array(map(len, ids[::-1])))


async def begun(shared: SharedCalls, *groups: Sequence[str]) -> list[asyncio.Task[pa.Table]]:
    tasks = [asyncio.create_task(shared(rows(*group))) for group in groups]
    for _ in range(9):
        await asyncio.sleep(0)
    return tasks


def test_what_comes_while_others_are_under_way_goes_together() -> None:
    async def body() -> None:
        service = Service()
        shared = SharedCalls(service)
        first = await begun(shared, *([f"{n}"] for n in range(AT_ONCE)))
        later = await begun(shared, ["a", "bb"], ["ccc"], ["dddd"])
        assert service.asked == [[f"{n}"] for n in range(AT_ONCE)]
        service.ends[1].set_result(None)
        assert (await first[1]).column("length").to_pylist() == [1]
        await begun(shared)
        assert service.asked[AT_ONCE:] == [["a", "bb", "ccc", "dddd"]]
        service.ends[AT_ONCE].set_result(None)
        told = await asyncio.gather(*later)
        assert [sorted(each.column("length").to_pylist()) for each in told] == [[1, 2], [3], [4]]
        for end in service.ends:
            end.done() or end.set_result(None)
        await asyncio.gather(*first)

    asyncio.run(body())


def test_what_is_large_or_of_another_kind_goes_by_itself() -> None:
    async def body() -> None:
        service = Service()
        shared = SharedCalls(service)
        tasks = await begun(shared, *([f"{n}"] for n in range(AT_ONCE)))
        tasks += await begun(shared, ["x" * LARGE])
        assert len(service.asked) == AT_ONCE + 1
        other = rows("b").append_column("named", pa.array([[1]]))
        tasks += await begun(shared, ["a"])
        tasks.append(asyncio.create_task(shared(other)))
        tasks += await begun(shared, ["c"])
        service.ends[0].set_result(None)
        service.ends[1].set_result(None)
        await begun(shared)
        assert service.asked[AT_ONCE + 1 :] == [["a"], ["b"]]
        service.ends[2].set_result(None)
        await begun(shared)
        assert service.asked[AT_ONCE + 3 :] == [["c"]]
        for end in service.ends:
            end.done() or end.set_result(None)
        await asyncio.gather(*tasks)

    asyncio.run(body())


def test_a_slow_call_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_calls, "PATIENCE_S", 0.01)

    async def body() -> None:
        service = Service()
        shared = SharedCalls(service)
        slow = await begun(shared, *([f"{n}"] for n in range(AT_ONCE)))
        [late] = await begun(shared, ["late"])
        async with asyncio.timeout(30):
            while ["late"] not in service.asked:  # noqa: ASYNC110, PATIENCE_S is a clock
                await asyncio.sleep(0.005)
        for end in service.ends:
            end.set_result(None)
        await asyncio.gather(*slow, late)
        # Each gave its place back once.
        await begun(shared, *([f"{n}"] for n in range(AT_ONCE + 1)))
        assert len(service.asked) == 2 * AT_ONCE + 1

    asyncio.run(body())


def test_a_call_that_fails_does_for_its_own_parts() -> None:
    async def body() -> None:
        service = Service()
        shared = SharedCalls(service)
        first = await begun(shared, *([f"{n}"] for n in range(AT_ONCE)))
        later = await begun(shared, ["a"], ["b"])
        service.ends[0].set_exception(TimeoutError("waited 5 s for rewards"))
        await begun(shared)
        service.ends[AT_ONCE].set_exception(ValueError("no gold"))
        for task, said in [(first[0], "waited 5 s"), (later[0], "no gold"), (later[1], "no gold")]:
            with pytest.raises((TimeoutError, ValueError), match=said):
                await task
        [after] = await begun(shared, ["c"])
        for end in service.ends:
            end.done() or end.set_result(None)
        await asyncio.gather(*first[1:], after)

    asyncio.run(body())


def test_who_leaves_takes_a_call_along_that_nobody_waits_for() -> None:
    async def body() -> None:
        service = Service()
        shared = SharedCalls(service)
        first = await begun(shared, *([f"{n}"] for n in range(AT_ONCE)))
        waiting = await begun(shared, ["a"], ["b"], ["c"])
        waiting[0].cancel()
        first[0].cancel()
        await begun(shared)
        assert service.left == [["0"]]
        assert service.asked[AT_ONCE:] == [["b", "c"]]
        waiting[1].cancel()
        await begun(shared)
        assert len(service.left) == 1
        waiting[2].cancel()
        await begun(shared)
        assert service.left[1:] == [["b", "c"]]
        for task in first:
            task.cancel()
        await asyncio.gather(*first, *waiting, return_exceptions=True)

    asyncio.run(body())


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=30))
def test_each_gets_what_it_asked_for(groups: list[tuple[int, int]]) -> None:
    async def answer(table: pa.Table) -> pa.Table:
        for _ in range(table.num_rows % 4):
            await asyncio.sleep(0)
        return table

    async def caller(shared: SharedCalls, number: int, size: int, before: int) -> list[str]:
        for _ in range(before):
            await asyncio.sleep(0)
        told = await shared(rows(*(f"{number}/{row}" for row in range(size))))
        found: list[str] = told.column("sequence_id").to_pylist()
        return found

    async def body() -> list[list[str]]:
        shared = SharedCalls(answer)
        work = (caller(shared, number, size, before) for number, (size, before) in enumerate(groups))
        return await asyncio.gather(*work)

    wanted = [[f"{number}/{row}" for row in range(size)] for number, (size, _) in enumerate(groups)]
    assert asyncio.run(body()) == wanted
