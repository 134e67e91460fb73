"""Answers to prompts as text, as they are made, within turns and a time limit."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rlad_core import metrics
from rlad_core.client.errors import DeadlineError
from rlad_core.waiting import all_of
from services.base import telemetry
from services.rollout.app import SERVICE
from services.rollout.turns import EngineTurns
from services.rollout.writing import Wish, Written
from services.serve.lost_engine import EngineLostError, end_with_engine
from services.weights.held_policy import HeldPolicy

if TYPE_CHECKING:
    from services.rollout.engine import PolicyEngine


_Made = tuple[int, Written] | asyncio.Event | None
"""A piece with its prompt's place; of whom to tell that all before was read; None: there is no more."""


class Writer:
    """Of one replica, which ends with its engine.

        wishes, in parts -> turns -> engine -> what is made -> whoever reads it
                   ^                                               |
                   +-------- as many at a time as it has places ---+

    A part counts until it is read, so that what waits to be read is bounded; its turn ends where the engine
    is done with it, so that who reads slowly keeps no place from others.

    Args:
        held: which version the engine holds.
        timeout_s: limit of a call.
    """

    def __init__(
        self, engine: "PolicyEngine", held: HeldPolicy, turns: EngineTurns, *, timeout_s: float
    ) -> None:
        self._engine, self._held, self._turns, self._timeout_s = engine, held, turns, timeout_s

    async def write(
        self, wishes: Sequence[Wish], *, in_pieces: bool
    ) -> AsyncGenerator[tuple[int, Written], None]:
        """What is written to each of several prompts, all with as many answers: the prompt's place, and a
        piece. Leaving it early frees the engine.

        Args:
            in_pieces: see `PolicyEngine.write`.

        Raises:
            InvalidRequestError: the engine does not take a wish.
            DeadlineError: there was nothing to read within the time limit.
        """
        made = asyncio.Queue[_Made]()
        answers = sum(wish.count for wish in wishes)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        writing = asyncio.ensure_future(self._write_all(wishes, made, in_pieces=in_pieces))
        writing.add_done_callback(lambda _: made.put_nowait(None))
        tokens = 0
        try:
            while True:
                # Round each wait alone: between them the caller of this generator is at work.
                async with asyncio.timeout_at(deadline):
                    each = await made.get()
                if each is None:
                    break
                if isinstance(each, asyncio.Event):
                    each.set()
                    continue
                tokens += len(each[1].tokens)
                yield each
            await writing
        except TimeoutError as error:
            waited = f"waited {self._timeout_s:g} s for {answers} answers to {len(wishes)} prompts"
            raise DeadlineError(str(error) or waited) from error
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        telemetry.count(metrics.SERVICE_SEQUENCES, answers, service=SERVICE)
        for kind, count in (("prompt", sum(wish.prompt.size for wish in wishes)), ("generated", tokens)):
            telemetry.count(metrics.SERVICE_TOKENS, int(count), service=SERVICE, kind=kind)

    async def _write_all(
        self, wishes: Sequence[Wish], made: asyncio.Queue[_Made], *, in_pieces: bool
    ) -> None:
        async def write(place: int, wish: Wish, start: int, stop: int) -> None:
            part = wish.part(start, stop - start)
            async with self._turns.turn(part.count, part.cost):
                phase.change("engine")
                async for piece in self._engine.write(part, in_pieces=in_pieces):
                    made.put_nowait((place, replace(piece, index=start + piece.index)))
            is_read = asyncio.Event()
            made.put_nowait(is_read)
            await is_read.wait()

        with telemetry.phase(SERVICE, "queue") as phase:
            await self._held.reach(0)
            parts = [
                write(place, wish, *bounds)
                for place, wish in enumerate(wishes)
                for bounds in self._turns.parts(wish.count)
            ]
            try:
                await all_of(parts, at_most=self._turns.parts_together(wishes[0].count))
            except EngineLostError as error:
                end_with_engine(SERVICE, error)
