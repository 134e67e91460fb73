"""Rows with ids and rows with texts in one request: each is read as it is, and no text before all ids are."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizer import READER, TOKENIZER

from rlad_core.client.errors import LimitError
from rlad_core.client.forms import TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from services.base.encoder import Encoder
from services.rollout import http as rollout
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.teacher import reading as teacher
from services.teacher.forms import DetailsQuery

IDS, TEXT, CHAT = (
    {"prompt_token_ids": [4, 5]},
    {"prompt": "Mia is a"},
    {"messages": [{"role": "user", "content": "Mia"}]},
)
EXPECTED = {"prompt_token_ids": [4, 5], "prompt": [4, 5, 6], "messages": [2, 3, 4]}
PROMPTS = st.sampled_from([IDS, TEXT, CHAT])
RESPONSES = st.sampled_from([{"response_token_ids": [7, 1]}, {"response": "a knave"}])
SAMPLING = {"group_size": 2, "max_tokens": 4}


def scored(asked: dict[str, Any], **limits: int) -> teacher.Wanted:
    body = Body(json.dumps(asked).encode(), "json", "json")
    return teacher.read_request(body, DetailsQuery(), READER, "mine", TeacherLimits(**limits))


def sampled(prompts: list[dict[str, Any]], **limits: int) -> list[list[int]]:
    body = Body(json.dumps({"prompts": prompts, "sampling": SAMPLING}).encode(), "json", "json")
    table, _ = rollout.read_request(body, {}, READER, "mine", RolloutLimits(**limits))
    found: list[list[int]] = table["prompt_token_ids"].to_pylist()
    return found


def ids_of(prompt: dict[str, Any]) -> list[int]:
    return next(EXPECTED[name] for name in prompt if name in EXPECTED)


@given(
    shared=st.lists(PROMPTS, max_size=3),
    rows=st.lists(st.tuples(PROMPTS, RESPONSES, st.integers(0, 9)), min_size=1),
)
def test_each_row_of_a_teacher_s_is_read_as_it_is(shared: list[dict[str, Any]], rows: list[Any]) -> None:
    sequences, expected, is_text = [], [], []
    for prompt, response, number in rows:
        its = shared[number] if number < len(shared) else prompt
        sequences.append(({"prompt_id": str(number)} if number < len(shared) else prompt) | response)
        expected.append((ids_of(its), [7, 1] if "response_token_ids" in response else [6, 8]))
        is_text.append(its is not IDS or "response" in response)
    wanted = scored({"prompts": shared, "sequences": sequences})
    table = wanted.sequences
    columns = (table[name].to_pylist() for name in ("prompt_token_ids", "response_token_ids"))
    assert list(zip(*columns, strict=True)) == expected
    assert wanted.text_rows.tolist() == is_text
    assert table["sequence_id"].to_pylist() == [str(place) for place in range(len(rows))]


@given(st.lists(PROMPTS, min_size=1))
def test_each_prompt_of_a_rollout_s_is_read_as_it_is(prompts: list[dict[str, Any]]) -> None:
    assert sampled(prompts) == [ids_of(prompt) for prompt in prompts]


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is."""
    found: list[str] = []
    ids = Encoder.ids

    def noted(self: Encoder, text: str, **settings: Any) -> list[int]:
        found.append(text)
        return ids(self, text, **settings)

    monkeypatch.setattr(Encoder, "ids", noted)
    return found


A, WRONG = TEXT | {"response": "a"}, {"prompt_token_ids": [-6]}


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"sequences": [A, WRONG | {"response": "a"}]}, r"sequences\[1\]\.prompt_token_ids\[0\]"),
        (
            {"sequences": [A, CHAT | {"response_token_ids": [3.5]}]},
            r"sequences\[1\]\.response_token_ids\[0\]",
        ),
        ({"prompts": [TEXT, WRONG], "sequences": [A]}, r"prompts\[1\]\.prompt_token_ids\[0\]"),
        ({"sequences": [A, A | {"prompt": 5}]}, r"sequences\[1\]\.prompt"),
        ({"sequences": [A | {"id": "1"}, A | {"id": "1"}]}, "'1' occurs twice"),
        (
            {"sequences": [A, IDS | {"response_token_ids": [3], "named_token_ids": [[-1]]}]},
            r"sequences\[1\]\.named_token_ids\[0\]\[0\]",
        ),
    ],
)
def test_a_teacher_tokenizes_nothing_where_ids_are_wrong(
    asked: dict[str, Any], where: str, tokenized: list[str]
) -> None:
    with pytest.raises(ProblemError, match=where):
        scored(asked)
    assert tokenized == []


def test_rollouts_tokenize_nothing_where_ids_are_wrong(tokenized: list[str]) -> None:
    with pytest.raises(ProblemError, match=r"prompts\[1\]\.prompt_token_ids\[0\]"):
        sampled([TEXT, WRONG])
    assert tokenized == []


def test_rollouts_tokenize_no_more_than_a_request_may_have(tokenized: list[str]) -> None:
    """Prompts count with their longest responses, which are as long as there is room for."""
    for prompts, tokens in (([TEXT, IDS], 3 + 2 * 4 + 2 + 2 * 4), ([IDS], 2 + 2 * 4)):
        sampled(prompts, max_tokens_per_request=tokens)
        with pytest.raises(LimitError, match=f"{tokens} tokens of prompts and longest responses") as refused:
            sampled(prompts, max_tokens_per_request=tokens - 1)
        assert (refused.value.limit, refused.value.status) == ("tokens", 413)
    tokenized.clear()
    with pytest.raises(LimitError, match=r"6 tokens in one request with prompts\[1\]; at most 5"):
        sampled([TEXT] * 9, max_tokens_per_request=5)
    assert len(tokenized) == 2
    whole = len(TOKENIZER("a " * 10)["input_ids"])
    assert (whole, READER.max_length) == (10, 12)
    sampled([{"prompt": "a " * 10}], max_tokens_per_request=10 + 2 * 2)


LONG = "a " * 20
"""More tokens than the model takes, and not so many more that its beginning shows it."""


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"sequences": [*[{"prompt": "a", "response": "a"}] * 9, A | {"prompt": LONG}]}, "9].prompt"),
        ({"sequences": [*[{"prompt": "a", "response": "a"}] * 9, A | {"response": LONG}]}, "9].response"),
        (
            {
                "prompts": [{"prompt": "a"}, {"prompt": LONG}],
                "sequences": [{"prompt_id": "0", "response": "a"}],
            },
            "prompts[1].prompt",
        ),
    ],
)
def test_a_text_too_long_is_found_before_short_ones_are_tokenized(
    asked: dict[str, Any], where: str, tokenized: list[str]
) -> None:
    with pytest.raises(ProblemError, match=re.escape(where) + ": the text has 20 tokens, and 12"):
        scored(asked)
    assert "a" not in tokenized
    tokenized.clear()
    with pytest.raises(ProblemError, match=r"prompts\[3\]\.prompt: the text has 20 tokens, and 12 are"):
        sampled([*[{"prompt": "a"}] * 3, {"prompt": LONG}])
    assert tokenized == [LONG]
