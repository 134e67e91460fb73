"""``POST /v1/chat/completions`` of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from msgspec import Meta, Struct

from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.openai.answering import Places
from services.rollout.openai.repeated import as_json
from services.rollout.writing import Token, Wish, Written
from services.serve.http.bodies import Body, only_json
from services.serve.http.json_forms import invalid, to_form
from services.serve.http.texts import Message, PromptIn, Reader, refuse_over
from services.serve.openai.forms import EMPTY, EmptyList, Nothing, NotRead, only, refuse_others, rules, unless
from services.serve.openai.logprobs import check_top
from services.serve.openai.numbers import Positive, TopCount
from services.serve.openai.prompts import Prompt
from services.serve.openai.sampling import RULES, SamplingForm, stops
from services.serve.token_texts import TokenTexts

_MOST_MESSAGES = 4096
_ANSWERS = "assistant"
_SWITCHES = {
    "add_generation_prompt": True,
    "add_special_tokens": False,
    "continue_final_message": False,
    "echo": False,
    "include_reasoning": True,
    "return_prompt_text": False,
    "return_tokens_as_token_ids": False,
}
"""At the values that change nothing, beside those of every request."""
_WITHOUT_TOOLS = "Without tools, which are not offered here, it changes nothing."


class TextPart(Struct, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    """One turn of a chat."""

    role: Annotated[str, Meta(min_length=1)]
    content: str | list[TextPart] | None
    name: NotRead | None = None
    type: (
        Annotated[Literal["text"], Meta(description="Of lm-evaluation-harness; messages are text.")] | None
    ) = None
    # What clients send of an answer that they send back: nothing, since answers have no more than text.
    refusal: None = None
    audio: None = None
    function_call: None = None
    reasoning: None = None
    reasoning_content: None = None
    annotations: EmptyList | None = None
    tool_calls: EmptyList | None = None

    @property
    def text(self) -> str:
        """All of it."""
        parts = self.content or ""
        return parts if isinstance(parts, str) else "".join(part.text for part in parts)

    def __post_init__(self) -> None:
        if self.content is None and self.role != _ANSWERS:
            raise ValueError("content: null is of an answer that is sent back, whose role is assistant")


class ChatRequest(SamplingForm, forbid_unknown_fields=True, kw_only=True):
    """A chat to go on with. All log-probs are natural ones of temperature 1, of the whole vocabulary."""

    messages: Annotated[
        list[Annotated[ChatMessage, rules(unless("content", {"type": "null"}, "role", {"const": _ANSWERS}))]],
        Meta(min_length=1),
    ]
    max_completion_tokens: (
        Annotated[Positive, Meta(description="By default as many as the model takes.")] | None
    ) = None
    logprobs: Annotated[bool, Meta(description="Tell those of the completion's tokens.")] | None = None
    top_logprobs: (
        Annotated[TopCount, Meta(description="With logprobs: likeliest tokens told too.")] | None
    ) = None
    tools: EmptyList | None = None
    tool_choice: Annotated[Literal["none", "auto"], Meta(description=_WITHOUT_TOOLS)] | None = None
    parallel_tool_calls: Annotated[bool, Meta(description=_WITHOUT_TOOLS)] | None = None
    functions: EmptyList | None = None
    function_call: Annotated[Literal["none", "auto"], Meta(description=_WITHOUT_TOOLS)] | None = None
    modalities: Annotated[tuple[Literal["text"]], Meta(description="Others are not offered here.")] | None = (
        None
    )
    # What there is none of here: sound, thoughts of their own, the web.
    audio: None = None
    prediction: None = None
    reasoning_effort: None = None
    verbosity: Annotated[Literal["medium"], Meta(description="It is what it is.")] | None = None
    web_search_options: None = None
    add_generation_prompt: Annotated[bool, only(_SWITCHES["add_generation_prompt"])] | None = None
    continue_final_message: Annotated[bool, only(_SWITCHES["continue_final_message"])] | None = None
    echo: Annotated[bool, only(_SWITCHES["echo"])] | None = None
    include_reasoning: Annotated[bool, only(_SWITCHES["include_reasoning"])] | None = None
    return_tokens_as_token_ids: Annotated[bool, only(_SWITCHES["return_tokens_as_token_ids"])] | None = None
    add_special_tokens: Annotated[bool, only(_SWITCHES["add_special_tokens"])] | None = None
    documents: EmptyList | None = None
    chat_template: None = None
    chat_template_kwargs: Annotated[Nothing, EMPTY] | None = None
    mm_processor_kwargs: Annotated[Nothing, EMPTY] | None = None
    media_io_kwargs: Annotated[Nothing, EMPTY] | None = None
    return_prompt_text: Annotated[bool, only(_SWITCHES["return_prompt_text"])] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_others(self, _SWITCHES)
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: are told with logprobs: true")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError(
                f"max_completion_tokens: {self.max_completion_tokens} is not max_tokens: {self.max_tokens}, "
                "its older name; write one of them"
            )


Documented = Annotated[
    ChatRequest,
    rules(*RULES, unless("top_logprobs", {"type": "integer", "minimum": 1}, "logprobs", {"const": True})),
]
"""With what is refused of several fields together."""
EXAMPLE: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 8}


@dataclass(frozen=True)
class AskedChat:
    """A request that was read; see `services.rollout.openai.answering.Asked`.

    Args:
        prompt_ids: as JSON, where they are told; else None.
        longest: answer that there is room for.
    """

    form: ChatRequest
    prompts: list[Prompt]
    prompt_ids: bytes | None
    stop: tuple[str, ...]
    texts: TokenTexts
    longest: int

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    @property
    def wishes(self) -> list[Wish]:
        """The one that there is."""
        form, [prompt] = self.form, self.prompts
        return [
            Wish(
                prompt=prompt.token_ids,
                count=form.n or 1,
                # What the engine stops at is all that is charged.
                max_tokens=min(form.max_completion_tokens or form.max_tokens or self.longest, self.longest),
                temperature=1.0 if form.temperature is None else form.temperature,
                top_p=1.0 if form.top_p is None else form.top_p,
                seed=form.seed,
                stop=self.stop,
                top_logprobs=form.top_logprobs or 0,
            )
        ]

    @property
    def beside(self) -> dict[str, Any]:
        """The chat's token ids, once for all choices, as vLLM's server has them."""
        return {} if self.prompt_ids is None else {"prompt_token_ids": orjson.Fragment(self.prompt_ids)}

    def begin(self, prompt: int) -> dict[str, Any] | None:
        """What a stream's choice begins with."""
        del prompt
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def choice(
        self, prompt: int, written: Written, before: Places | None = None, *, whole: bool
    ) -> dict[str, Any]:
        """A piece of an answer; see `AskedCompletion.choice`."""
        del prompt, before
        told: dict[str, Any] = {"logprobs": None, "finish_reason": written.finish_reason}
        if whole:
            told["message"] = {"role": "assistant", "content": written.text, "refusal": None}
        else:
            told["delta"] = {"content": written.text}
        if self.form.logprobs:
            told["logprobs"] = {"content": [self._entry(token) for token in written.tokens], "refusal": None}
        if self.form.return_token_ids:
            told["token_ids"] = [token.token_id for token in written.tokens]
        return told

    def _entry(self, token: Token) -> dict[str, Any]:
        return self._named(token.token_id, token.logprob) | {
            "top_logprobs": [self._named(token_id, logprob) for token_id, logprob in token.top]
        }

    def _named(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self.texts.name(token_id),
            "logprob": logprob,
            "bytes": list(self.texts.bytes_of(token_id)),
        }


def read(body: Body, reader: Reader, texts: TokenTexts, vocab_size: int, limits: RolloutLimits) -> AskedChat:
    """Read a request.

    Raises:
        ProblemError: 400 not readable, 415 no JSON, 422 not of the documented form, or too long a chat.
        LimitError: more responses than one request may ask for.
    """
    del vocab_size  # the tokenizer makes no other ids
    form = to_form(only_json(body), ChatRequest, _MOST_MESSAGES)
    refuse_over("sequences", form.n or 1, limits.max_responses_per_request, "responses")
    check_top("top_logprobs", form.top_logprobs or 0, limits.max_top_k)
    chat = [Message(message.role, message.text) for message in form.messages]
    ids = reader.prompt(PromptIn(messages=chat), "")
    if ids.size >= reader.max_length:
        raise invalid(
            "messages", f"have {ids.size} tokens and leave none of {reader.max_length} for an answer"
        )
    told = as_json(ids) if form.return_token_ids else None
    return AskedChat(form, [Prompt(ids)], told, stops(form.stop), texts, reader.max_length - int(ids.size))
