"""``POST /v1/completions`` of a teacher: log-probs of prompts (``echo``, ``prompt_logprobs``), and one token
more if that is wanted, the likeliest.

A prompt of n tokens is scored as a response of n-1 tokens to its first one, which has no log-prob. The
appended token is the likeliest at the place of one response token more, whose own log-prob nobody wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType

from rlad_core.client.details import Details
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body, only_json
from services.serve.http.json_forms import invalid, to_form
from services.serve.http.texts import Reader
from services.serve.openai import prompts
from services.serve.openai.forms import AddSpecialTokens, NoSuffix, OpenAIForm, rules, unless
from services.serve.openai.logprobs import check_top
from services.serve.openai.numbers import AnyWhole, Count, One, ZeroOrOne
from services.serve.openai.prompts import Prompt, PromptField
from services.serve.openai.sampling import StopField, stops
from services.serve.token_sum import TokenSum
from services.teacher.scoring.interface import TokenIds, TokenPair

_OBJECTS = 64
_ANY_TOKEN = np.zeros(1, dtype=np.int32)
_SCORES = "A teacher scores, and appends one token at most, the likeliest: "


class CompletionRequest(OpenAIForm, forbid_unknown_fields=True, kw_only=True):
    """Prompts to score. All log-probs are natural ones of temperature 1."""

    prompt: Annotated[Raw, PromptField]
    echo: Annotated[bool, Meta(description="Tell the prompt too, with its log-probs.")] | None = None
    logprobs: Annotated[Count, Meta(description="Likeliest tokens that are told at each place.")] | None = (
        None
    )
    prompt_logprobs: (
        Annotated[Count, Meta(description="The same of the prompt, by token id, as vLLM's server has it.")]
        | None
    ) = None
    max_tokens: Annotated[ZeroOrOne, Meta(description=_SCORES + "0 or 1. By default 1.")] | None = None
    n: Annotated[One, Meta(description=_SCORES + "1.")] | None = None
    temperature: (
        Annotated[float, Meta(ge=0, description="Without a meaning here; with prompt_logprobs 0 or 1.")]
        | None
    ) = None
    top_p: Annotated[float, Meta(ge=0, le=1, description="Without a meaning here.")] | None = None
    seed: Annotated[AnyWhole, Meta(description="Without a meaning here.")] | None = None
    stop: Annotated[Raw, StopField] | UnsetType = UNSET
    stream: (
        Annotated[bool, Meta(description=_SCORES + "false.", extra_json_schema={"const": False})] | None
    ) = None
    stream_options: None = None
    best_of: Annotated[One, Meta(description=_SCORES + "1.")] | None = None
    suffix: NoSuffix | None = None
    prompt_embeds: None = None
    add_special_tokens: AddSpecialTokens | None = None
    return_token_ids: Annotated[bool, Meta(description="Tell token ids beside texts.")] | None = None
    return_tokens_as_token_ids: (
        Annotated[bool, Meta(description="Write tokens as token_id:17 where log-probs are told.")] | None
    ) = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stream:
            raise ValueError("stream: a teacher's answers come whole; write false")
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError("max_tokens: 0 asks for nothing without echo or prompt_logprobs")
        if self.prompt_logprobs is not None and self.temperature not in (None, 0, 1):
            raise ValueError(
                f"temperature: prompt_logprobs are those of temperature 1, not {self.temperature:g}; write 1"
            )

    @property
    def appended(self) -> int:
        """Tokens that are appended to each prompt: 0 or 1."""
        return 1 if self.max_tokens is None else self.max_tokens

    @property
    def scores_prompts(self) -> bool:
        """Whether anything is told of the prompts' own tokens."""
        return self.prompt_logprobs is not None or (bool(self.echo) and self.logprobs is not None)


_GIVEN = {"type": "integer"}
_ANY_STOP = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}
Documented = Annotated[
    CompletionRequest,
    rules(
        {
            "anyOf": [
                {"not": {"properties": {"max_tokens": {"const": 0}}, "required": ["max_tokens"]}},
                {"properties": {"echo": {"const": True}}, "required": ["echo"]},
                {"properties": {"prompt_logprobs": _GIVEN}, "required": ["prompt_logprobs"]},
            ]
        },
        {
            "anyOf": [
                {"properties": {"temperature": {"enum": [0, 1, None]}}},
                {"properties": {"prompt_logprobs": {"type": "null"}}},
            ]
        },
        unless("stop", _ANY_STOP, "max_tokens", {"const": 0}),
    ),
]
"""With what is refused of several fields together."""
EXAMPLE: dict[str, Any] = {"prompt": [[11, 12, 13]], "echo": True, "logprobs": 1, "max_tokens": 0}


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Args:
        form: as it came.
        prompts: of the choices, in order.
    """

    form: CompletionRequest
    prompts: list[Prompt]

    @property
    def details(self) -> Details:
        """What is asked for; a token that is appended is not."""
        return Details(max(self.form.logprobs or 0, self.form.prompt_logprobs or 0))

    @property
    def told(self) -> int:
        """Numbers that the answer tells of the tokens: for `logprobs`, and again for `prompt_logprobs`."""
        of_appended = self.form.logprobs or 0
        of_prompt = (of_appended if self.form.echo else 0) + (self.form.prompt_logprobs or 0)
        places = sum(prompt.token_ids.size - 1 for prompt in self.prompts)
        return places * of_prompt + len(self.prompts) * self.form.appended * of_appended

    def pairs(self) -> list[TokenPair | None]:
        """What is to be scored of each prompt; None: nothing."""
        details = Details(max(self.details.top_k, self.form.appended))
        return [self._pair(prompt.token_ids, details) for prompt in self.prompts]

    def _pair(self, ids: TokenIds, details: Details) -> TokenPair | None:
        known = 1 if self.form.scores_prompts else ids.size
        whole = np.concatenate([ids, _ANY_TOKEN]) if self.form.appended else ids
        if whole.size == known:
            return None
        ranks = self.form.prompt_logprobs is not None
        return TokenPair(whole[:known], whole[known:], details, ranks)


def read(body: Body, reader: Reader, vocab_size: int, limits: TeacherLimits) -> Asked:
    """Read a request.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
        LimitError: more than one request may have.
    """
    form = to_form(only_json(body), CompletionRequest, _OBJECTS)
    if stops(form.stop) and form.appended:
        raise invalid("stop", "a teacher's answer has one token, which none may end; write max_tokens: 0")
    single = prompts.split(form.prompt, limits.max_sequences_per_request)
    limits.check(len(single), sum(map(reader.least_tokens, single)))
    for field in ("logprobs", "prompt_logprobs"):
        check_top(field, getattr(form, field) or 0, limits.max_top_k)
    read_prompts = prompts.read(
        single,
        reader,
        vocab_size,
        add_special_tokens=form.add_special_tokens is not False,
        # Of tokens that are appended the place is the text's length.
        offsets=bool(form.echo) and form.logprobs is not None,
        tokens=TokenSum(limits.max_tokens_per_request),
    )
    for place, prompt in enumerate(read_prompts):
        if prompt.token_ids.size + form.appended > reader.max_length:
            raise invalid(
                "prompt" if len(read_prompts) == 1 else f"prompt[{place}]",
                f"{prompt.token_ids.size} tokens and one appended are more than the {reader.max_length} that "
                "the model takes; write max_tokens: 0",
            )
    asked = Asked(form, read_prompts)
    tokens = sum(prompt.token_ids.size + form.appended for prompt in read_prompts)
    limits.check(len(read_prompts), tokens, asked.told)
    return asked
