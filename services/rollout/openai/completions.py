"""``POST /v1/completions`` of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from msgspec import Meta, Raw

from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.openai.answering import Places
from services.rollout.openai.repeated import as_json, refuse_repeated
from services.rollout.writing import Token, Wish, Written
from services.serve.http.bodies import Body, only_json
from services.serve.http.json_forms import invalid, to_form
from services.serve.http.texts import Reader, refuse_over
from services.serve.openai import prompts
from services.serve.openai.forms import AddSpecialTokens, NoSuffix, rules
from services.serve.openai.logprobs import by_id, by_name, check_top
from services.serve.openai.numbers import BestOf, TopCount
from services.serve.openai.prompts import Prompt, PromptField
from services.serve.openai.sampling import RULES, SamplingForm, stops
from services.serve.token_sum import TokenSum
from services.serve.token_texts import TokenTexts

_OBJECTS = 64
_DEFAULT_TOKENS = 16


class CompletionRequest(SamplingForm, forbid_unknown_fields=True, kw_only=True):
    """Prompts to go on with. All log-probs are natural ones of temperature 1, of the whole vocabulary."""

    prompt: Annotated[Raw, PromptField]
    logprobs: Annotated[TopCount, Meta(description="Likeliest tokens told at each place.")] | None = None
    echo: (
        Annotated[
            bool,
            Meta(
                description="Begin texts with their prompts; without log-probs, which a teacher tells.",
            ),
        ]
        | None
    ) = None
    best_of: (
        Annotated[BestOf, Meta(description="Not offered here; 1, and as many as n, change nothing.")] | None
    ) = None
    suffix: NoSuffix | None = None
    prompt_embeds: None = None
    add_special_tokens: AddSpecialTokens | None = None
    return_tokens_as_token_ids: (
        Annotated[bool, Meta(description="Write tokens as token_id:17 where log-probs are told.")] | None
    ) = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.echo and self.logprobs is not None:
            raise ValueError("echo: log-probs of a prompt are a teacher's to tell; leave out one of the two")
        if self.best_of not in (None, 1, self.n or 1):
            raise ValueError(
                f"best_of: {self.best_of} is not n: {self.n or 1}; all answers are told, and none chosen"
            )


Documented = Annotated[
    CompletionRequest,
    rules(
        *RULES,
        {
            "anyOf": [
                {"properties": {"echo": {"enum": [False, None]}}},
                {"properties": {"logprobs": {"type": "null"}}},
            ]
        },
        # As many as n is taken too, which schemas say in a way that few tools read.
        {"properties": {"best_of": {"enum": [1, None]}}},
    ),
]
"""With what is refused of several fields together."""
EXAMPLE: dict[str, Any] = {"prompt": [11, 12, 13], "max_tokens": 8, "temperature": 1.0}


@dataclass(frozen=True)
class AskedCompletion:
    """A request that was read; see `services.rollout.openai.answering.Asked`.

    Args:
        prompt_texts: of each prompt, where answers tell of it or of places behind it; else none.
        prompt_ids: of each prompt as JSON, where answers tell them; else none.
        max_length: tokens of a prompt and an answer together.
    """

    form: CompletionRequest
    prompts: list[Prompt]
    prompt_texts: list[str]
    prompt_ids: list[bytes]
    stop: tuple[str, ...]
    texts: TokenTexts
    max_length: int

    kind = "text_completion"
    chunk_kind = "text_completion"
    prefix = "cmpl"

    @property
    def wishes(self) -> list[Wish]:
        """One for each prompt."""
        form = self.form
        return [
            Wish(
                prompt=prompt.token_ids,
                count=form.n or 1,
                # What the engine stops at is all that is charged.
                max_tokens=min(
                    form.max_tokens or _DEFAULT_TOKENS, self.max_length - int(prompt.token_ids.size)
                ),
                temperature=1.0 if form.temperature is None else form.temperature,
                top_p=1.0 if form.top_p is None else form.top_p,
                seed=form.seed,
                stop=self.stop,
                top_logprobs=form.logprobs or 0,
            )
            for prompt in self.prompts
        ]

    @property
    def beside(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def begin(self, prompt: int) -> dict[str, Any] | None:
        """What a stream's choice of this prompt begins with; None: with its first piece."""
        if not self.form.echo and not self.prompt_ids:
            return None
        told = {"text": self.prompt_texts[prompt] if self.form.echo else "", "logprobs": None}
        return told | ({"token_ids": []} | self._its_ids(prompt) if self.prompt_ids else {})

    def choice(
        self, prompt: int, written: Written, before: Places | None = None, *, whole: bool
    ) -> dict[str, Any]:
        """A piece of an answer.

        Args:
            before: what was told already, to which it is added.
            whole: it is all of it.
        """
        form = self.form
        text = self.prompt_texts[prompt] + written.text if form.echo and whole else written.text
        told: dict[str, Any] = {
            "text": text,
            "logprobs": None if form.logprobs is None else self._logprobs(prompt, written.tokens, before),
            "finish_reason": written.finish_reason,
        }
        if form.return_token_ids:
            told["token_ids"] = [token.token_id for token in written.tokens]
            if whole:
                told |= self._its_ids(prompt)
        return told

    def _its_ids(self, prompt: int) -> dict[str, Any]:
        return {"prompt_token_ids": orjson.Fragment(self.prompt_ids[prompt])}

    def _logprobs(self, prompt: int, tokens: Sequence[Token], before: Places | None) -> dict[str, Any]:
        begins = (before or Places(self.texts)).add(token.token_id for token in tokens)
        after = len(self.prompt_texts[prompt])
        texts = None if self.form.return_tokens_as_token_ids else self.texts
        names = [by_id(t.token_id) if texts is None else texts.name(t.token_id) for t in tokens]
        return {
            "text_offset": [after + begin for begin in begins],
            "token_logprobs": [token.logprob for token in tokens],
            "tokens": names,
            "top_logprobs": [
                by_name(token.token_id, name, token.logprob, *_columns(token.top), texts)
                for name, token in zip(names, tokens, strict=True)
            ],
        }


