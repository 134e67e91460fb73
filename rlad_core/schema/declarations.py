"""Every value per token, declared once, and the Arrow schemas that cross every process boundary.

A new value per token is three places: its line in `TOKEN_VALUES`, the engine that makes it, and the objective
that reads it as ``batch.<name>``. What lies between them goes by this table: the schemas and their
validation, the join, the learner's rows and `rlad_core.objectives.TokenBatch`.

A column name means the same thing in every schema, so its rule goes by column and not by schema. Log-probs
are natural logarithms of the untruncated, temperature-1 distribution, float32, exactly one per *response*
token.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from rlad_core.schema.errors import SchemaError
from rlad_core.schema.labels import NAME_KEY, VERSION, VERSION_KEY
from rlad_core.schema.token_values import (
    BFLOAT16_BITS,
    ENTROPY,
    FINITE,
    LOGPROB,
    POLICY_VERSION,
    TOKEN_ID,
    Source,
    TokenValue,
)

FINISH_REASONS: Final = ("stop", "length")

PROMPT_IDS: Final = TokenValue(
    "prompt_token_ids", pa.int32(), TOKEN_ID, per="prompt token", source="prompt", presence="required"
)
RESPONSE_IDS: Final = TokenValue(
    "response_token_ids", pa.int32(), TOKEN_ID, per="response token", source="rollout", presence="required"
)
NAMED_IDS: Final = TokenValue(
    "named_token_ids",
    pa.int32(),
    TOKEN_ID,
    per="m per response token",
    source="caller",
    presence="required",
)
TEACHER_PROMPT_IDS: Final = TokenValue(
    "teacher_prompt_token_ids", pa.int32(), TOKEN_ID, per="teacher's prompt token", source="caller"
)
TOKEN_VALUES: Final = (
    PROMPT_IDS,
    RESPONSE_IDS,
    # What an older version of the policy reads in the prompt's place, where it is a privileged teacher.
    TEACHER_PROMPT_IDS,
    TokenValue(
        "rollout_logprobs", pa.float32(), LOGPROB, per="response token", source="rollout", presence="required"
    ),
    TokenValue(
        "policy_versions",
        pa.int32(),
        POLICY_VERSION,
        per="response token",
        source="rollout",
        presence="required",
    ),
    # The k likeliest tokens to the policy at the place of a response token, likeliest first, about which a
    # teacher is then asked.
    TokenValue(
        "rollout_top_token_ids",
        pa.int32(),
        TOKEN_ID,
        per="k per response token",
        source="rollout",
        presence="asked",
        trained_on=True,
    ),
    # Of a frozen reference policy, which is asked as a teacher is.
    TokenValue("reference_logprobs", pa.float32(), LOGPROB, per="response token", source="reference"),
    TokenValue(
        "teacher_logprobs", pa.float32(), LOGPROB, per="response token", source="teacher", presence="required"
    ),
    # Of all end tokens that were named, as one outcome: the log of their probabilities' sum, at the place of
    # each response token, whichever token stands there.
    TokenValue("teacher_end_logprobs", pa.float32(), LOGPROB, per="response token", source="teacher"),
    # In nats.
    TokenValue("entropy", pa.float32(), ENTROPY, per="response token", source="teacher", presence="asked"),
    # The k likeliest tokens at the place of a response token, likeliest first.
    TokenValue(
        "top_token_ids",
        pa.int32(),
        TOKEN_ID,
        per="k per response token",
        source="teacher",
        presence="asked",
        trained_on=True,
    ),
    TokenValue(
        "top_logprobs",
        pa.float32(),
        LOGPROB,
        per="k per response token",
        source="teacher",
        presence="asked",
        trained_on=True,
    ),
    # Of the m tokens that the caller named for the place of a response token.
    NAMED_IDS,
    TokenValue(
        "named_logprobs",
        pa.float32(),
        LOGPROB,
        per="m per response token",
        source="teacher",
        presence="asked",
        trained_on=True,
    ),
    # After the final norm, of the token before: what the head makes the distribution of. d is the model's
    # hidden size. Arrow has no bfloat16; its bits are told.
    TokenValue(
        "hidden_states", pa.float32(), FINITE, per="d per response token", source="teacher", presence="asked"
    ),
    TokenValue(
        "hidden_states_bfloat16",
        pa.uint16(),
        BFLOAT16_BITS,
        per="d per response token",
        source="teacher",
        presence="asked",
    ),
)
"""In the order of their columns."""

_DECLARED: Final = {value.name: value for value in TOKEN_VALUES}


def schemas_of(values: Sequence[TokenValue]) -> dict[str, pa.Schema]:
    """All schemas by name, with the values per token that `values` declares.

    Raises:
        SchemaError: a name is declared twice, or no required value says how many tokens a response has.
    """

    def made_by(source: Source, *, asked: bool = False, trained_on: bool = False) -> list[pa.Field]:
        return [
            value.field(nullable=value.presence != "required")
            for value in values
            if value.source == source
            and (asked or value.presence != "asked" or (trained_on and value.trained_on))
        ]

    def rollouts(*, asked: bool = False, trained_on: bool = False) -> tuple[pa.Field, ...]:
        return (
            _text("group_id"),
            _field("sample_index", pa.int32()),
            _text("prompt_id"),
            PROMPT_IDS.field(),
            *made_by("rollout", asked=asked, trained_on=trained_on),
            _text("finish_reason"),
            _text("response"),
        )

    verdict = (
        _field("reward", pa.float32()),
        _field("reward_parts", pa.map_(pa.string(), pa.field("value", pa.float32(), nullable=False))),
        _field("correct", pa.bool_()),
        _text("verdict"),
    )
    fields = {
        "prompts": (
            *map(_text, ("prompt_id", "task", "subset", "prompt")),
            *made_by("prompt"),
            _text("gold"),
        ),
        "sequences": (_text("sequence_id"), PROMPT_IDS.field(), RESPONSE_IDS.field()),
        "named_sequences": (
            _text("sequence_id"),
            PROMPT_IDS.field(),
            RESPONSE_IDS.field(),
            NAMED_IDS.field(),
        ),
        "teacher_scores": (_text("sequence_id"), *made_by("teacher")),
        "teacher_details": (_text("sequence_id"), *made_by("teacher", asked=True)),
        "responses": tuple(map(_text, ("sequence_id", "task", "response", "gold"))),
        "rewards": (_text("sequence_id"), *verdict),
        "rollouts": rollouts(),
        "rollout_details": rollouts(asked=True),
        "experience": (
            *rollouts(trained_on=True),
            *map(_text, ("sequence_id", "task", "subset")),
            *verdict,
            _field("advantage", pa.float32()),
            TEACHER_PROMPT_IDS.field(nullable=True),
            # A run without a teacher has none of them.
            *(
                field.with_nullable(True)
                for field in (*made_by("reference"), *made_by("teacher", trained_on=True))
            ),
        ),
    }
    return {name: declare(name, own, values) for name, own in fields.items()}


def declare(name: str, fields: Sequence[pa.Field], values: Sequence[TokenValue]) -> pa.Schema:
    """A labelled schema, whose columns of lists `values` declares.

    Raises:
        SchemaError: a column of lists is not declared, or is there twice; or there is a value per token, but
            no required one that says how many tokens a row has.
    """
    names = [field.name for field in fields]
    if twice := [each for each in names if names.count(each) > 1]:
        raise SchemaError("is declared twice", schema=name, column=twice[0])
    declared = {value.name: value for value in values}
    counted = {value.per for value in values if value.name in names and value.presence == "required"}
    for field in fields:
        if not pa.types.is_nested(field.type) or pa.types.is_map(field.type):
            continue
        value = declared.get(field.name)
        if value is None or field.type != value.column_type:
            raise SchemaError(
                f"holds {field.type}, which no line of TOKEN_VALUES declares", schema=name, column=field.name
            )
        if value.token not in counted and not value.says_how_many:
            raise SchemaError(
                f"has values per {value.per}, and no required column says how many tokens there are",
                schema=name,
                column=field.name,
            )
    return pa.schema(fields, metadata={NAME_KEY: name.encode(), VERSION_KEY: str(VERSION).encode()})


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _text(name: str) -> pa.Field:
    return _field(name, pa.string())


SCHEMAS: Final[Mapping[str, pa.Schema]] = schemas_of(TOKEN_VALUES)

#: What there is to ask. `gold` is JSON text that only the task's verifier reads.
PROMPTS: Final = SCHEMAS["prompts"]
#: What a teacher gets.
SEQUENCES: Final = SCHEMAS["sequences"]
#: The same with tokens named for the place of each response token, whose log-probs are wanted too.
NAMED_SEQUENCES: Final = SCHEMAS["named_sequences"]
#: What a teacher answers.
TEACHER_SCORES: Final = SCHEMAS["teacher_scores"]
#: The same for who asked for more, about the place of each response token. What was not asked for is null.
TEACHER_DETAILS: Final = SCHEMAS["teacher_details"]
#: What a verifier gets. `response` is the model's turn, what the prompt had opened of it included (`turn`).
RESPONSES: Final = SCHEMAS["responses"]
#: What a verifier answers; `verdict` is the reason in words.
REWARDS: Final = SCHEMAS["rewards"]
#: What the policy answered, one row per response.
ROLLOUTS: Final = SCHEMAS["rollouts"]
#: The same for who asked for more.
ROLLOUT_DETAILS: Final = SCHEMAS["rollout_details"]
#: What the learner trains on. What the teacher tells is null in every row of a run without one, and what a
#: teacher is asked for only where an objective wants it.
EXPERIENCE: Final = SCHEMAS["experience"]

LEARNER_VALUES: Final = tuple(
    value
    for value in TOKEN_VALUES
    if value.name in EXPERIENCE.names and value.token == "response token" and value != RESPONSE_IDS
)
"""What an objective finds in its `TokenBatch` besides what the learner itself makes."""


def made_by(source: Source) -> tuple[TokenValue, ...]:
    """The values per token of one source, in the order of their columns."""
    return tuple(value for value in TOKEN_VALUES if value.source == source)


def token_value(column: str, *, schema: str) -> TokenValue:
    """The declaration of a column of lists.

    Args:
        schema: in whose table it is, for the error.

    Raises:
        SchemaError: there is none.
    """
    if column not in _DECLARED:
        raise SchemaError("holds lists, which no line of TOKEN_VALUES declares", schema=schema, column=column)
    return _DECLARED[column]


def has_tokens(schema: pa.Schema) -> bool:
    """Whether tables of `schema` make sense with one tokenizer only: they hold values per token."""
    return any(name in _DECLARED for name in schema.names)
