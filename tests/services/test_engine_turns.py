"""Places in the rollouts' engine: who is refused, who waits, and that places come back."""

import asyncio
from contextlib import ExitStack, suppress
from contextvars import copy_context

import pytest

from rlad_core.client.errors import BusyError
from services.rollout.turns import EngineTurns
from services.serve.fair import ASKER, OWN, Asker
from services.serve.shares import QueueShares


def test_a_lone_request_is_taken_and_more_are_refused_over_the_limit() -> None:
    unfinished = 0
    turns = EngineTurns(4, {}, 5, lambda: unfinished)
    with turns.admitted(100):
        pass
    unfinished = 3
    with turns.admitted(2):
        pass
    with pytest.raises(BusyError, match=r"3 responses are in work .* more than 5"), turns.admitted(3):
        pass


def test_one_caller_leaves_room_for_the_others() -> None:
    copy_context().run(callers_fill_a_room)  # whose asker is theirs


def callers_fill_a_room() -> None:
    room = QueueShares(100, {"heavy": 3.0}, "tokens wait", "tokens", 1.0)
    with ExitStack() as held:
        waiting = 0

        def fill(caller: str) -> int:
            """Requests of ten, until one is refused."""
            nonlocal waiting
            ASKER.set(Asker(caller))
            before = waiting
            with suppress(BusyError):
                while True:
                    held.enter_context(room.taken(10, waiting))
                    waiting += 10
            return waiting - before

        # Alone: 40 + 10 is no more than the 60 that are free, 50 + 10 is more than the 50 after that.
        assert fill("a") == 50
        # Beside it: 20 + 10 is no more than 30.
        assert fill("b") == 30
        # Thrice what is free: 10 + 10 of 10, and then nothing is.
        assert fill("heavy") == 20
        with pytest.raises(BusyError, match=r"100 tokens wait here"), room.taken(10, waiting):
            pass
    # All is given back.
    ASKER.set(Asker("a"))
    with room.taken(10, 0), room.taken(40, 10):
        ASKER.set(Asker(OWN))  # the run itself may have all of it
        with room.taken(20, 50), room.taken(30, 70):
            pass


def test_one_caller_may_have_more_than_half() -> None:
    copy_context().run(one_of_places)


def one_of_places() -> None:
    places, waiting = QueueShares(80, {}, "requests wait", "requests", 1.0, 7.0), 0
    with ExitStack() as held:
        ASKER.set(Asker("greedy"))
        for _ in range(70):
            held.enter_context(places.taken(1, waiting))
            waiting += 1
        refused = r"70 requests of yours are here, .* more than the 70 that are left"
        with pytest.raises(BusyError, match=refused), places.taken(1, waiting):
            pass
        for name in map(str, range(10)):  # there is room for others, also for many of them
            ASKER.set(Asker(name))
            held.enter_context(places.taken(1, waiting))
            waiting += 1
    with places.taken(80, 0):
        pass


def test_what_takes_no_room_may_go_last() -> None:
    room = QueueShares(100, {}, "tokens wait", "tokens", 1.0)
    with ExitStack() as last, room.taken(10, 0):
        last.enter_context(room.taken(0, 10))
    with room.taken(100, 0):
        pass


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
