"""The one table of values per token, and the schemas that are built from it."""

import numpy as np
import pyarrow as pa
import pytest

from rlad_core import schema
from rlad_core.schema import SchemaError, TokenValue
from rlad_core.schema.declarations import TOKEN_VALUES, declare, schemas_of
from rlad_core.schema.token_values import FINITE

SURPRISE = TokenValue("teacher_surprise", pa.float32(), FINITE, per="response token", source="teacher")

# Stored Parquet files and services of an earlier start rest on these; `?` may be null throughout.
COLUMNS = {
    "prompts": "prompt_id str, task str, subset str, prompt str, prompt_token_ids int32s, gold str",
    "sequences": "sequence_id str, prompt_token_ids int32s, response_token_ids int32s",
    "named_sequences": "sequence_id str, prompt_token_ids int32s, response_token_ids int32s, "
    "named_token_ids int32s",
    "teacher_scores": "sequence_id str, teacher_logprobs floats, teacher_end_logprobs floats?",
    "teacher_details": "sequence_id str, teacher_logprobs floats, teacher_end_logprobs floats?, "
    "entropy floats?, top_token_ids int32s?, top_logprobs floats?, named_logprobs floats?, "
    "hidden_states floats?, hidden_states_bfloat16 uint16s?",
    "responses": "sequence_id str, task str, response str, gold str",
    "rewards": "sequence_id str, reward float, reward_parts parts, correct bool, verdict str",
    "rollouts": "group_id str, sample_index int32, prompt_id str, prompt_token_ids int32s, "
    "response_token_ids int32s, rollout_logprobs floats, policy_versions int32s, finish_reason str, "
    "response str",
    "rollout_details": "group_id str, sample_index int32, prompt_id str, prompt_token_ids int32s, "
    "response_token_ids int32s, rollout_logprobs floats, policy_versions int32s, "
    "rollout_top_token_ids int32s?, finish_reason str, response str",
    "experience": "group_id str, sample_index int32, prompt_id str, prompt_token_ids int32s, "
    "response_token_ids int32s, rollout_logprobs floats, policy_versions int32s, "
    "rollout_top_token_ids int32s?, finish_reason str, response str, sequence_id str, "
    "task str, subset str, reward float, reward_parts parts, correct bool, "
    "verdict str, advantage float, teacher_prompt_token_ids int32s?, reference_logprobs floats?, "
    "teacher_logprobs floats?, "
    "teacher_end_logprobs floats?, top_token_ids int32s?, top_logprobs floats?, named_logprobs floats?",
}
SHORT = {
    "string": "str",
    "list<item: int32 not null>": "int32s",
    "list<item: float not null>": "floats",
    "list<item: uint16 not null>": "uint16s",
    "map<string, float>": "parts",
}


def written(kind: pa.Schema) -> str:
    fields = (f"{f.name} {SHORT.get(str(f.type), f.type)}{'?' * f.nullable}" for f in kind)
    return ", ".join(fields)


def test_order_types_and_version_of_all_columns() -> None:
    assert {name: written(kind) for name, kind in schema.SCHEMAS.items()} == COLUMNS
    for name, kind in schema.SCHEMAS.items():
        assert kind.metadata == {b"rlad.schema": name.encode(), b"rlad.version": b"1"}


def test_what_the_learner_gets() -> None:
    assert [v.name for v in schema.LEARNER_VALUES] == [
        "rollout_logprobs",
        "policy_versions",
        "rollout_top_token_ids",
        "reference_logprobs",
        "teacher_logprobs",
        "teacher_end_logprobs",
        "top_token_ids",
        "top_logprobs",
        "named_logprobs",
    ]


def added(value: TokenValue) -> dict[str, str]:
    """Schemas that a further declaration changes, as they then are."""
    schemas = {name: written(kind) for name, kind in schemas_of([*TOKEN_VALUES, value]).items()}
    return {name: columns for name, columns in schemas.items() if columns != COLUMNS[name]}


