"""What a teacher's log-probs were made with, carried by every table of them in its schema metadata.

A number alone does not tell whose it is. With this beside it, whoever asks repeatedly can see that the
teacher is still the same: one moment is compared with another, or one replica with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlad_core.client.errors import ServiceError

KEY: Final = b"rlad.made_with"
POSITIONS: Final = "each response token's own, given all before it"
"""The convention of ours: value i belongs to response token i."""


class MadeWith(BaseModel):
    """What log-probs were made with."""

    model_config = ConfigDict(frozen=True)

    engine: str = Field(description="torch or vllm, with the processes that share the model.")
    weights: str = Field(
        description="Hash of the weights as they are in the engine's memory; equal for equal weights in like "
        "engines."
    )
    tokenizer: str = Field(description="Fingerprint of the map from tokens to ids.")
    chat_template: str | None = Field(description="Fingerprint; null: the tokenizer has no chat template.")
    positions: str = Field(default=POSITIONS, description="Which token a value belongs to.")
    temperature: float = Field(default=1.0, description="Logits are divided by it.")
    dtype: str = Field(description="Of the forward pass; log-probs are float32.")


def marked(scores: pa.Table, made_with: MadeWith) -> pa.Table:
    """The table with what it was made with."""
    metadata = {**(scores.schema.metadata or {}), KEY: made_with.model_dump_json().encode()}
    return scores.replace_schema_metadata(metadata)


def made_with_of(scores: pa.Table) -> MadeWith | None:
    """What a table of scores was made with; None: it does not say.

    Raises:
        ServiceError: what it says cannot be read.
    """
    told = (scores.schema.metadata or {}).get(KEY)
    if told is None:
        return None
    try:
        return MadeWith.model_validate_json(told)
    except ValidationError as error:
        raise ServiceError(
            f"scores say what they were made with in a form that is not known: {error}"
        ) from error


def differing(one: MadeWith | None, other: MadeWith | None) -> str | None:
    """What two of them say differently, in words; None: they are equal."""
    if one == other:
        return None
    if one is None or other is None:
        return "one says what it was made with, the other does not"
    fields = [name for name in MadeWith.model_fields if getattr(one, name) != getattr(other, name)]
    return "; ".join(f"{name}: {getattr(one, name)} and {getattr(other, name)}" for name in fields)


class MixedError(ServiceError):
    """Answers that should come from one teacher do not; the message says what is different."""


def refuse_different(told: Iterable[MadeWith | None], asked: str, said: MadeWith | None = None) -> None:
    """Refuse answers that were not all made with the same.

    Args:
        told: of each answer.
        asked: who answered.
        said: what they are to be made with; None: whatever it is.

    Raises:
        MixedError: they were not.
    """
    for one, other in pairwise(told if said is None else (said, *told)):
        if differs := differing(one, other):
            raise MixedError(
                f"{asked} answers with different things ({differs}): it was changed, or its replicas differ"
            )


def together(parts: Sequence[pa.Table], asked: str, said: MadeWith | None = None) -> pa.Table:
    """Parts of one answer, at least one, as one table; see `refuse_different`."""
    refuse_different(map(made_with_of, parts), asked, said)
    return pa.concat_tables(parts)
