"""Answers to requests in OpenAI's forms: whole, or piece by piece as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import orjson
from fastapi import Response

from services.rollout.writing import Wish, Written
from services.serve.http.bodies import Body, json_answer
from services.serve.openai import answers
from services.serve.openai.prompts import Prompt
from services.serve.openai.sampling import SamplingForm
from services.serve.token_texts import GrowingText, TokenTexts


class Asked(Protocol):
    """A request that was read.

    Attributes:
        form: as it came.
        prompts: that are answered.
        wishes: what the engine is asked for each.
        texts: of the tokens.
        kind, chunk_kind: what answers call themselves, whole ones and pieces.
        prefix: of their ids.
    """

    @property
    def form(self) -> SamplingForm: ...
    @property
    def prompts(self) -> list[Prompt]: ...
    @property
    def wishes(self) -> list[Wish]: ...
    @property
    def texts(self) -> TokenTexts: ...
    @property
    def kind(self) -> str: ...
    @property
    def chunk_kind(self) -> str: ...
    @property
    def prefix(self) -> str: ...

    def begin(self, prompt: int) -> dict[str, Any] | None:
        """What a stream's choices of this prompt begin with; None: with their first pieces."""

    def choice(
        self, prompt: int, written: Written, before: GrowingText | None = None, *, whole: bool
    ) -> dict[str, Any]:
        """An answer as a choice, all but its index.

        Args:
            before: of a piece: what was told already, to which it is added.
            whole: it is all of it.
        """


def whole(asked: Asked, written: list[list[Written]], body: Body, model: str) -> Response:
    """The answer.

    Args:
        written: to each prompt the answers, in order.
        model: what the API calls it.
    """
    count = asked.form.n or 1
    choices = [
        {"index": place * count + each.index, **asked.choice(place, each, whole=True)}
        for place, those in enumerate(written)
        for each in those
    ]
    tokens = sum(len(each.tokens) for those in written for each in those)
    fields = {
        **answers.head(asked.kind, asked.prefix, model),
        "choices": choices,
        "usage": answers.usage(_prompt_tokens(asked), tokens),
    }
    return json_answer(fields, body)


async def events(
    asked: Asked, pieces: AsyncGenerator[tuple[int, Written], None], model: str
) -> AsyncGenerator[bytes, None]:
    """The answer as events.

    Args:
        pieces: which prompt each is of, and what was written.
        model: what the API calls it.
    """
    head = answers.head(asked.chunk_kind, asked.prefix, model)
    options = asked.form.stream_options
    tells_usage = options is not None and bool(options.include_usage)
    if tells_usage:
        head["usage"] = None  # of all events but the last; clients of OpenAI look for it in each
    count = asked.form.n or 1
    told: dict[int, GrowingText] = {}
    tokens = 0
    # Closed with this one: who leaves early frees the engine.
    async with aclosing(pieces):
        async for place, piece in pieces:
            index = place * count + piece.index
            if index not in told and (beginning := asked.begin(place)) is not None:
                yield _event(head, [{"index": index, **beginning, "finish_reason": None}])
            before = told.setdefault(index, GrowingText(asked.texts, first=False))
            tokens += len(piece.tokens)
            yield _event(head, [{"index": index, **asked.choice(place, piece, before, whole=False)}])
    if tells_usage:
        yield _event(head, [], usage=answers.usage(_prompt_tokens(asked), tokens))
    yield b"data: [DONE]\n\n"


def _event(head: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + orjson.dumps(head | {"choices": choices} | more) + b"\n\n"


def _prompt_tokens(asked: Asked) -> int:
    return sum(int(prompt.token_ids.size) for prompt in asked.prompts)
