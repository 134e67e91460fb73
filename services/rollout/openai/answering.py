"""Answers to requests in OpenAI's forms: whole, or piece by piece as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
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


class Places:
    """Where the tokens of a text that comes piece by piece begin in it. Special ones are no part of it: each
    has the place of what comes next.
    """

    def __init__(self, texts: TokenTexts) -> None:
        self._texts, self._text, self._end = texts, GrowingText(texts, first=False), 0

    def add(self, token_ids: Iterable[int]) -> list[int]:
        """Of the next tokens the characters that they begin at."""
        begins: list[int] = []
        for token_id in token_ids:
            begin = self._end
            if not self._texts.is_special(token_id):
                _, [(begin, self._end)] = self._text.add([token_id])
            begins.append(begin)
        return begins


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

    @property
    def beside(self) -> dict[str, Any]:
        """What an answer tells beside its choices, and a stream with its first event."""

    def begin(self, prompt: int) -> dict[str, Any] | None:
        """What a stream's choices of this prompt begin with; None: with their first pieces."""

    def choice(
        self, prompt: int, written: Written, before: Places | None = None, *, whole: bool
    ) -> dict[str, Any]:
        """An answer as a choice, all but its index.

        Args:
            before: of a piece: what was told already, to which it is added.
            whole: it is all of it.
        """


class Choices:
    """The choices of an answer that comes whole. Each is JSON as soon as it is written: as Python objects it
    takes some ten times the memory.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._told: dict[int, bytes] = {}
        self._tokens = 0

    def add(self, place: int, written: Written) -> None:
        """An answer to the prompt at a place."""
        index = place * (self._asked.form.n or 1) + written.index
        self._told[index] = orjson.dumps({"index": index, **self._asked.choice(place, written, whole=True)})
        self._tokens += len(written.tokens)

    def answer(self, body: Body, model: str) -> Response:
        """The answer to `body`, when all are there.

        Args:
            model: what the API calls it.
        """
        asked, told = self._asked, self._told
        fields = {
            **answers.head(asked.kind, asked.prefix, model),
            "choices": (orjson.Fragment(told.pop(index)) for index in sorted(told)),
            "usage": answers.usage(_prompt_tokens(asked), self._tokens),
            **asked.beside,
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
    told: dict[int, Places] = {}
    beside, tokens = asked.beside, 0
    # Closed with this one: who leaves early frees the engine.
    async with aclosing(pieces):
        async for place, piece in pieces:
            index = place * count + piece.index
            if index not in told and (beginning := asked.begin(place)) is not None:
                yield _event(head, [{"index": index, **beginning, "finish_reason": None}], **beside)
                beside = {}
            before = told.setdefault(index, Places(asked.texts))
            tokens += len(piece.tokens)
            told_now = asked.choice(place, piece, before, whole=False)
            yield _event(head, [{"index": index, **told_now}], **beside)
            beside = {}
    if tells_usage:
        yield _event(head, [], usage=answers.usage(_prompt_tokens(asked), tokens))
    yield b"data: [DONE]\n\n"


def _event(head: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + orjson.dumps(head | {"choices": choices} | more) + b"\n\n"


def _prompt_tokens(asked: Asked) -> int:
    return sum(int(prompt.token_ids.size) for prompt in asked.prompts)