def read(
    body: Body, reader: Reader, texts: TokenTexts, vocab_size: int, limits: RolloutLimits
) -> AskedCompletion:
    """Read a request.

    Raises:
        ProblemError: 400 not readable, 415 no JSON, 422 not of the documented form, or too long a prompt.
        LimitError: more responses or tokens than one request may ask for, or that repeat too much of the
            prompts.
    """
    form = to_form(only_json(body), CompletionRequest, _OBJECTS)
    single = prompts.split(form.prompt, limits.max_responses_per_request)
    refuse_over("sequences", len(single) * (form.n or 1), limits.max_responses_per_request, "responses")
    check_top("logprobs", form.logprobs or 0, limits.max_top_k)
    found = prompts.read(
        single,
        reader,
        vocab_size,
        add_special_tokens=form.add_special_tokens is not False,
        tokens=TokenSum(limits.max_tokens_per_request),
    )
    for place, prompt in enumerate(found):
        if (size := prompt.token_ids.size) >= reader.max_length:
            where = "prompt" if len(found) == 1 else f"prompt[{place}]"
            raise invalid(where, f"has {size} tokens and leaves none of {reader.max_length} for an answer")
    # Once, and not in the event loop: a long one takes a while.
    wanted = form.echo or form.logprobs is not None
    told = [_text_of(prompt, texts) for prompt in found] if wanted else []
    ids = [as_json(prompt.token_ids) for prompt in found] if form.return_token_ids else []
    refuse_repeated([*ids, *(told if form.echo else ())], form.n or 1, limits)
    return AskedCompletion(form, found, told, ids, stops(form.stop), texts, reader.max_length)


def _text_of(prompt: Prompt, texts: TokenTexts) -> str:
    return texts.pieces(prompt.token_ids.tolist()).text if prompt.text is None else prompt.text


def _columns(top: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [token_id for token_id, _ in top], [logprob for _, logprob in top]
