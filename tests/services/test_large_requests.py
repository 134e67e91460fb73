"""Requests that ask for a lot: refused with what and how much, or answered in parts; without Ray."""

import json
from typing import Any

import numpy as np
import pytest
from small_tokenizer import READER

from rlad_core import schema
from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.client.errors import LimitError
from rlad_core.client.teacher_parts import parts_of
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.problems import ProblemError
from services.teacher.answers import telling
from services.teacher.forms import DetailsQuery
from services.teacher.reading import Wanted, read_request
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


def test_texts_are_tokenized_no_further_than_a_request_may_go() -> None:
    """A prompt that is sent once counts for each sequence; the last text, which has no token, is not seen.
    Rows that may be too long are read first.
    """
    a, group = {"prompt": "a knight", "response": "Mia"}, {"prompt_id": "p", "response": "a"}
    last = {"prompt": "a", "response": " "}
    bodies = [
        {"sequences": [a, a, a, last]},
        {"prompts": [{"id": "p", "prompt": "Mia is"}, {"prompt": "a"}], "sequences": [group, group, a, last]},
    ]
    for body, tokens, place in zip(bodies, (9, 10), (2, 1), strict=True):
        with pytest.raises(ProblemError, match=r"sequences\[3\].response: the text has no token"):
            read(body, TeacherLimits(max_tokens_per_request=tokens + 2))
        says = f"{tokens} tokens in one request with sequences\\[{place}\\]; at most {tokens - 1} are taken"
        with pytest.raises(LimitError, match=says) as refused:
            read(body, TeacherLimits(max_tokens_per_request=tokens - 1))
        assert refused.value.limit == "tokens"
    long = [{"id": "p", "prompt": "Mia is"}, {"prompt": "a " * 11}, {"prompt": " "}]
    with pytest.raises(LimitError, match=r"13 tokens in one request with prompts\[1\]"):
        read(bodies[1] | {"prompts": long}, TeacherLimits(max_tokens_per_request=12))


def read(body: dict[str, Any], limits: TeacherLimits) -> Wanted:
    return read_request(
        Body(json.dumps(body).encode(), "json", "json"), DetailsQuery(), READER, TOKENIZER, limits
    )


def test_hidden_states_count_as_a_whole() -> None:
    limits = TeacherLimits(max_hidden_bytes=2 * 8 * 100, max_tokens_per_request=1000)
    check_size(1, 300, 100, Details(hidden="bfloat16"), 8, limits)
    with pytest.raises(LimitError, match="1616 bytes of hidden states in one request; at most 1600"):
        check_size(1, 300, 101, Details(hidden="bfloat16"), 8, limits)
    with pytest.raises(LimitError, match="300 tokens and 1000 numbers to tell of them"):
        check_size(1, 300, 100, Details(top_k=10), 8, limits)


def test_the_client_s_parts_are_within_the_limit_with_what_is_told() -> None:
    table = sequences(*[9] * 10)
    assert [part.num_rows for part in parts_of(table, (100, 50), NO_DETAILS)] == [5, 5]
    # 1 + 9 + 9 * 2 tokens each
    assert [part.num_rows for part in parts_of(table, (100, 60), Details(top_k=2))] == [2] * 5
    assert parts_of(table.slice(0, 0), (100, 50), NO_DETAILS) == []


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
    answer = json.loads(
        bytes(whole_answer(telling(Wanted(table, None, details), model="m"), scores, body).body)
    )
    assert [result["top"] for result in answer["results"]] == [
        [[{"token_id": i, "logprob": -i / 4} for i in pair] for pair in pairs]
        for pairs in ([(0, 1), (2, 3), (4, 5)], [(0, 1)])
    ]


def test_a_log_prob_is_written_in_one_way() -> None:
    """A token that was the likeliest has its own log-prob there too, and not only nearly."""
    table, details = sequences(5), Details(top_k=2, entropy=True)
    logprobs = np.array([-0.1, -1.2345678, -7.7, -1e-12, -0.0], np.float32)
    values = {
        "teacher_logprobs": logprobs,
        "entropy": -logprobs,
        "top_token_ids": np.tile(np.arange(2, dtype=np.int32), (5, 1)),
        "top_logprobs": np.stack([logprobs, logprobs - 1], axis=1),
    }
    scores = to_scores(table, to_pairs(table, details), [Scored(values)], details)
    body = Body(b"", "json", "json")
    told = bytes(whole_answer(telling(Wanted(table, None, details), model="m"), scores, body).body)
    [result] = json.loads(told)["results"]
    assert [place[0]["logprob"] for place in result["top"]] == result["logprobs"]
    assert result["logprobs"][:3] == [-0.1, -1.2345678, -7.7]
    assert np.array(result["logprobs"], np.float32).tobytes() == logprobs.tobytes()
