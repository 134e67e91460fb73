"""Token strings and places, prompts that are sent once, answers that come as they are made."""

import json
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from rlad_core import schema
from rlad_core.client import TeacherClient
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import ARROW, TeacherLimits
from rlad_core.client.shared_prompts import prompts_once, texts_once
from services.teacher.shared_prompts import filled

NDJSON = "application/x-ndjson"
CHAT = [{"role": "user", "content": "Mia is a knight."}]


def sequences(rows: list[tuple[list[int], list[int]]], fingerprint: str = "f") -> pa.Table:
    return schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [f"s{row}" for row in range(len(rows))],
            "prompt_token_ids": [prompt for prompt, _ in rows],
            "response_token_ids": [response for _, response in rows],
        },
        tokenizer_fingerprint=fingerprint,
    )


def test_a_prompt_that_is_sent_once_comes_to_the_same_table() -> None:
    whole = sequences([([1, 2], [3]), ([1, 2], [4]), ([5], [6]), ([5], [7]), ([1, 2], [8])])
    once = prompts_once(whole)
    assert once["prompt_token_ids"].to_pylist() == [[1, 2], None, [5], None, [1, 2]]
    received = filled(schema.from_ipc(schema.to_ipc(once)), TeacherLimits())
    assert received.equals(whole)
    schema.validate(received, schema.SEQUENCES, tokenizer_fingerprint="f")
    different = sequences([([1], [2]), ([3], [4])])
    assert prompts_once(different) is different


def test_what_a_shared_prompt_comes_to_is_limited_before_it_is_copied() -> None:
    many = prompts_once(sequences([(list(range(1, 1001)), [3])] * 50))
    with pytest.raises(LimitError, match="50000 tokens in one request; at most 40000"):
        filled(many, TeacherLimits(max_tokens_per_request=40_000))
    with pytest.raises(InvalidRequestError, match="there is no row before it"):
        filled(many.slice(1), TeacherLimits())


def test_texts_that_share_a_prompt_name_it() -> None:
    rows = [{"id": str(n), "messages": CHAT, "response": f"r{n}"} for n in range(2)]
    asked = texts_once([*rows, {"id": "2", "prompt": "Mia", "response": "r2"}])
    assert asked["prompts"] == [{"id": "0", "messages": CHAT}, {"id": "1", "prompt": "Mia"}]
    assert [row["prompt_id"] for row in asked["sequences"]] == ["0", "0", "1"]


# Against the services


@pytest.mark.slow
@pytest.mark.parametrize("service", ["teacher", "rollout"])
def test_tokenize_and_back(http: httpx.Client, service: str) -> None:
    text = "Mia is a knight."
    told = http.post(f"/{service}/v1/tokenize", json={"text": text}).raise_for_status().json()
    assert told["count"] == len(told["token_ids"]) == len(told["tokens"]) == len(told["offsets"])
    assert told["text"] == text
    assert [text[start:stop] for start, stop in told["offsets"]] == told["tokens"]
    back = http.post(f"/{service}/v1/detokenize", json={"token_ids": told["token_ids"]})
    assert back.raise_for_status().json() == told
    chat = http.post(f"/{service}/v1/tokenize", json={"messages": CHAT}).raise_for_status().json()
    assert text in chat["text"]
    assert chat["count"] > told["count"]
    for body in ({}, {"text": text, "messages": CHAT}, {"text": ""}):
        assert http.post(f"/{service}/v1/tokenize", json=body).status_code == 422
    # The heads have more rows than there are tokens.
    beyond = http.post(f"/{service}/v1/detokenize", json={"token_ids": [5, 214]})
    assert (beyond.status_code, beyond.json()["errors"][0]["path"]) == (422, "token_ids[1]")
    assert "0..213" in beyond.json()["detail"]


@pytest.mark.slow
def test_strings_and_places_beside_logprobs(http: httpx.Client) -> None:
    response = "<think> Mia is a knight."
    asked = {"tokens": True, "sequences": [{"messages": CHAT, "response": response}]}
    [told] = http.post("/teacher/v1/score", json=asked).raise_for_status().json()["results"]
    assert len(told["tokens"]) == len(told["offsets"]) == len(told["logprobs"])
    assert [response[start:stop] for start, stop in told["offsets"]] == told["tokens"]
    without = http.post("/teacher/v1/score", json={**asked, "tokens": False}).json()["results"][0]
    assert without["logprobs"] == pytest.approx(told["logprobs"], abs=1e-5)
    assert "tokens" not in without


