"""Routes that clients of OpenAI's API ask, for the service to inherit."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

from fastapi import Request, Response

from services.base import telemetry
from services.rollout.app import SERVICE, http
from services.rollout.openai import answering, chats, completions
from services.rollout.openai.answering import Asked
from services.rollout.openai.forms import ChatCompletion
from services.rollout.settings import RolloutArgs
from services.rollout.sizes import check_wishes
from services.rollout.turns import EngineTurns
from services.rollout.writer import Writer
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
    _served: ServedModel
    _texts: TokenTexts
    _turns: EngineTurns
    _vocab_size: int
    _writer: Writer

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
            with telemetry.phase(SERVICE, "decode"):
                rest = self._reader, self._texts, self._vocab_size, limits
                asked = await self._intake.read(read, body, *rest)
                self._served.check(asked.form.model)
                wishes = asked.wishes
                check_wishes(wishes, limits)
            held.enter_context(self._turns.admitted(sum(wish.count for wish in wishes)))
            self._intake.charge(sum(wish.cost for wish in wishes))
            pieces = self._writer.write(wishes, in_pieces=bool(asked.form.stream))
            if asked.form.stream:
                events = answering.events(asked, pieces, self._served.name)
                return EventStream(await anext(events), events, held.pop_all())
            choices = answering.Choices(asked)
            async with aclosing(pieces):
                async for place, written in pieces:
                    await asyncio.to_thread(choices.add, place, written)
            with telemetry.phase(SERVICE, "encode"):
                return await asyncio.to_thread(choices.answer, body, self._served.name)
