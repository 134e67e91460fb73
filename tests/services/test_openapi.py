"""Any request, inside or outside of what the OpenAPI documents say, gets an answer that is no fault."""

import json
import os

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlad_core import schema
from tests.abuse.attacks import any_request
from tests.abuse.target import SERVICES, Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
REQUESTS = 600  # to each service, or some fewer; `python -m tests.abuse --long` has 100,000


@pytest.mark.parametrize("service", SERVICES)
def test_no_request_breaks_a_service(http: httpx.Client, service: str) -> None:
    """All checks of schemathesis, on each operation alone and on several in a row."""
    answers = any_request.ask(Target(str(http.base_url).rstrip("/"), os.getpid()), service, REQUESTS, seed=0)
    assert answers.total() >= REQUESTS / 2
    assert answers[200]
    assert answers[422]


TOKENS = st.lists(st.integers(1, 200), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=6))
def test_json_and_arrow_give_the_same(http: httpx.Client, pairs: list[tuple[list[int], list[int]]]) -> None:
    rows = [
        {"id": str(place), "prompt_token_ids": prompt, "response_token_ids": response}
        for place, (prompt, response) in enumerate(pairs)
    ]
    by_json = http.post("/teacher/v1/score", json={"sequences": rows}).raise_for_status().json()["results"]
    fingerprint = http.get("/teacher/v1/info").json()["tokenizer_fingerprint"]
    table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [row["id"] for row in rows],
            "prompt_token_ids": [row["prompt_token_ids"] for row in rows],
            "response_token_ids": [row["response_token_ids"] for row in rows],
        },
        tokenizer_fingerprint=fingerprint,
    )
    answer = http.post(
        "/teacher/v1/score", content=schema.to_ipc(table), headers={"Content-Type": ARROW}
    ).raise_for_status()
    by_arrow = schema.from_ipc(answer.content).to_pylist()
    assert [row["sequence_id"] for row in by_arrow] == [row["id"] for row in by_json]
    for one, other in zip(by_json, by_arrow, strict=True):
        np.testing.assert_allclose(one["logprobs"], other["teacher_logprobs"], atol=1e-4, rtol=0)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_arrow_is_refused(
    http: httpx.Client, arrow_bodies: list[tuple[str, str, bytes]], data: st.DataObject
) -> None:
    service, path, whole = data.draw(st.sampled_from(arrow_bodies))
    damage = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    body = {
        "cut": whole[:place],
        "flip": whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :],
        "noise": data.draw(st.binary(max_size=300)),
    }[damage]
    answer = http.post(f"/{service}{path}", content=body, headers={"Content-Type": ARROW, "Accept": JSON})
    # A flipped bit may hit padding, or make another table that can be worked on.
    assert answer.status_code in (200, 400, 413, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


@pytest.fixture(scope="module")
def arrow_bodies(http: httpx.Client) -> list[tuple[str, str, bytes]]:
    """Service, path and a body that it takes; teacher and student share the tokenizer."""
    fingerprint = http.get("/teacher/v1/info").json()["tokenizer_fingerprint"]
    sequences = schema.build(
        schema.SEQUENCES,
        {"sequence_id": ["a", "b"], "prompt_token_ids": [[5], [6, 7]], "response_token_ids": [[8], [9]]},
        tokenizer_fingerprint=fingerprint,
    )
    prompts = schema.build(
        schema.PROMPTS,
        {
            "prompt_id": ["a"],
            "task": ["knights_knaves"],
            "subset": ["2_people"],
            "prompt": ["Mia"],
            "prompt_token_ids": [[5, 6]],
            "gold": ["{}"],
        },
        tokenizer_fingerprint=fingerprint,
    )
    responses = schema.build(
        schema.RESPONSES,
        {"sequence_id": ["a"], "task": ["math"], "response": ["5"], "gold": [json.dumps({"answer": "5"})]},
        tokenizer_fingerprint=fingerprint,
    )
    return [
        ("teacher", "/v1/score", schema.to_ipc(sequences)),
        ("rollout", "/v1/rollouts?max_tokens=4&group_size=1", schema.to_ipc(prompts)),
        ("verifier", "/v1/verify", schema.to_ipc(responses)),
    ]
