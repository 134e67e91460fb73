"""Parts of an answer that is sent as it is made: in order, some together, none left behind."""

import asyncio
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from rlad_core.client.errors import BusyError, RowError
from services.serve.jobs.work import Work

PARTS = [(start, start + 2) for start in range(0, 10, 2)]


class Service:
    """Does a part when it is let, and notes what is at work."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0
        self.refuses = self.unfit = -1
        self.turns, self.faster = 20, 1
        """Turns of the loop that the first part takes, and by how many fewer each row behind it."""

    async def do(self, rows: pa.Table) -> pa.Table:
        first = rows.column("n")[0].as_py()
        if first == self.refuses:
            raise BusyError("no place", 1.0)
        self.begun.append(first)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            for _ in range(self.turns - self.faster * first):
                await asyncio.sleep(0)
        finally:
            self.ended.append(first)
        return rows

    async def check(self, rows: pa.Table) -> None:
        if self.unfit in (found := rows.column("n").to_pylist()):
            raise RowError("is none", "numbers", found.index(self.unfit))


def work_of(service: Service) -> Work:
    nothing: Any = None
    rows = pa.table({"n": list(range(10))})
    return Work(rows, PARTS, service.do, nothing, service.check)


@pytest.mark.parametrize("at_a_time", [1, 3, 9])
def test_parts_come_in_order_whichever_is_done_first(at_a_time: int) -> None:
    service = Service()

    async def collect() -> list[tuple[int, list[int]]]:
        parts = work_of(service).done(5.0, at_a_time)
        return [(start, part.column("n").to_pylist()) async for start, part in parts]

    assert asyncio.run(collect()) == [(start, [start, start + 1]) for start, _ in PARTS]
    assert service.most == min(at_a_time, len(PARTS))


def test_the_first_is_refused_for_all_and_nothing_goes_on() -> None:
    service = Service()
    service.refuses = 0

    async def collect() -> None:
        with pytest.raises(BusyError, match="no place"):
            await anext(work_of(service).done(5.0, 3))
        await asyncio.sleep(0)
        assert sorted(service.begun) == sorted(service.ended)

    asyncio.run(collect())


def test_what_is_wrong_with_a_later_part_is_told_before_the_first_one() -> None:
    service = Service()
    service.unfit = 7
    with pytest.raises(RowError, match=r"^numbers\[7\]: is none$"):
        asyncio.run(anext(work_of(service).done(5.0, 3)))  # type: ignore[arg-type]
    assert not service.begun


def test_a_row_that_is_refused_only_when_it_is_done_is_told_by_its_place_in_the_request() -> None:
    """As gold is that its task cannot read."""

    async def do(rows: pa.Table) -> pa.Table:
        if 7 in (found := rows.column("n").to_pylist()):
            raise RowError("has odd gold", "numbers", found.index(7), "gold")
        return rows

    async def collect() -> list[int]:
        return [start async for start, _ in replace(work_of(Service()), do=do).done(5.0)]

    with pytest.raises(RowError, match=r"^numbers\[7\]\.gold: has odd gold$"):
        asyncio.run(collect())


def test_who_leaves_takes_all_that_is_at_work_along() -> None:
    service = Service()
    service.faster = -1

    async def leave() -> None:
        parts = work_of(service).done(5.0, 3)
        await anext(parts)
        assert len(service.begun) > len(service.ended)
        await parts.aclose()
        await asyncio.sleep(0)
        assert sorted(service.begun) == sorted(service.ended)

    asyncio.run(leave())
