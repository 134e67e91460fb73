"""From stage to stage: everything is matched by id, never by position."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_tables import MINE, joined, prompts, rewards, rollouts, scores

from rlad_core import schema
from rlad_core.schema import SchemaError


def test_rows_are_matched_by_id() -> None:
    table = joined(rollouts())
    schema.validate(table, schema.EXPERIENCE, vocab_size=4, tokenizer_fingerprint=MINE)
    for index, row in enumerate(table.to_pylist()):
        assert row["sequence_id"] == f"{row['group_id']}/{row['sample_index']}"
        assert row["subset"] == f"subset of {row['prompt_id']}"
        assert row["verdict"] == f"about {row['sequence_id']}"
        assert row["reward"] == row["advantage"] == index
        assert dict(row["reward_parts"]) == {"format": 1.0, "answer": index - 1.0}
        assert row["teacher_logprobs"] == [-1.0 - index] * len(row["response_token_ids"])


@given(st.integers(0, 1000), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_inputs_does_not_matter(seed: int, half: int) -> None:
    table = rollouts(2 * half)
    assert joined(table, seed=seed).equals(joined(table), check_metadata=True)


def test_without_a_teacher_the_column_is_null_throughout() -> None:
    table = joined(rollouts(), teacher=False)
    assert table.column("teacher_logprobs").null_count == table.num_rows
    schema.validate(schema.from_ipc(schema.to_ipc(table)), schema.EXPERIENCE)
    mixed = pa.concat_tables([joined(rollouts()), table.slice(0, 1)])
    with pytest.raises(SchemaError, match="row 4, column 'teacher_logprobs': null in some rows"):
        schema.validate(mixed, schema.EXPERIENCE)


def test_missing_unknown_and_doubled_ids_are_named() -> None:
    table = rollouts()
    ids = schema.sequence_ids(table).to_pylist()
    complete: dict[str, Any] = {
        "prompts": prompts(["p0", "p1"]),
        "rewards": rewards(ids),
        "advantages": dict.fromkeys(ids, 0.0),
        "teacher_scores": scores(table),
    }
    twice = pa.concat_tables([rewards(ids), rewards(ids[:1])])
    for change, words in (
        ({"prompts": prompts(["p0"])}, r"prompts, column 'prompt_id': no row for 'p1'"),
        ({"rewards": rewards(ids[1:])}, r"rewards, .*no row for 'p0#0/0'"),
        ({"rewards": rewards([*ids, "x#0/0"])}, r"rewards, .*rows for 'x#0/0', which no rollout has"),
        ({"rewards": twice}, r"rewards, row 4, .*'p0#0/0' occurs a second time"),
        ({"advantages": {ids[0]: 1.0}}, r"advantages, .*no row for 'p0#0/1', 'p1#0/0', 'p1#0/1'"),
        ({"teacher_scores": scores(table).slice(1)}, r"teacher_scores, .*no row for 'p0#0/0'"),
    ):
        with pytest.raises(SchemaError, match=words):
            schema.join_experience(table, **(complete | change))


def test_scores_of_another_length_or_tokenizer_are_refused() -> None:
    table = rollouts()
    ids = schema.sequence_ids(table).to_pylist()
    inputs: dict[str, Any] = {
        "prompts": prompts(["p0", "p1"]),
        "rewards": rewards(ids),
        "advantages": dict.fromkeys(ids, 0.0),
    }
    short = {"sequence_id": ids, "teacher_logprobs": [[-1.0, -1.0]] * 4}
    wrong = schema.build(schema.TEACHER_SCORES, short, tokenizer_fingerprint=MINE)
    with pytest.raises(SchemaError, match="row 1, column 'teacher_logprobs': 2 values for 3"):
        schema.join_experience(table, **inputs, teacher_scores=wrong)
    foreign = schema.build(schema.TEACHER_SCORES, short, tokenizer_fingerprint="sha256:foreign")
    with pytest.raises(SchemaError, match="scored with tokenizer sha256:foreign"):
        schema.join_experience(table, **inputs, teacher_scores=foreign)


def test_what_teacher_and_verifier_get() -> None:
    table = rollouts()
    sequences = schema.to_sequences(table)
    schema.validate(sequences, schema.SEQUENCES, tokenizer_fingerprint=MINE, vocab_size=4)
    assert sequences.column("sequence_id").to_pylist() == ["p0#0/0", "p0#0/1", "p1#0/0", "p1#0/1"]
    ids = [[3, 1] * n for n in schema.lengths(table.column("response_token_ids"))]
    columns = {name: table.column(name) for name in table.column_names} | {"rollout_top_token_ids": ids}
    details = schema.build(schema.ROLLOUT_DETAILS, columns, tokenizer_fingerprint=MINE)
    named = schema.to_named_sequences(details)
    schema.validate(named, schema.NAMED_SEQUENCES, tokenizer_fingerprint=MINE, vocab_size=4)
    assert named.column("named_token_ids").to_pylist() == ids
    responses = schema.to_responses(table, prompts(["p1", "p0"]))
    schema.validate(responses, schema.RESPONSES)
    assert [json.loads(g)["of"] for g in responses.column("gold").to_pylist()] == ["p0", "p0", "p1", "p1"]


def test_of_the_scores_what_experience_has_is_taken() -> None:
    table = rollouts()
    inputs: dict[str, Any] = {
        "prompts": prompts(["p0", "p1"]),
        "rewards": rewards(schema.sequence_ids(table).to_pylist()),
        "advantages": dict.fromkeys(schema.sequence_ids(table).to_pylist(), 0.0),
    }
    told = scores(table)
    columns = {name: told.column(name) for name in told.column_names}
    entropy = [[0.5] * n for n in schema.lengths(told.column("teacher_logprobs"))]
    details = schema.build(schema.TEACHER_DETAILS, columns | {"entropy": entropy}, tokenizer_fingerprint=MINE)
    plain = schema.join_experience(table, **inputs, teacher_scores=told)
    assert schema.join_experience(table, **inputs, teacher_scores=details).equals(plain, check_metadata=True)
    ids = [[1, 2] * n for n in schema.lengths(told.column("teacher_logprobs"))]
    likely = {"top_token_ids": ids, "top_logprobs": [[-0.5] * len(each) for each in ids]}
    details = schema.build(schema.TEACHER_DETAILS, columns | likely, tokenizer_fingerprint=MINE)
    found = schema.join_experience(table, **inputs, teacher_scores=details)
    assert found.column("top_token_ids").to_pylist() == ids
    assert found.column("rollout_top_token_ids").null_count == len(table)
    lacking = told.drop_columns(["teacher_logprobs"])
    with pytest.raises(
        SchemaError, match="teacher_scores, column 'teacher_logprobs': missing; the table has"
    ):
        schema.join_experience(table, **inputs, teacher_scores=lacking)
