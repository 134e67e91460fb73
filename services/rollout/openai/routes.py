"""Routes that clients of OpenAI's API ask, for the service to inherit."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

from fastapi import Request, Response

from rlad_core.client.errors import DeadlineError
from rlad_core.waiting import all_of, limit
from services.rollout.app import http
from services.rollout.openai import answering, chats, completions
from services.rollout.openai.answering import Asked
from services.rollout.openai.forms import ChatCompletion
from services.rollout.sampling import Sampler
from services.rollout.settings import RolloutArgs
from services.rollout.turns import EngineTurns
from services.rollout.writing import Wish, Written
from services.serve.http.bodies import documents
from services.serve.http.health import Intake
from services.serve.http.texts import Reader
from services.serve.openai.answers import Completion
from services.serve.openai.events import EventStream
from services.serve.openai.models import ServedModel
from services.serve.token_texts import TokenTexts


class OpenAIRoutes:
    """What the service has, that these routes work with."""

    _args: RolloutArgs
    _intake: Intake
    _reader: Reader
    _sampler: Sampler
    _served: ServedModel
    _texts: TokenTexts
    _turns: EngineTurns
    _vocab_size: int

    @http.post(
        "/v1/completions",
        **documents(
            completions.Documented, Completion, completions.EXAMPLE, openai=True, arrow=False, events=True
        ),
    )
    async def complete(self, request: Request) -> Response:
        """Go on with prompts, in OpenAI's form."""
        return await self._answered(request, completions.read)

    @http.post(
        "/v1/chat/completions",
        **documents(chats.Documented, ChatCompletion, chats.EXAMPLE, openai=True, arrow=False, events=True),
    )
    async def chat(self, request: Request) -> Response:
        """Go on with a chat, in OpenAI's form; it goes through the model's chat template."""
        return await self._answered(request, chats.read)

    async def _answered(self, request: Request, read: Callable[..., Asked]) -> Response:
        limits = self._args.limits
        async with AsyncExitStack() as held:
            body = await held.enter_async_context(self._intake.admit(request, limits.max_body_bytes))
            asked = await self._intake.read(read, body, self._reader, self._texts, self._vocab_size, limits)
            self._served.check(asked.form.model)
            wishes = asked.wishes
            held.enter_context(self._turns.admitted(sum(wish.count for wish in wishes)))
            self._intake.charge(sum(wish.cost for wish in wishes))
            if asked.form.stream:
                events = answering.events(asked, self._pieces(wishes), self._served.name)
                return EventStream(await anext(events), events, held.pop_all())
            what = f"{sum(wish.count for wish in wishes)} answers to {len(wishes)} prompts"
            try:
                async with limit(self._args.timeout_s, what):
                    written = await all_of(self._whole(wish) for wish in wishes)
            except TimeoutError as error:
                raise DeadlineError(str(error)) from error
            return await asyncio.to_thread(answering.whole, asked, written, body, self._served.name)

    async def _whole(self, wish: Wish) -> list[Written]:
        written = [piece async for piece in self._sampler.write(wish, in_pieces=False)]
        return sorted(written, key=lambda piece: piece.index)

    async def _pieces(self, wishes: list[Wish]) -> AsyncGenerator[tuple[int, Written], None]:
        """What is written to each of several prompts, as it comes."""
        queue = asyncio.Queue[tuple[int, Written] | None]()

        async def fill(place: int, wish: Wish) -> None:
            async for piece in self._sampler.write(wish, in_pieces=True):
                queue.put_nowait((place, piece))

        writing = asyncio.ensure_future(all_of(fill(*each) for each in enumerate(wishes)))
        writing.add_done_callback(lambda _: queue.put_nowait(None))
        deadline = time.monotonic() + self._args.timeout_s

        async def following() -> tuple[int, Written] | None:
            # Round each wait alone: between them the caller of this generator is at work.
            async with limit(deadline - time.monotonic(), f"answers to {len(wishes)} prompts"):
                return await queue.get()

        try:
            while (piece := await following()) is not None:
                yield piece
            await writing
        except TimeoutError as error:
            raise DeadlineError(str(error)) from error
        finally:
            writing.cancel()
