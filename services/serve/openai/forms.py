"""What requests in OpenAI's forms have in common: what is read, and what is known and not offered.

A parameter that would change the answer and is not offered is refused, unless it stands at the value that
changes nothing: clients send many at their defaults.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from services.serve.openai.numbers import Zero, ZeroOrLess, as_integers

_NOT_OFFERED = "Not offered here; "
_ZERO = Meta(ge=0, le=0, description=_NOT_OFFERED + "0 changes nothing.")
_ONE = Meta(ge=1, le=1, description=_NOT_OFFERED + "1 changes nothing.")
_FRACTIONS = frozenset(
    {
        "temperature", "top_p", "min_p",
        "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty",
    }
)  # fmt: skip
"""Fields that are numbers and no whole ones, of any form."""
_NONE = Meta(description=_ZERO.description)
EMPTY = Meta(description=_NOT_OFFERED + "an empty one changes nothing.")


class Nothing(Struct, forbid_unknown_fields=True):
    """An object that is empty. Unlike a map with a limit of 0 it is read no further than its first field."""


NoSuffix = Annotated[str, Meta(max_length=0, description=EMPTY.description)]
"""Of completions."""
EmptyList = Annotated[tuple[()], EMPTY]
"""Read no further than its first item; a list with a limit of 0 would be built first."""


def only(value: bool) -> Meta:
    """A switch that a form takes at this value alone, see `refuse_others`; msgspec has no such type."""
    return Meta(
        description=f"{_NOT_OFFERED}{str(value).lower()} changes nothing.", extra_json_schema={"const": value}
    )


_SWITCHES = {
    "ignore_eos": False,
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "store": False,
    "use_beam_search": False,
    "watermarking": False,
    "return_token_offsets": False,
}
"""At the values that change nothing."""


def refuse_others(form: Struct, switches: Mapping[str, bool]) -> None:
    """See that switches stand at the values that change nothing, where they are given.

    Raises:
        ValueError: one does not; names it.
    """
    for name, value in switches.items():
        if getattr(form, name) not in (None, value):
            raise ValueError(f"{name}: is not offered here; {str(value).lower()} changes nothing")


NotRead = Annotated[str, Meta(description="Not read.")]
"""What clients tell a provider about themselves or a message."""


_NOTES = Meta(
    description="Not read.", extra_json_schema={"type": ["object", "null"], "additionalProperties": True}
)
_NOTED = ("metadata", "prompt_cache_options")


class TextFormat(Struct, forbid_unknown_fields=True):
    """What answers are anyway; other formats are not offered here."""

    type: Literal["text"]


class OpenAIForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of every request."""

    model: Annotated[str, Meta(description="Refused with 404 where it is not what is served.")] | None = None
    user: NotRead | None = None
    safety_identifier: NotRead | None = None
    prompt_cache_key: NotRead | None = None
    prompt_cache_retention: NotRead | None = None
    request_id: NotRead | None = None
    session_id: NotRead | None = None
    metadata: Annotated[Raw, _NOTES] | UnsetType = UNSET
    prompt_cache_options: Annotated[Raw, _NOTES] | UnsetType = UNSET
    service_tier: (
        Annotated[Literal["auto", "default"], Meta(description="There is one; either changes nothing.")]
        | None
    ) = None
    presence_penalty: Annotated[float, _ZERO] | None = None
    frequency_penalty: Annotated[float, _ZERO] | None = None
    logit_bias: Annotated[Nothing, EMPTY] | None = None
    top_k: Annotated[ZeroOrLess, Meta(description=_NOT_OFFERED + "0 and -1 change nothing.")] | None = None
    min_p: Annotated[float, _ZERO] | None = None
    repetition_penalty: Annotated[float, _ONE] | None = None
    length_penalty: Annotated[float, _ONE] | None = None
    min_tokens: Annotated[Zero, _NONE] | None = None
    stop_token_ids: EmptyList | None = None
    bad_words: EmptyList | None = None
    allowed_token_ids: None = None
    logprob_token_ids: None = None
    truncate_prompt_tokens: None = None
    truncation_side: None = None
    structured_outputs: None = None
    repetition_detection: None = None
    kv_transfer_params: None = None
    ec_transfer_params: None = None
    thinking_token_budget: None = None
    stream_interval: None = None
    moderation: None = None
    # Of images and of routed experts, of which nothing is told here.
    mm_payload: Annotated[Literal["tensors"], Meta(description="It changes nothing.")] | None = None
    return_mm_kwargs: None = None
    routed_experts_prompt_start: Annotated[Zero, _NONE] | None = None
    cache_salt: None = None
    vllm_xargs: Annotated[Nothing, EMPTY] | None = None
    priority: Annotated[Zero, _NONE] | None = None
    response_format: TextFormat | None = None
    ignore_eos: Annotated[bool, only(_SWITCHES["ignore_eos"])] | None = None
    include_stop_str_in_output: Annotated[bool, only(_SWITCHES["include_stop_str_in_output"])] | None = None
    skip_special_tokens: Annotated[bool, only(_SWITCHES["skip_special_tokens"])] | None = None
    spaces_between_special_tokens: (
        Annotated[bool, only(_SWITCHES["spaces_between_special_tokens"])] | None
    ) = None
    store: Annotated[bool, only(_SWITCHES["store"])] | None = None
    use_beam_search: Annotated[bool, only(_SWITCHES["use_beam_search"])] | None = None
    watermarking: Annotated[bool, only(_SWITCHES["watermarking"])] | None = None
    return_token_offsets: Annotated[bool, only(_SWITCHES["return_token_offsets"])] | None = None

    def __post_init__(self) -> None:
        as_integers(self, _FRACTIONS)
        refuse_others(self, _SWITCHES)
        for name in _NOTED:
            note = getattr(self, name)
            if isinstance(note, Raw) and not bytes(note).startswith((b"{", b"null")):
                raise ValueError(f"{name}: Expected `object | null`")


AddSpecialTokens = Annotated[
    bool, Meta(description="To texts, those that the tokenizer puts around one; by default true.")
]
"""Of completions too."""


def unless(field: str, given: dict[str, Any], other: str, needed: dict[str, Any]) -> dict[str, Any]:
    """For the OpenAPI document, what a form refuses of two fields together: `field` is not
    `given`, unless `other` is there and `needed`.

    Args:
        given, needed: JSON schemas.
    """
    without = {"not": {"properties": {field: given}, "required": [field]}}
    return {"anyOf": [without, {"properties": {other: needed}, "required": [other]}]}


def rules(*each: dict[str, Any]) -> Meta:
    """Beside a form in the OpenAPI document: all of these hold."""
    return Meta(extra_json_schema={"allOf": list(each)})
