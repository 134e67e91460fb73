"""Any request, inside or outside of what the OpenAPI documents say, gets an answer that is no fault."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from rlad_core import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
LIMIT_S = 120
EXAMPLES = 20  # of each operation; `python -m tests.abuse --long` has 100,000 requests
CHATS = "/v1/chat/completions"
#: A chat that names no length may be as long as the model reads, which takes seconds; so many are sent.
LONG_CHATS = 3

OPERATIONS = [
    *[("teacher", method, path) for method, path in (("POST", "/v1/score"), ("GET", "/v1/info"))],
    ("teacher", "GET", "/v1/tokenizer"),
    *[("teacher", "POST", path) for path in ("/v1/completions", "/get_sequence_logprobs/")],
    *[("teacher", "GET", path) for path in ("/v1/models", "/v1/models/{name}", "/health")],
    *[("rollout", "POST", path) for path in ("/v1/completions", CHATS)],
    *[("rollout", "GET", path) for path in ("/v1/models", "/v1/models/{name}")],
    *[("rollout", method, path) for method, path in (("POST", "/v1/rollouts"), ("GET", "/v1/policy"))],
    *[("verifier", method, path) for method, path in (("POST", "/v1/verify"), ("GET", "/v1/info"))],
    *[
        (name, "GET", path)
        for name in ("teacher", "rollout", "verifier")
        for path in ("/healthz", "/readyz", "/metrics")
    ],
    *[
        (name, method, path)
        for name in ("teacher", "rollout", "verifier")
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("GET", "/v1/jobs/{job_id}"),
            ("DELETE", "/v1/jobs/{job_id}"),
            ("GET", "/v1/jobs/{job_id}/result"),
        )
    ],
    *[(name, "POST", path) for name in ("teacher", "rollout") for path in ("/v1/tokenize", "/v1/detokenize")],
]

quick = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def operation(http: httpx.Client, service: str, method: str, path: str) -> Any:
    document = http.get(f"/{service}/openapi.json").raise_for_status().json()
    return schemathesis.openapi.from_dict(document)[path][method]


def test_every_operation_is_in_the_list(http: httpx.Client) -> None:
    found = {
        (service, method.upper(), path)
        for service in ("teacher", "rollout", "verifier")
        for path, methods in http.get(f"/{service}/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert found == set(OPERATIONS)


def names_no_length(body: Any) -> bool:
    """Of a chat, or one that is as long."""
    return all((body.get(name) or 100) >= 100 for name in ("max_tokens", "max_completion_tokens"))


VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@pytest.mark.parametrize(
    ("service", "method", "path", "mode"),
    [
        *[(*operation, VALID) for operation in OPERATIONS],
        # The others take nothing that could be wrong.
        *[(*operation, INVALID) for operation in OPERATIONS if operation[1] == "POST"],
    ],
)
def test_no_request_breaks_a_service(
    http: httpx.Client, service: str, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    asked = operation(http, service, method, path)
    long_chats = 0

    @quick
    @given(case=asked.as_strategy(mode))
    def check(case: schemathesis.Case) -> None:
        nonlocal long_chats
        if path == CHATS and mode is VALID and names_no_length(case.body):
            long_chats += 1
            if long_chats > LONG_CHATS:
                case.body |= {"max_tokens": 16, "max_completion_tokens": 16}
        answer = case.call_and_validate(
            base_url=f"{http.base_url}/{service}", checks=[not_a_server_error], timeout=LIMIT_S
        )
        if (method, path, answer.status_code) == ("POST", "/v1/jobs", 202):
            # Nobody fetches it, and others of these tests want the engine.
            http.delete(f"/{service}/v1/jobs/{answer.json()['id']}").raise_for_status()

    check()


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
