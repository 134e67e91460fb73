"""Places in the rollouts' engine: who is refused, who waits, and that places come back."""

import asyncio

import pytest

from rlad_core.client.errors import BusyError
from services.rollout.turns import EngineTurns
from services.serve.fair import ASKER, Asker


def test_a_lone_request_is_taken_and_more_are_refused_over_the_limit() -> None:
    unfinished = 0
    turns = EngineTurns(4, {}, 5, lambda: unfinished)
    turns.refuse_if_busy(100)
    unfinished = 3
    turns.refuse_if_busy(2)
    with pytest.raises(BusyError, match=r"3 responses are in work .* more than 5"):
        turns.refuse_if_busy(3)


def test_who_comes_when_all_places_are_taken_waits_and_the_run_itself_does_not() -> None:
    turns = EngineTurns(4, {}, 100, lambda: 0)
    told: list[tuple[int, int]] = []

    async def ask(caller: str, taken: asyncio.Event, leave: asyncio.Event) -> None:
        ASKER.set(Asker(caller))
        async with turns.turn(3, 30.0):
            taken.set()
            await leave.wait()

    async def body() -> None:
        taken, leave, next_taken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(ask("a", taken, leave))
        await taken.wait()
        second = asyncio.create_task(ask("b", next_taken, leave))
        await asyncio.sleep(0)
        told.append((turns.waiting, turns.callers))
        async with turns.turn(3, 30.0):  # by handle, the run that the service belongs to
            assert not next_taken.is_set()
        given_up = asyncio.create_task(ask("c", asyncio.Event(), leave))
        await asyncio.sleep(0)
        told.append((turns.waiting, turns.callers))
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        leave.set()
        await asyncio.gather(first, second)
        told.append((turns.waiting, turns.callers))

    asyncio.run(body())
    assert told == [(3, 1), (6, 2), (0, 0)]