@pytest.mark.slow
def test_a_groups_prompt_is_sent_once(http: httpx.Client) -> None:
    responses = ["<think> Mia", "Mia is", "<think> Ella"]
    apart = [{"messages": CHAT, "response": text} for text in responses]
    shared: dict[str, Any] = {
        "prompts": [{"id": "p", "messages": CHAT}],
        "sequences": [{"prompt_id": "p", "response": text} for text in responses],
    }
    one, other = (
        http.post("/teacher/v1/score", json=body).raise_for_status().json()
        for body in ({"sequences": apart}, shared)
    )
    assert one["usage"] == other["usage"]
    for left, right in zip(one["results"], other["results"], strict=True):
        np.testing.assert_allclose(left["logprobs"], right["logprobs"], atol=1e-5)
        assert left["prompt_token_ids"] == right["prompt_token_ids"]
    shared["sequences"][1]["prompt_id"] = "q"
    refused = http.post("/teacher/v1/score", json=shared)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "sequences[1].prompt_id"
    with TeacherClient(f"{str(http.base_url).rstrip('/')}/teacher") as client:
        assert client.info().takes_shared_prompts
        texts = client.score_texts([(CHAT, text) for text in responses])
        assert [score.response_token_ids for score in texts] == [
            result["response_token_ids"] for result in one["results"]
        ]
        pairs = [([5, 6, 7], [n, 9]) for n in range(8, 12)]
        by_tokens = client.score_tokens(pairs)
    direct = [{"prompt_token_ids": p, "response_token_ids": r} for p, r in pairs]
    told = http.post("/teacher/v1/score", json={"sequences": direct}).json()["results"]
    for row, result in zip(by_tokens, told, strict=True):
        np.testing.assert_allclose(row, result["logprobs"], atol=1e-5)


def lines(http: httpx.Client, path: str, body: Any) -> list[dict[str, Any]]:
    with http.stream("POST", path, json=body, headers={"Accept": NDJSON}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == NDJSON
        assert "content-length" not in answer.headers  # it comes as it is made
        return [json.loads(line) for line in answer.iter_lines()]


@pytest.mark.slow
def test_results_come_line_by_line(http: httpx.Client) -> None:
    rows = [
        {"id": f"s{n}", "prompt_token_ids": [5 + n % 90] * 40, "response_token_ids": [6] * 40}
        for n in range(500)
    ]
    *results, last = lines(http, "/teacher/v1/score", {"sequences": rows, "top_k": 2})
    info = http.get("/teacher/v1/info").json()
    assert (last["results"], last["usage"]["sequences"]) == (500, 500)
    assert (last["model"], last["made_with"]) == (info["model"], info["made_with"])
    assert [each["id"] for each in results] == [row["id"] for row in rows]
    few = {"sequences": rows[:3], "top_k": 2}
    whole = http.post("/teacher/v1/score", json=few).json()["results"]
    for line, result in zip(results, whole, strict=False):
        np.testing.assert_allclose(line["logprobs"], result["logprobs"], atol=1e-4)
        assert len(line["top"]) == len(result["top"])

    # What is wrong with any part is answered as ever.
    wrong = {"prompt_token_ids": [5], "response_token_ids": [6] * info["max_model_len"]}
    for before in ([], rows):
        asked = {"sequences": [*before, wrong]}
        refused = http.post("/teacher/v1/score", json=asked, headers={"Accept": NDJSON})
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
        assert [each["path"] for each in refused.json()["errors"]] == [f"sequences[{len(before)}]"]

    responses = [{"response": rf"\boxed{{{n}}}"} for n in range(3)]
    *verdicts, last = lines(
        http, "/verifier/v1/verify", {"task": "math", "gold": {"answer": "1"}, "responses": responses}
    )
    assert [each["correct"] for each in verdicts] == [False, True, False]
    assert last == {"results": 3}
    # What only shows when a later part is done is the last line.
    odd = {"response": "5", "gold": "no object"}
    *verdicts, last = lines(
        http,
        "/verifier/v1/verify",
        {"task": "math", "gold": {"answer": "1"}, "responses": [*responses * 12, odd]},
    )
    assert len(verdicts) == 32
    assert last["error"]["status"] == 422
    assert [each["path"] for each in last["error"]["errors"]] == ["responses[36].gold"]


@pytest.mark.slow
def test_tables_come_batch_by_batch(http: httpx.Client) -> None:
    fingerprint = http.get("/teacher/v1/info").json()["tokenizer_fingerprint"]
    table = sequences([([5 + n % 90] * 40, [6] * 40) for n in range(500)], fingerprint)
    headers = {"Content-Type": ARROW, "Accept": ARROW}
    answer = http.post("/teacher/v1/score?stream=true", content=schema.to_ipc(table), headers=headers)
    with pa.ipc.open_stream(answer.raise_for_status().content) as batches:
        sizes = [batch.num_rows for batch in batches]
    assert len(sizes) > 1
    assert sum(sizes) == 500
    told = schema.from_ipc(answer.content)
    whole = schema.from_ipc(
        http.post("/teacher/v1/score", content=schema.to_ipc(table), headers=headers).content
    )
    assert told["sequence_id"].equals(whole["sequence_id"])
    np.testing.assert_allclose(
        told["teacher_logprobs"][499].as_py(), whole["teacher_logprobs"][499].as_py(), atol=1e-4
    )
