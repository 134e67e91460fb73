"""What of a table is refused, and how it is named."""

from typing import Any

import pyarrow as pa
import pytest
from schema_tables import MINE, rollout_columns, rollouts

from rlad_core import schema
from rlad_core.schema import SchemaError


@pytest.mark.parametrize(
    ("column", "row", "value", "words"),
    [
        ("rollout_logprobs", 2, [-0.5] * 3, "3 values for 4 response tokens"),
        ("policy_versions", 1, [7] * 4, "4 values for 3 response tokens"),
        ("rollout_logprobs", 0, [-0.5, float("nan")], "token 1 is nan"),
        ("rollout_logprobs", 3, [float("-inf"), -1], "token 0 is -inf"),
        ("rollout_logprobs", 0, [-0.5, 0.01], "at most 0"),
        ("rollout_logprobs", 0, [-0.5, None], "holds something that is no number"),
        ("rollout_logprobs", 1, None, "is null"),
        ("response_token_ids", 0, [0, 4], "token 1 is 4; the vocabulary has ids 0..3"),
        ("response_token_ids", 0, [-1, 0], "token 0 is -1"),
        ("response_token_ids", 3, [], "is empty"),
        ("prompt_token_ids", 2, [], "is empty"),
        ("policy_versions", 0, [-1, 0], "at least 0"),
        ("response_token_ids", 1, [0, 1, 2**40], "does not fit"),
        ("response_token_ids", 1, [0, 1.5, 2], "does not fit"),
        ("response_token_ids", 1, ["0", "1", "2"], "wanted numbers"),
        ("finish_reason", 1, "crash", "'crash' must be one of stop, length"),
        ("group_id", 2, None, "is null"),
        ("sample_index", 1, 0, "'p0#0/0' occurs a second time"),
        ("sample_index", 1, -1, "at least 0"),
    ],
)
def test_the_message_names_row_and_column(column: str, row: int, value: Any, words: str) -> None:
    columns = rollout_columns()
    columns[column] = [*columns[column][:row], value, *columns[column][row + 1 :]]
    with pytest.raises(SchemaError, match=words.replace(".", r"\.")) as caught:
        schema.build(schema.ROLLOUTS, columns, tokenizer_fingerprint=MINE, vocab_size=4)
    assert (caught.value.schema, caught.value.column, caught.value.row) == ("rollouts", column, row)
    assert f"row {row}, column '{column}'" in str(caught.value)


@pytest.mark.parametrize("column", ["rollout_logprobs", "response_token_ids", "policy_versions"])
def test_a_null_inside_a_list_is_found(column: str) -> None:
    # Tables from elsewhere may declare the values nullable; only what they hold counts.
    table = rollouts()
    kind = pa.list_(table.schema.field(column).type.value_type)
    rows = table.column(column).to_pylist()
    position = table.column_names.index(column)
    open_ended = table.set_column(position, column, pa.array(rows, kind))
    schema.validate(open_ended, schema.ROLLOUTS)
    assert schema.label(open_ended, schema.ROLLOUTS, tokenizer_fingerprint=MINE).equals(table, True)
    rows[2][1] = None
    holed = table.set_column(position, column, pa.array(rows, kind))
    words = f"row 1, column '{column}': token 1 is null"
    with pytest.raises(SchemaError, match=words):
        schema.validate(holed.slice(1), schema.ROLLOUTS)
    with pytest.raises(SchemaError, match=words.replace("row 1", "row 2")):
        schema.label(holed, schema.ROLLOUTS, tokenizer_fingerprint=MINE)


def test_faults_are_found_in_any_chunk_and_slice() -> None:
    good, table = rollouts(), rollouts()
    bad = pa.array([[0, 1], [0, 9, 2], [0, 1, 2, 3], [0, 1]], table.schema.field("response_token_ids").type)
    position = table.column_names.index("response_token_ids")
    broken = table.set_column(position, table.schema.field(position), bad)
    other = rollouts(group_id=["q0#0", "q0#0", "q1#0", "q1#0"])
    joined = pa.concat_tables([other, broken.slice(1)])
    with pytest.raises(SchemaError, match="row 4, column 'response_token_ids': token 1 is 9"):
        schema.validate(joined, schema.ROLLOUTS, vocab_size=4)
    schema.validate(pa.concat_tables([other, good.slice(1)]), schema.ROLLOUTS, vocab_size=4)


def test_labels() -> None:
    table = rollouts()
    schema.validate(table, schema.ROLLOUTS, tokenizer_fingerprint=MINE)
    with pytest.raises(SchemaError, match="sequences: the table is labelled 'rollouts'"):
        schema.validate(table, schema.SEQUENCES)
    with pytest.raises(SchemaError, match="carries no label"):
        schema.validate(table.replace_schema_metadata(None), schema.ROLLOUTS)
    with pytest.raises(SchemaError, match=r"made with tokenizer sha256:.*, wanted sha256:other"):
        schema.validate(table, schema.ROLLOUTS, tokenizer_fingerprint="sha256:other")
    old = table.replace_schema_metadata({**table.schema.metadata, b"rlad.version": b"0"})
    with pytest.raises(SchemaError, match="version 0, this code reads version 1"):
        schema.validate(old, schema.ROLLOUTS)
    with pytest.raises(SchemaError, match="say whose"):
        schema.build(schema.ROLLOUTS, rollout_columns())


def test_columns() -> None:
    table = rollouts()
    with pytest.raises(SchemaError, match="'response': missing"):
        schema.validate(table.drop_columns(["response"]), schema.ROLLOUTS)
    with pytest.raises(SchemaError, match="'extra': not part of the schema"):
        schema.validate(table.append_column("extra", pa.array([1] * 4)), schema.ROLLOUTS)
    wide = table.set_column(1, "sample_index", table.column("sample_index").cast(pa.int64()))
    with pytest.raises(SchemaError, match="'sample_index': has type int64, wanted int32"):
        schema.validate(wide, schema.ROLLOUTS)
    schema.validate(table.select(table.column_names[::-1]), schema.ROLLOUTS)
    with pytest.raises(SchemaError, match="different lengths"):
        rollouts(response=["a"])
    one = {"sequence_id": "s", "reward": 1, "reward_parts": {}, "correct": True, "verdict": ""}
    lacking = {k: v for k, v in one.items() if k != "verdict"}
    with pytest.raises(SchemaError, match="row 1, column 'verdict': missing"):
        schema.build(schema.REWARDS, [one, lacking])


def test_reward_parts_must_be_finite() -> None:
    rows = [
        {"sequence_id": i, "reward": 1.0, "reward_parts": parts, "correct": True, "verdict": ""}
        for i, parts in enumerate([{"a": 1.0, "b": 2.0}, {}, {"a": float("inf")}])
    ]
    rows = [row | {"sequence_id": str(row["sequence_id"])} for row in rows]
    with pytest.raises(SchemaError, match="row 2, column 'reward_parts'"):
        schema.build(schema.REWARDS, rows)


def test_an_empty_table_is_fine() -> None:
    empty = {name: [] for name in schema.ROLLOUTS.names}
    table = schema.build(schema.ROLLOUTS, empty, tokenizer_fingerprint=MINE)
    schema.validate(schema.from_ipc(schema.to_ipc(table)), schema.ROLLOUTS, tokenizer_fingerprint=MINE)
    assert schema.build(schema.REWARDS, []).num_rows == 0