def test_a_further_value_is_where_its_source_says() -> None:
    column = ", teacher_surprise floats?"
    assert added(SURPRISE) == {
        name: COLUMNS[name] + column for name in ("teacher_scores", "teacher_details", "experience")
    }
    asked = TokenValue("gap", pa.int32(), FINITE, "k per response token", "teacher", "asked")
    assert added(asked) == {"teacher_details": COLUMNS["teacher_details"] + ", gap int32s?"}
    trained = TokenValue("gap", pa.int32(), FINITE, "k per response token", "teacher", "asked", True)
    assert added(trained) == {
        name: COLUMNS[name] + ", gap int32s?" for name in ("teacher_details", "experience")
    }
    needed = TokenValue("rollout_rank", pa.int32(), FINITE, "response token", "rollout", "required")
    place = {
        "rollouts": "policy_versions int32s, ",
        "rollout_details": "rollout_top_token_ids int32s?, ",
        "experience": "rollout_top_token_ids int32s?, ",
    }
    assert added(needed) == {
        name: COLUMNS[name].replace(before, before + "rollout_rank int32s, ")
        for name, before in place.items()
    }


def test_a_list_that_is_not_declared_makes_no_schema() -> None:
    ids = schema.SEQUENCES.field("response_token_ids")
    floats = pa.list_(pa.float32())
    with pytest.raises(SchemaError, match=r"mine, column 'moods': holds list<.*no line of TOKEN_VALUES"):
        declare("mine", [ids, pa.field("moods", floats)], TOKEN_VALUES)
    with pytest.raises(SchemaError, match=r"mine, column 'moods': holds large_list<"):
        declare("mine", [ids, pa.field("moods", pa.large_list(pa.float32()))], TOKEN_VALUES)
    with pytest.raises(SchemaError, match="mine, column 'response_token_ids': holds list<item: float>"):
        declare("mine", [pa.field("response_token_ids", floats)], TOKEN_VALUES)
    with pytest.raises(SchemaError, match=r"column 'entropy': .* no required column says how many tokens"):
        declare("mine", [pa.field("entropy", schema.TEACHER_DETAILS.field("entropy").type)], TOKEN_VALUES)
    with pytest.raises(SchemaError, match="'teacher_surprise': is declared twice"):
        schemas_of([*TOKEN_VALUES, SURPRISE, SURPRISE])
    with pytest.raises(SchemaError, match="'response': is declared twice"):
        schemas_of([*TOKEN_VALUES, TokenValue("response", pa.int32(), FINITE, "response token", "rollout")])


def test_declarations_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="mood is declared as string; write the type of one number"):
        TokenValue("mood", pa.string(), FINITE, "response token", "teacher")
    with pytest.raises(ValueError, match="only an engine can be asked"):
        TokenValue("mood", pa.int32(), FINITE, "response token", "caller", "asked")
    with pytest.raises(ValueError, match="trained_on, which all that is not asked is anyway"):
        TokenValue("mood", pa.int32(), FINITE, "response token", "rollout", trained_on=True)


def test_what_an_engine_tells_as_columns() -> None:
    one, two = {"teacher_logprobs": np.full(3, -1.0)}, {"teacher_logprobs": np.full(1, -2.0)}
    top = {"top_token_ids": np.arange(2).reshape(1, 2), "top_logprobs": np.full((1, 2), -1.0)}
    columns = schema.token_columns("teacher", [one, two | top])
    assert list(columns) == ["teacher_logprobs", "teacher_end_logprobs"], "nobody asked for more"
    assert columns["teacher_end_logprobs"] == [None, None], "an engine may leave it out"
    columns = schema.token_columns("teacher", [two | top], asked=set(top))
    assert [a.tolist() for a in columns["top_token_ids"] if a is not None] == [[0, 1]]
    with pytest.raises(SchemaError, match="row 1, column 'entropy': is left out by the teacher engine"):
        schema.token_columns("teacher", [one | {"entropy": np.ones(3)}, two], asked=["entropy"])
    for odd in (top["top_token_ids"][0], np.zeros((2, 1))):
        with pytest.raises(
            SchemaError, match=r"row 0, column 'top_token_ids': has shape .*; \[T, k\] is wanted"
        ):
            schema.token_columns("teacher", [two | top | {"top_token_ids": odd}], asked=set(top))
    with pytest.raises(SchemaError, match=r"'teacher_logprobs': has shape \(1, 1\); \[T\] is wanted"):
        schema.token_columns("teacher", [{"teacher_logprobs": np.full((1, 1), -1.0)}])
    with pytest.raises(SchemaError, match="row 0, column 'teacher_logprobs': is left out"):
        schema.token_columns("teacher", [{}])
    with pytest.raises(SchemaError, match="row 1, column 'mood': is told by the teacher engine, and no line"):
        schema.token_columns("teacher", [one, two | {"mood": np.ones(1)}])
    with pytest.raises(SchemaError, match="column 'rollout_logprobs': is told by the teacher engine"):
        schema.token_columns("teacher", [one | {"rollout_logprobs": np.ones(3)}])
