"""Lists of one row that disagree in length are refused in every schema and column, as are broken rules."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schema_tables import MINE, any_columns

from rlad_core import schema
from rlad_core.schema import SchemaError

DECLARED = {value.name: value for value in schema.TOKEN_VALUES}
#: Every column of lists whose length follows from another's: (schema, column).
ALIGNED = [
    (name, field.name)
    for name, kind in schema.SCHEMAS.items()
    for field in kind
    if pa.types.is_list(field.type)
    and DECLARED[field.name].token == "response token"
    and sum(pa.types.is_list(f.type) and DECLARED[f.name].token == "response token" for f in kind) > 1
]
counts = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def built(kind: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    fingerprint = MINE if any(name in DECLARED for name in kind.names) else None
    return schema.build(kind, columns, tokenizer_fingerprint=fingerprint, vocab_size=4)


@pytest.mark.parametrize("name", list(schema.SCHEMAS))
@given(responses=counts, prompt=st.integers(1, 5), k=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_lists_that_agree_are_taken(name: str, responses: list[int], prompt: int, k: int) -> None:
    kind = schema.SCHEMAS[name]
    prompts = [prompt + row for row in range(len(responses))]
    table = built(kind, any_columns(kind, prompts, responses, k))
    schema.validate(schema.from_ipc(schema.to_ipc(table)), kind, vocab_size=4)


def test_all_schemas_with_more_than_one_list_are_looked_at() -> None:
    assert {name for name, _ in ALIGNED} == {
        "named_sequences",
        "teacher_scores",
        "teacher_details",
        "rollouts",
        "rollout_details",
        "experience",
    }
    assert len(ALIGNED) == 2 + 2 + 8 + 3 + 4 + 10


@pytest.mark.parametrize(("name", "column"), ALIGNED)
@given(responses=counts, k=st.integers(1, 4), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_list_of_another_length_is_refused(
    name: str, column: str, responses: list[int], k: int, data: st.DataObject
) -> None:
    kind = schema.SCHEMAS[name]
    columns = any_columns(kind, [1] * len(responses), responses, k)
    row = data.draw(st.integers(0, len(responses) - 1), "row")
    right = len(columns[column][row])
    length = data.draw(st.integers(1, 3 * right + 2), "length")
    assume(length != right)
    # Several per token, and no other column or row that says how many: any multiple is right.
    several = [v.per for field in kind if (v := DECLARED.get(field.name)) and v.has_several]
    assume(len(responses) > 1 or all(several.count(per) > 1 for per in several))
    columns[column][row] = np.resize(columns[column][row], length)
    with pytest.raises(SchemaError, match="values for") as caught:
        built(kind, columns)
    assert caught.value.schema == name
    # A change of the column that counts the tokens shows in the next one. The k of the first row of the first
    # column is the one that all others are held to.
    first = {
        *("rollout_top_token_ids", "top_token_ids", "named_logprobs"),
        *("hidden_states", "hidden_states_bfloat16"),
    }
    if DECLARED[column].presence == "asked" and column not in first:
        assert (caught.value.column, caught.value.row) == (column, row)
    assert f"column {caught.value.column!r}" in str(caught.value)
    if row:
        assert caught.value.row == row


def details(**changes: Any) -> pa.Table:
    """TEACHER_DETAILS of two responses, of 3 and 2 tokens, with k = 2."""
    kind = schema.TEACHER_DETAILS
    return built(kind, any_columns(kind, [1, 1], [3, 2]) | changes)


@pytest.mark.parametrize(
    ("column", "lengths", "row", "words"),
    [
        ("entropy", (2, 2), 0, "2 values for 3 response tokens, counted by 'teacher_logprobs'"),
        ("entropy", (3, 3), 1, "3 values for 2 response tokens"),
        ("top_token_ids", (5, 4), 0, "5 values for 3 response tokens.* wanted k per token"),
        ("top_token_ids", (2, 4), 0, "2 values for 3 response tokens"),
        ("top_token_ids", (6, 6), 1, "6 values for 2 response tokens.* 'top_token_ids' begins with k = 2"),
        ("top_logprobs", (2, 4), 0, "2 values for 3 response tokens.* 'top_token_ids' begins with k = 2"),
        ("top_logprobs", (9, 6), 0, "9 values for 3 response tokens"),
        ("top_logprobs", (6, 2), 1, "2 values for 2 response tokens"),
    ],
)
def test_details_that_disagree(column: str, lengths: tuple[int, int], row: int, words: str) -> None:
    fine = 1 if column != "top_logprobs" else -0.5
    with pytest.raises(SchemaError, match=words) as caught:
        details(**{column: [np.full(length, fine) for length in lengths]})
    assert (caught.value.schema, caught.value.column, caught.value.row) == ("teacher_details", column, row)


def test_details_of_one_row_that_all_disagree() -> None:
    columns = {
        "sequence_id": ["a"],
        "teacher_logprobs": [[-1.0] * 3],
        "entropy": [[0.5] * 2],
        "top_token_ids": [[1] * 5],
        "top_logprobs": [[-0.5] * 2],
    }
    with pytest.raises(SchemaError, match="teacher_details, row 0, column 'entropy': 2 values for 3"):
        built(schema.TEACHER_DETAILS, columns)
    with pytest.raises(SchemaError, match="row 0, column 'top_token_ids': 5 values for 3"):
        built(schema.TEACHER_DETAILS, columns | {"entropy": [[0.5] * 3]})


def test_what_is_null_throughout_is_not_counted() -> None:
    assert details(entropy=[None, None]).column("entropy").null_count == 2
    assert details(top_token_ids=[None, None], top_logprobs=[None, None]).num_rows == 2
    with pytest.raises(SchemaError, match="row 1, column 'entropy': null in some rows"):
        details(entropy=[[0.5] * 3, None])


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("entropy", -0.5, "token 1 is -0.5; an entropy is finite and at least 0"),
        ("entropy", float("inf"), "token 1 is inf; an entropy"),
        ("top_logprobs", 0.5, "token 1 is 0.5; a log-prob is finite and at most 0"),
        ("top_token_ids", 4, "token 1 is 4; the vocabulary has ids 0..3"),
    ],
)
def test_each_column_has_the_rule_of_its_declaration(column: str, value: float, words: str) -> None:
    rows = any_columns(schema.TEACHER_DETAILS, [1, 1], [3, 2])[column]
    rows[1] = np.where(np.arange(rows[1].size) == 1, value, rows[1])
    with pytest.raises(SchemaError, match=f"row 1, column '{column}': {words}"):
        details(**{column: rows})


def test_a_list_that_nobody_declared_is_not_judged_by_another_s_rule() -> None:
    kind = schema.SEQUENCES.append(pa.field("moods", pa.list_(pa.float32())))
    table = built(schema.SEQUENCES, any_columns(schema.SEQUENCES, [1], [2]))
    table = table.append_column("moods", pa.array([[-1.0, 2.0]], pa.list_(pa.float32())))
    with pytest.raises(SchemaError, match="column 'moods': holds lists, which no line of TOKEN_VALUES"):
        schema.validate(table, kind)
