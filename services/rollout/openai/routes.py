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
from services.rollout.settings import RolloutArgs
from services.rollout.writing import Wish, Written
from services.serve.http.bodies import documents
from services.serve.http.health import Intake
from services.serve.http.problems import documented
from services.serve.http.texts import Reader
from services.serve.openai.answers import Completion
from services.serve.openai.events import EventStream
from services.serve.openai.models import Model, ModelList, ServedModel
from services.serve.token_texts import TokenTexts


class OpenAIRoutes:
    """What the service has, that these routes work with."""

    _args: RolloutArgs
    _intake: Intake
    _reader: Reader
    _served: ServedModel
    _texts: TokenTexts
    _vocab_size: int

    @http.get("/v1/models", responses=documented(401, 403, openai=True))
    async def models(self) -> ModelList:
        """The model that is served, in OpenAI's form."""
        return self._served.list()

    @http.get("/v1/models/{name:path}", responses=documented(401, 403, 404, openai=True))
    async def model(self, name: str) -> Model:
        """The model, if this is its name."""
        return self._served.get(name)

    @http.post(
        "/v1/completions",
        **documents(completions.Documented, Completion, completions.EXAMPLE, openai=True, arrow=False),
    )
    async def complete(self, request: Request) -> Response:
        """Go on with prompts, in OpenAI's form."""
        return await self._answered(request, completions.read)

    @http.post(
        "/v1/chat/completions",
        **documents(chats.Documented, ChatCompletion, chats.EXAMPLE, openai=True, arrow=False),
    )
    async def chat(self, request: Request) -> Response:
        """Go on with a chat, in OpenAI's form; it goes through the model's chat template."""
        return await self._answered(request, chats.read)

    async def _answered(self, request: Request, read: Callable[..., Asked]) -> Response:
        limits = self._args.limits
        async with AsyncExitStack() as held:
            body = await held.enter_async_context(self._intake.admit(request, limits.max_body_bytes))
            asked = await asyncio.to_thread(read, body, self._reader, self._texts, self._vocab_size, limits)
            self._served.check(asked.form.model)
            wishes = asked.wishes
            self._refuse_if_busy(sum(wish.count for wish in wishes))
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
        written = [piece async for piece in self._write(wish, in_pieces=False)]
        return sorted(written, key=lambda piece: piece.index)

    async def _pieces(self, wishes: list[Wish]) -> AsyncGenerator[tuple[int, Written], None]:
        """What is written to each of several prompts, as it comes."""
        queue = asyncio.Queue[tuple[int, Written] | None]()

        async def fill(place: int, wish: Wish) -> None:
            async for piece in self._write(wish, in_pieces=True):
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

    def _refuse_if_busy(self, responses: int) -> None:
        raise NotImplementedError

    def _write(self, wish: Wish, *, in_pieces: bool) -> AsyncGenerator[Written, None]:
        raise NotImplementedError
