"""Answers as text: parts of them side by side, seeds, slow readers, and who leaves or waits too long."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from rlad_core.client.errors import DeadlineError, InvalidRequestError
from services.rollout.turns import EngineTurns
from services.rollout.writer import Writer
from services.rollout.writing import Token, Wish, Written
from services.serve.fair import ASKER, Asker

PLACES = 8
A = Token(5, -1.0, [])


def wish(count: int, seed: int = 100) -> Wish:
    return Wish(np.array([1], np.int32), count, 4, 1.0, 1.0, seed, (), 0)


class Engine:
    """Writes the seed of each answer, in two pieces; as long as it is held none is begun."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.calls: list[int] = []
        self.writing = self.most = 0
        self.fault: Exception | None = None

    async def write(self, wish: Wish, *, in_pieces: bool) -> AsyncGenerator[Written, None]:
        self.calls.append(wish.count)
        self.writing += wish.count
        self.most = max(self.most, self.writing)
        try:
            await self.goes_on.wait()
            if self.fault is not None:
                raise self.fault
            for index in range(wish.count):
                seed = str((wish.first_seed or 0) + index)
                for text, reason in ((seed, None), (".", "stop")) if in_pieces else ((seed + ".", "stop"),):
                    await asyncio.sleep(0)
                    yield Written(index, text, [A], reason)
        finally:
            self.writing -= wish.count


class Held:
    async def reach(self, version: int) -> None: ...


def writer_of(engine: Engine, timeout_s: float = 30.0, turns: EngineTurns | None = None) -> Writer:
    parts: Any = engine, Held(), turns or EngineTurns(PLACES, {}, 1000, lambda: 0)
    return Writer(*parts, timeout_s=timeout_s)


async def texts(writer: Writer, *wishes: Wish, in_pieces: bool) -> dict[tuple[int, int], str]:
    ASKER.set(Asker("a"))
    found = dict[tuple[int, int], str]()
    async for place, piece in writer.write(wishes, in_pieces=in_pieces):
        found[place, piece.index] = found.get((place, piece.index), "") + piece.text
    return found


async def some_turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("in_pieces", [True, False])
def test_answers_have_their_numbers_and_seeds(in_pieces: bool) -> None:
    async def work() -> None:
        engine = Engine()
        told = await texts(writer_of(engine), wish(5), wish(5, 7), in_pieces=in_pieces)
        first = {(0, index): f"{100 + index}." for index in range(5)}
        assert told == first | {(1, index): f"{7 + index}." for index in range(5)}
        assert sorted(engine.calls) == [1, 1, 2, 2, 2, 2]

    asyncio.run(work())


@pytest.mark.parametrize(("count", "prompts"), [(40, 1), (1, 40)])
def test_the_engine_has_as_many_as_it_has_places_for(count: int, prompts: int) -> None:
    """Also of one prompt, whose answers were written a quarter of the places at a time."""

    async def work() -> None:
        engine = Engine()
        engine.goes_on.clear()
        asked = asyncio.create_task(texts(writer_of(engine), *[wish(count)] * prompts, in_pieces=False))
        await some_turns()
        assert engine.writing == PLACES
        engine.goes_on.set()
        assert len(await asked) == 40
        assert engine.most == PLACES

    asyncio.run(work())


def test_what_is_not_read_is_bounded_and_takes_no_place() -> None:
    async def work() -> None:
        engine, turns = Engine(), EngineTurns(PLACES, {}, 1000, lambda: 0)
        ASKER.set(Asker("slow"))
        async with aclosing(writer_of(engine, turns=turns).write([wish(100)], in_pieces=True)) as slow:
            await anext(slow)
            await some_turns()
            begun = sum(engine.calls)
            assert begun <= PLACES + 2  # and no more until they are read
            told = await texts(writer_of(engine, turns=turns), wish(PLACES), in_pieces=True)
            assert len(told) == PLACES
            assert sum(engine.calls) == begun + PLACES
            read = {piece.index async for _, piece in slow}
            assert read == set(range(100))

    asyncio.run(asyncio.wait_for(work(), 30))


def test_who_leaves_frees_the_engine() -> None:
    async def work() -> None:
        engine = Engine()
        ASKER.set(Asker("a"))
        async with aclosing(writer_of(engine).write([wish(3), wish(3)], in_pieces=True)) as pieces:
            await anext(pieces)
            engine.goes_on.clear()
        assert engine.writing == 0

    asyncio.run(work())


def test_a_wish_that_the_engine_does_not_take_is_refused() -> None:
    async def work() -> None:
        engine = Engine()
        engine.fault = InvalidRequestError("logprobs: too many")
        with pytest.raises(InvalidRequestError, match="too many"):
            await texts(writer_of(engine), wish(5), in_pieces=False)
        assert engine.writing == 0

    asyncio.run(work())


def test_the_wait_has_a_limit_that_names_what_was_waited_for() -> None:
    async def work() -> None:
        engine = Engine()
        engine.goes_on.clear()
        with pytest.raises(DeadlineError, match=r"waited 0\.01 s for 6 answers to 2 prompts"):
            await texts(writer_of(engine, 0.01), wish(3), wish(3), in_pieces=True)
        assert engine.writing == 0

    asyncio.run(work())
