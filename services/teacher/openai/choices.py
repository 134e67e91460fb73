"""What was scored, as the choices of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Response

from services.serve.http.bodies import Body, json_answer
from services.serve.openai import answers
from services.serve.openai.logprobs import by_id, by_name
from services.serve.openai.prompts import Prompt
from services.serve.token_texts import TokenTexts
from services.teacher.openai.completions import Asked, CompletionRequest
from services.teacher.openai.places import Place, places
from services.teacher.scoring.interface import Scored


def write(
    asked: Asked, scored: Sequence[Scored | None], body: Body, texts: TokenTexts, end: int | None, model: str
) -> Response:
    """The answer.

    Args:
        scored: of each of `Asked.pairs`.
        end: the end token.
        model: what the API calls it.
    """
    choices = []
    for index, (prompt, pair, values) in enumerate(zip(asked.prompts, asked.pairs(), scored, strict=True)):
        found = [] if pair is None or values is None else places(pair, values, asked.form.appended)
        choice = _choice(asked.form, index, prompt, found, texts, end)
        # Each becomes JSON by itself: as Python objects it takes some ten times the memory.
        choices.append(orjson.Fragment(orjson.dumps(choice)))
    tokens = sum(prompt.token_ids.size for prompt in asked.prompts)
    fields = {
        **answers.head("text_completion", "cmpl", model),
        "choices": choices,
        "usage": answers.usage(tokens, len(choices) * asked.form.appended),
    }
    return json_answer(fields, body)


def _choice(
    form: CompletionRequest,
    index: int,
    prompt: Prompt,
    found: list[Place],
    texts: TokenTexts,
    end: int | None,
) -> dict[str, Any]:
    ids = prompt.token_ids.tolist()
    of_prompt, of_appended = (found[:-1], found[-1:]) if form.appended else (found, [])
    pieces = texts.pieces(ids)
    text = pieces.text if prompt.text is None else prompt.text
    new = [place.token_id for place in of_appended]
    written = texts.pieces([i for i in new if not texts.is_special(i)], first=False).text
    choice: dict[str, Any] = {
        "index": index,
        "text": text + written if form.echo else written,
        "logprobs": None,
        "finish_reason": "stop" if new == [end] else "length",
    }
    if form.logprobs is not None:
        echoed = [None, *of_prompt] if form.echo else []
        # Where tokens do not hold the text as it was sent, the tokenizer knows where in it they begin.
        in_pieces = [begin for begin, _ in pieces.spans]
        if pieces.text != text and prompt.offsets is not None:
            in_pieces = prompt.offsets.tolist()
        begins = [*in_pieces, len(text)]
        names = [*pieces.tokens, *texts.names(new)]
        shown = slice(0, None) if form.echo else slice(len(ids), None)
        choice["logprobs"] = _logprobs(
            form, [*ids, *new][shown], names[shown], [*echoed, *of_appended], texts
        ) | {"text_offset": begins[shown][: len(echoed) + len(new)]}
    if form.prompt_logprobs is not None:
        k = form.prompt_logprobs
        choice["prompt_logprobs"] = [None, *(_by_token_id(place, k, texts) for place in of_prompt)]
    if form.return_token_ids:
        choice |= {"prompt_token_ids": ids, "token_ids": new}
    return choice


def _logprobs(
    form: CompletionRequest, ids: list[int], names: list[str], told: list[Place | None], texts: TokenTexts
) -> dict[str, Any]:
    if form.return_tokens_as_token_ids:
        names = [by_id(i) for i in ids]
    k = form.logprobs
    others = None if form.return_tokens_as_token_ids else texts
    return {
        "token_logprobs": [None if place is None else place.logprob for place in told],
        "tokens": names,
        "top_logprobs": [
            None
            if place is None
            else by_name(
                place.token_id, name, place.logprob, place.top_ids[:k], place.top_logprobs[:k], others
            )
            for name, place in zip(names, told, strict=True)
        ],
    }


def _by_token_id(place: Place, k: int, texts: TokenTexts) -> dict[str, dict[str, Any]]:
    """The token that stands there and then the k likeliest, as vLLM orders them."""
    told = {place.token_id: (place.logprob, place.rank)}
    for rank, (token_id, logprob) in enumerate(
        zip(place.top_ids[:k], place.top_logprobs[:k], strict=True), 1
    ):
        told[token_id] = (logprob, rank)
    return {
        str(token_id): {"logprob": logprob, "rank": rank, "decoded_token": texts.name(token_id)}
        for token_id, (logprob, rank) in told.items()
    }
