"""A request that is answered part by part: what was accepted is finished."""

import asyncio
from collections import Counter

import pytest
from jobs_of_numbers import BODY, DONE, PARTS, reading

from rlad_core.client.errors import BusyError, DeadlineError
from services.serve.quotas import QuotaError


async def doubled(refusals: Counter[int], error: BusyError, patience_s: float) -> list[int]:
    """What the parts tell; each is refused so many times before, by the number of its place."""

    async def do(numbers: list[int]) -> None:
        if refusals[numbers[0] // 2] > 0:
            refusals[numbers[0] // 2] -= 1
            raise error

    work = await reading(do)(BODY, {})
    return [number async for _, part in work.done(patience_s) for number in part["number"].to_pylist()]


@pytest.mark.parametrize("kind", [BusyError, QuotaError])
def test_a_later_part_waits_for_its_turn(kind: type[BusyError]) -> None:
    refusals = Counter({1: 2, PARTS - 1: 1})
    assert asyncio.run(doubled(refusals, kind("full", retry_after_s=0.01), 30)) == DONE
    assert not +refusals


def test_what_is_not_accepted_is_refused_at_once() -> None:
    with pytest.raises(BusyError, match="full"):
        asyncio.run(doubled(Counter({0: 1}), BusyError("full", retry_after_s=0.01), 30))


def test_a_part_waits_no_longer_than_it_may() -> None:
    with pytest.raises(DeadlineError, match="did not get its turn within 1 s: full"):
        asyncio.run(doubled(Counter({2: 1}), BusyError("full", retry_after_s=2.0), 1.0))
