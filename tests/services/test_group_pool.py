"""The standing pool at work, on an event loop and without services."""

import asyncio
from collections.abc import Coroutine, Sequence
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.slots import SlotLedger
from rlad_core.standing_pool import StandingPool
from services.experience.pool import GroupPool


class Sampled:
    """Groups that take as many turns of the loop as they are told to."""

    def __init__(self, turns: Sequence[int], broken: int | None = None) -> None:
        self._turns, self._broken = turns, broken
        self.versions: dict[int, int] = {}
        self.cancelled: list[int] = []

    def __call__(self, positions: Sequence[int], step: int, version: int) -> list[Coroutine[Any, Any, int]]:
        self.versions |= dict.fromkeys(positions, version)
        return [self._sample(position) for position in positions]

    async def _sample(self, position: int) -> int:
        try:
            for _ in range(self._turns[position % len(self._turns)]):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(position)
            raise
        if position == self._broken:
            raise TimeoutError("waited 1 s for rollouts")
        return position


def pool_of(work: Sampled, groups: int, bound: int, window: int) -> tuple[GroupPool[int], SlotLedger]:
    ledger = SlotLedger((bound + 1) * groups)
    standing = StandingPool(ledger, prompts_per_step=groups, max_staleness=bound, window=window)
    return GroupPool(ledger, standing, work), ledger


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.integers(0, 30), min_size=1, max_size=9),
    groups=st.integers(1, 5),
    bound=st.integers(0, 2),
    window=st.integers(0, 3),
    update=st.integers(0, 20),
)
def test_a_run_trains_on_every_group_once(
    turns: list[int], groups: int, bound: int, window: int, update: int
) -> None:
    """A learner that takes, trains and publishes behind its next step, against groups of any length."""
    steps = 6

    async def run() -> list[list[int]]:
        work = Sampled(turns)
        pool, ledger = pool_of(work, groups, bound, window)
        behind: list[asyncio.Task[None]] = []

        async def publish(version: int, batch: list[int]) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            pool.published(version, batch)

        batches = []
        for step in range(steps):
            batch = await pool.take(step, groups, steps - 1)
            for _ in range(update):
                await asyncio.sleep(0)
            for position in batch:
                ledger.advance(position, "trained")
            batches.append(batch)
            behind.append(asyncio.create_task(publish(step + 1, batch)))
        await asyncio.gather(*behind)
        assert ledger.frontier.alive == ()
        assert not ledger.alive
        return batches

    batches = asyncio.run(asyncio.wait_for(run(), timeout=30))
    assert all(batch == sorted(batch) and len(batch) == groups for batch in batches)
    assert sorted(chain(*batches)) == list(range(groups * steps))
    if bound == 0 or window == 0:
        assert list(chain(*batches)) == list(range(groups * steps))


def test_on_policy_every_group_is_sampled_by_the_steps_own_version() -> None:
    async def run() -> dict[int, int]:
        work = Sampled([5, 0, 2])
        pool, ledger = pool_of(work, 3, 0, 0)
        for step in range(3):
            batch = await pool.take(step, 3, 2)
            for position in batch:
                ledger.advance(position, "trained")
            pool.published(step + 1, batch)
        return work.versions

    assert asyncio.run(run()) == {position: position // 3 for position in range(9)}


def test_a_failure_ends_the_step_and_cancels_the_others() -> None:
    async def run() -> list[int]:
        work = Sampled([0, 50, 50], broken=0)
        pool, _ = pool_of(work, 3, 1, 0)
        with pytest.raises(TimeoutError, match="waited 1 s for rollouts"):
            await asyncio.wait_for(pool.take(0, 3, 5), timeout=30)
        await asyncio.sleep(0)
        return work.cancelled

    assert asyncio.run(run()) == [1, 2, 4, 5]


def test_what_failed_between_two_steps_is_told_by_the_next() -> None:
    async def run() -> None:
        work = Sampled([0, 0, 0, 3, 99], broken=3)
        pool, _ = pool_of(work, 3, 1, 0)
        assert await pool.take(0, 3, 5) == [0, 1, 2]
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.take(1, 3, 5), timeout=30)

    asyncio.run(run())
