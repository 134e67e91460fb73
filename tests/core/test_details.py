"""What is asked of a teacher: as columns, as numbers that count, as parameters of a URL."""

import numpy as np
import pytest
import torch

from rlad_core import schema
from rlad_core.client.details import (
    NO_DETAILS,
    Details,
    answer_schema,
    hidden_states,
    named_per_token,
    widened,
)
from rlad_core.client.teacher_parts import parts_of

MINE = schema.tokenizer_fingerprint({"a": 0})


def test_every_field_has_its_columns() -> None:
    everything = Details(3, True, (1, 2), "float32", 2)
    asked = {value.name for value in schema.TOKEN_VALUES if value.source == "teacher"}
    assert everything.columns == asked - {"teacher_logprobs", "hidden_states_bfloat16"}
    assert Details(hidden="bfloat16").columns == {"hidden_states_bfloat16"}
    assert everything.told_per_token == 3 + 2 + 1
    assert NO_DETAILS.query == {}
    assert Details(2, True, (5, 6), "bfloat16").query == {
        "top_k": 2,
        "entropy": "true",
        "end_token_ids": [5, 6],
        "details": "hidden",
        "hidden_dtype": "bfloat16",
    }
    assert answer_schema(Details(end_token_ids=(1,))) == schema.TEACHER_SCORES
    assert answer_schema(Details(named_token_ids=1)) == schema.TEACHER_DETAILS


def test_bits_of_bfloat16_are_read_as_the_number() -> None:
    numbers = torch.tensor([0.0, -1.5, 3.1415926, 1e30, -1e-30]).bfloat16()
    bits = numbers.view(torch.uint16).numpy()
    assert widened(bits).tolist() == numbers.float().tolist()
    table = schema.build(
        schema.TEACHER_DETAILS,
        {"sequence_id": ["a"], "teacher_logprobs": [[-1.0] * 5], "hidden_states_bfloat16": [bits]},
        tokenizer_fingerprint=MINE,
    )
    assert hidden_states(table, 0).tolist() == numbers.float()[:, None].tolist()
    for odd in (np.inf, np.nan):
        wrong = torch.tensor([odd] * 5).bfloat16().view(torch.uint16).numpy()
        with pytest.raises(schema.SchemaError, match="the bits of a finite bfloat16 number"):
            schema.build(
                schema.TEACHER_DETAILS,
                {"sequence_id": ["a"], "teacher_logprobs": [[-1.0] * 5], "hidden_states_bfloat16": [wrong]},
                tokenizer_fingerprint=MINE,
            )


def test_a_table_says_how_many_tokens_it_names() -> None:
    columns = {"sequence_id": ["a", "b"], "prompt_token_ids": [[0]] * 2, "response_token_ids": [[0], [0, 0]]}
    plain = schema.build(schema.SEQUENCES, columns, tokenizer_fingerprint=MINE)
    assert named_per_token(plain) == 0
    named = schema.build(
        schema.NAMED_SEQUENCES,
        columns | {"named_token_ids": [[0] * 3, [0] * 6]},
        tokenizer_fingerprint=MINE,
    )
    assert named_per_token(named) == 3
    assert named_per_token(named.slice(1)) == 3
    with pytest.raises(schema.SchemaError, match=r"5 values for 2 response tokens.*wanted m per token"):
        schema.build(
            schema.NAMED_SEQUENCES,
            columns | {"named_token_ids": [[0] * 3, [0] * 5]},
            tokenizer_fingerprint=MINE,
        )


def test_parts_hold_no_more_hidden_states_than_a_request_may() -> None:
    table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [str(n) for n in range(6)],
            "prompt_token_ids": [[0]] * 6,
            "response_token_ids": [[0] * 4] * 6,
        },
        tokenizer_fingerprint=MINE,
    )
    parts = parts_of(table, (100, 100), Details(hidden="float32"), 8)
    assert [part.num_rows for part in parts] == [2, 2, 2]
    parts = parts_of(table, (100, 5), Details(hidden="float32"), 8)
    assert [part.num_rows for part in parts] == [1] * 6
