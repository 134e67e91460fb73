"""What requests in OpenAI's forms have in common: what is read, and what is known and not offered.

A parameter that would change the answer and is not offered is refused, unless it stands at the value that
changes nothing: clients send many at their defaults.
"""

from typing import Annotated

from msgspec import Meta, Struct

_NOT_OFFERED = "Not offered here; "
_ZERO = Meta(ge=0, le=0, description=_NOT_OFFERED + "0 changes nothing.")
_EMPTY = Meta(max_length=0, description=_NOT_OFFERED + "an empty one changes nothing.")


class OpenAIForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of every request."""

    model: Annotated[str, Meta(description="Refused with 404 where it is not what is served.")] | None = None
    user: Annotated[str, Meta(description="Not read.")] | None = None
    presence_penalty: Annotated[float, _ZERO] | None = None
    frequency_penalty: Annotated[float, _ZERO] | None = None
    logit_bias: Annotated[dict[str, float], _EMPTY] | None = None


BestOf = Annotated[int, Meta(ge=1, le=1, description=_NOT_OFFERED + "1 changes nothing.")]
"""Of completions, as well as ``suffix``, which is null."""
