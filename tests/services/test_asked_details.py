"""What is asked besides log-probs may stand in the query, in the body, or in both where they agree."""

import json
from typing import Any

import pytest
from small_tokenizer import READER
from starlette.datastructures import QueryParams

from rlad_core.client.details import Details
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body
from services.serve.http.problems import ProblemError
from services.serve.http.queries import values_of
from services.teacher.asked import in_query
from services.teacher.reading import read_request

SEQUENCES = [{"prompt_token_ids": [5], "response_token_ids": [6]}]


def asked(query: str, **body: Any) -> Details:
    content = json.dumps({"sequences": SEQUENCES, **body}).encode()
    there = in_query(values_of(QueryParams(query)))
    return read_request(Body(content, "json", "json"), there, READER, "mine", TeacherLimits()).details


@pytest.mark.parametrize(
    ("query", "body", "wanted"),
    [
        ("", {}, Details()),
        ("details=hidden", {}, Details(hidden="float32")),
        ("details=hidden", {"hidden_dtype": "bfloat16"}, Details(hidden="bfloat16")),
        ("hidden_dtype=bfloat16", {"details": "hidden"}, Details(hidden="bfloat16")),
        ("hidden_dtype=bfloat16", {"details": ["hidden"]}, Details(hidden="bfloat16")),
        ("details=hidden", {"details": "hidden"}, Details(hidden="float32")),
        ("top_k=2&entropy=true", {"end_token_ids": [1, 2.0]}, Details(2, True, (1, 2))),
        ("end_token_ids=1&end_token_ids=2", {"end_token_ids": [1, 2]}, Details(end_token_ids=(1, 2))),
        ("top_k=5", {"top_k": 5.0, "plain": True}, Details(5, plain=True)),
        ("stream=true&top_k=5", {"entropy": False}, Details(5)),
    ],
)
def test_a_field_may_stand_in_either(query: str, body: dict[str, Any], wanted: Details) -> None:
    assert asked(query, **body) == wanted


@pytest.mark.parametrize(
    ("query", "body", "name", "says"),
    [
        ("top_k=5", {"top_k": 2}, "top_k", "2 in the body, and 5 in the query; leave out one"),
        ("top_k=5", {"top_k": 0}, "top_k", "0 in the body, and 5"),
        ("entropy=false", {"entropy": True}, "entropy", "True in the body, and False"),
        ("plain=true", {"plain": False}, "plain", "False in the body, and True"),
        ("end_token_ids=1", {"end_token_ids": [2]}, "end_token_ids", r"\[2\] in the body, and \[1\]"),
        ("details=hidden", {"details": []}, "details", r"\[\] in the body, and \['hidden'\]"),
        (
            "details=hidden&hidden_dtype=bfloat16",
            {"hidden_dtype": "float32"},
            "hidden_dtype",
            "float32 in the body, and bfloat16",
        ),
    ],
)
def test_what_both_say_differently_is_refused(query: str, body: dict[str, Any], name: str, says: str) -> None:
    with pytest.raises(ProblemError, match=says) as refused:
        asked(query, **body)
    assert refused.value.problem.status == 422
    assert [fault.path for fault in refused.value.problem.errors or ()] == [name]
