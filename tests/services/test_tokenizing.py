"""`/v1/tokenize` without a service: what texts and chats become, and faults named as they were sent."""

import json
from typing import Any

import pytest
from small_tokenizer import LONGEST, READER, TEXTS, WORDS

from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.serve.http.tokenizing import _tokenized


def tokens(asked: dict[str, Any]) -> list[str]:
    answer = _tokenized(Body(json.dumps(asked).encode(), "json", "json"), READER, TEXTS)
    return [WORDS[token] for token in json.loads(bytes(answer.body))["token_ids"]]


def test_texts_and_chats_become_tokens() -> None:
    assert tokens({"text": "Mia is"}) == ["Mia", "is"]
    assert tokens({"messages": [{"role": "user", "content": "Mia"}]}) == ["user", ":", "Mia"]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"text": " "}, "text"),
        ({"text": "a " * (LONGEST + 1)}, "text"),
        ({"messages": [{"role": "user", "content": "a " * LONGEST}]}, "messages"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_sent(asked: dict[str, Any], where: str) -> None:
    with pytest.raises(ProblemError) as refused:
        tokens(asked)
    assert [fault.path for fault in refused.value.problem.errors or []] == [where]
