"""Requests that ask for a lot: refused with what and how much, or answered in parts; without Ray."""

import json
from typing import Any

import numpy as np
import pytest

from rlad_core import schema
from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.client.errors import LimitError
from rlad_core.client.teacher import _parts
from services.serve.http.bodies import Body
from services.teacher.answers import write_answer
from services.teacher.reading import Wanted
from services.teacher.scoring.interface import Scored
from services.teacher.scoring.tables import to_pairs, to_scores
from services.teacher.settings import TeacherLimits
from services.teacher.sizes import check_size

TOKENIZER = "sha256:mine"


def sequences(*lengths: int) -> Any:
    """SEQUENCES with prompts of one token and responses of these lengths."""
    return schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [str(place) for place in range(len(lengths))],
            "prompt_token_ids": [[1]] * len(lengths),
            "response_token_ids": [[2] * length for length in lengths],
        },
        tokenizer_fingerprint=TOKENIZER,
    )


def test_what_is_told_counts_as_what_is_scored() -> None:
    limits = TeacherLimits(max_tokens_per_request=1000)
    limits.check(1, 1000)
    limits.check(1, 100, told=900)
    with pytest.raises(
        LimitError, match="100 tokens and 901 numbers to tell of them in one request; at most 1000 are taken"
    ) as refused:
        limits.check(1, 100, told=901)
    assert refused.value.limit == "tokens"


def test_hidden_states_count_as_a_whole() -> None:
    limits = TeacherLimits(max_hidden_bytes=2 * 8 * 100, max_tokens_per_request=1000)
    check_size(1, 300, 100, Details(hidden="bfloat16"), 8, limits)
    with pytest.raises(LimitError, match="1616 bytes of hidden states in one request; at most 1600"):
        check_size(1, 300, 101, Details(hidden="bfloat16"), 8, limits)
    with pytest.raises(LimitError, match="300 tokens and 1000 numbers to tell of them"):
        check_size(1, 300, 100, Details(top_k=10), 8, limits)


def test_the_client_s_parts_are_within_the_limit_with_what_is_told() -> None:
    table = sequences(*[9] * 10)
    assert [part.num_rows for part in _parts(table, (100, 50), NO_DETAILS)] == [5, 5]
    # 1 + 9 + 9 * 2 tokens each
    assert [part.num_rows for part in _parts(table, (100, 60), Details(top_k=2))] == [2] * 5
    assert _parts(table.slice(0, 0), (100, 50), NO_DETAILS) == []


def test_the_likeliest_tokens_in_json_are_those_of_the_table() -> None:
    table, details = sequences(3, 1), Details(top_k=2)
    scored = [
        Scored(
            {
                "teacher_logprobs": np.full(length, -1, np.float32),
                "top_token_ids": np.arange(2 * length, dtype=np.int32).reshape(length, 2),
                "top_logprobs": -np.arange(2 * length, dtype=np.float32).reshape(length, 2) / 4,
            }
        )
        for length in (3, 1)
    ]
    scores = to_scores(table, to_pairs(table, details), scored, details)
    body = Body(b"", "json", "json")
    answer = json.loads(bytes(write_answer(Wanted(table, None, details), scores, body, model="m").body))
    assert [result["top"] for result in answer["results"]] == [
        [[{"token_id": i, "logprob": -i / 4} for i in pair] for pair in pairs]
        for pairs in ([(0, 1), (2, 3), (4, 5)], [(0, 1)])
    ]
