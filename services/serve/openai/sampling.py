"""How to sample, in the forms of OpenAI's API."""

import math
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from services.serve.http.json_forms import decode, invalid
from services.serve.openai.forms import OpenAIForm, only, refuse_others, unless
from services.serve.openai.numbers import Positive, Seed

_MOST_STOPS = 16
_LONGEST_STOP = 256
"""Characters. vLLM sends all stop texts to its engine with each of a prompt's answers, and looks for each of
them in what was written after every token.
"""
_STOP = {"type": "string", "minLength": 1, "maxLength": _LONGEST_STOP}

StopField = Meta(
    description=f"Text or texts, {_MOST_STOPS} at most and none of more than {_LONGEST_STOP} characters, "
    "that end a completion and are no part of it.",
    extra_json_schema={
        "oneOf": [
            _STOP,
            {"type": "array", "items": _STOP, "maxItems": _MOST_STOPS},
            {"type": "null"},
        ]
    },
)
"""What the OpenAPI document says of a `Raw` that `stops` reads."""


_OPTION_SWITCHES = {"continuous_usage_stats": False}
"""At the values that change nothing."""


class StreamOptions(Struct, forbid_unknown_fields=True):
    """With `stream`."""

    include_usage: Annotated[bool, Meta(description="Tell the usage in an event of its own.")] | None = None
    include_obfuscation: Annotated[bool, Meta(description="Not read; events have no padding.")] | None = None
    continuous_usage_stats: Annotated[bool, only(_OPTION_SWITCHES["continuous_usage_stats"])] | None = None

    def __post_init__(self) -> None:
        refuse_others(self, _OPTION_SWITCHES)


class SamplingForm(OpenAIForm, forbid_unknown_fields=True, kw_only=True):
    """Fields of requests that are answered by sampling."""

    n: Annotated[Positive, Meta(description="Choices for each prompt; by default 1.")] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2, description="0 is greedy; by default 1.")] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Seed | None = None
    max_tokens: Positive | None = None
    stop: Annotated[Raw, StopField] | UnsetType = UNSET
    stream: Annotated[bool, Meta(description="Answer piece by piece, as server-sent events.")] | None = None
    stream_options: StreamOptions | None = None
    prompt_logprobs: Annotated[None, Meta(description="A teacher's to tell.")] = None
    return_token_ids: Annotated[bool, Meta(description="Tell token ids beside texts.")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is not None and not math.isfinite(self.temperature):
            raise ValueError("temperature: must be a finite number")
        if self.temperature == 0 and (self.n or 1) > 1:
            raise ValueError(f"n: {self.n} choices of temperature 0 would be equal; write 1")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: without stream there is nothing that they are about")


RULES: tuple[dict[str, Any], ...] = (
    {
        "anyOf": [
            {"properties": {"n": {"enum": [1, None]}}},
            {"properties": {"temperature": {"anyOf": [{"type": "null"}, {"exclusiveMinimum": 0}]}}},
        ]
    },
    unless("stream_options", {"type": "object"}, "stream", {"const": True}),
)
"""What is refused of several fields together, for the OpenAPI document."""


def stops(stop: Raw | UnsetType) -> tuple[str, ...]:
    """The stop texts.

    Raises:
        ProblemError: 422, neither text, list of texts nor null, an empty or too long one, or too many.
    """
    if isinstance(stop, UnsetType):
        return ()
    content = bytes(stop).strip()
    text = Annotated[str, Meta(min_length=1, max_length=_LONGEST_STOP)]
    kind: Any = Annotated[list[text], Meta(max_length=_MOST_STOPS)]
    if content == b"null":
        return ()
    if content.startswith(b'"'):
        return (decode(stop, text, "stop"),)
    if content.count(b'"') > 64 * 2 * _MOST_STOPS:
        raise invalid("stop", f"{_MOST_STOPS} texts are the most that are taken")
    return tuple(decode(stop, kind, "stop"))
