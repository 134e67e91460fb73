"""The services as the files in deploy/serve deploy them, with the models that ship, used over HTTP."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from ray.serve.schema import ServeDeploySchema
from scoring_cases import TOLERANCE, PlainForward
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core import schema
from rlad_core.client.details import hidden_states
from rlad_core.client.teacher import TeacherClient
from rlad_core.config import resolve_model
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from services.cli.service_settings import SERVICES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FILES = Path(__file__).parents[2] / "deploy" / "serve"
ARROW = "application/vnd.apache.arrow.stream"
TEACHER, STUDENT = resolve_model("rlad:kk-teacher"), resolve_model("rlad:kk-student")
CHAT = [{"role": "user", "content": "Mia is a knight."}]


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FILES / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["teacher", "rollout", "verifier", "all"])
def test_serve_takes_the_files(name: str) -> None:
    config = ServeDeploySchema.model_validate(read(name))
    for app in config.applications:
        args = SERVICES[app.name].args.model_validate(app.args)
        assert args.autoscaling is not None
        assert config.http_options.host == "127.0.0.1"
        # The service's own limit comes before the proxy's, which knows no problem+json.
        limit_s = getattr(args, "timeout_s", None) or args.limits.timeout_s
        assert config.http_options.request_timeout_s > limit_s


def test_the_file_for_all_is_the_three_together() -> None:
    apart = [read(name)["applications"][0] for name in ("teacher", "rollout", "verifier")]
    assert read("all")["applications"] == [{**app, "route_prefix": f"/{app['name']}"} for app in apart]


def test_every_service_documents_itself(http: httpx.Client) -> None:
    for name, path in (("teacher", "/v1/score"), ("rollout", "/v1/rollouts"), ("verifier", "/v1/verify")):
        document = http.get(f"/{name}/openapi.json").raise_for_status().json()
        post = document["paths"][path]["post"]
        body = post["requestBody"]["content"]
        assert "example" in body["application/json"]["schema"]
        assert ARROW in body
        assert {"401", "413", "422", "429", "503", "504"} <= set(post["responses"])
        assert http.get(f"/{name}/docs").status_code == 200
        assert http.get(f"/{name}/healthz").json() == {"status": "up"}
        assert http.get(f"/{name}/readyz").json() == {"status": "ready"}


def test_the_requests_that_rlad_serve_prints_work(http: httpx.Client) -> None:
    for name, service in SERVICES.items():
        path, body = service.try_it
        http.post(f"/{name}{path}", content=body).raise_for_status()


def test_request_ids_are_echoed(http: httpx.Client) -> None:
    assert http.get("/teacher/v1/info", headers={"X-Request-ID": "r-1"}).headers["x-request-id"] == "r-1"
    assert http.get("/teacher/v1/info").headers["x-request-id"]


# Teacher


def test_text_is_tokenized_by_the_service(http: httpx.Client) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    reply = "<think> </think><|im_end|>"
    rows = [{"messages": CHAT, "response": reply}, {"prompt": "Mia is a knight.", "response": " Mia"}]
    results = http.post("/teacher/v1/score", json={"sequences": rows}).raise_for_status().json()["results"]
    chat = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    for result, (prompt, response) in zip(
        results, ((chat, reply), ("Mia is a knight.", " Mia")), strict=True
    ):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response)]
        assert [result["prompt_token_ids"], result["response_token_ids"]] == ids
        expected = PlainForward(Path(TEACHER)).logprobs(*ids)
        np.testing.assert_allclose(result["logprobs"], expected, atol=TOLERANCE, rtol=0)


def test_details_are_those_of_the_whole_distribution(http: httpx.Client) -> None:
    prompt, response, k = [10, 11, 12], [13, 14, 15, 16], 5
    asked = {
        "top_k": k,
        "entropy": True,
        "end_token_ids": [0, 1],
        "sequences": [{"prompt_token_ids": prompt, "response_token_ids": response}],
    }
    [result] = http.post("/teacher/v1/score", json=asked).raise_for_status().json()["results"]
    rows = PlainForward(Path(TEACHER)).distributions(prompt, response)
    entropy = -(rows.exp() * rows).sum(-1)
    np.testing.assert_allclose(result["entropy"], entropy.numpy(), atol=TOLERANCE)
    ends = rows[:, :2].logsumexp(-1)
    np.testing.assert_allclose(result["end_logprobs"], ends.numpy(), atol=TOLERANCE)
    values, ids = rows.topk(k)
    for place, told in enumerate(result["top"]):
        assert len(told) == k
        np.testing.assert_allclose([t["logprob"] for t in told], values[place].numpy(), atol=TOLERANCE)
        for entry in told:
            assert entry["logprob"] == pytest.approx(float(rows[place, entry["token_id"]]), abs=TOLERANCE)
    assert [told[0]["token_id"] for told in result["top"]] == ids[:, 0].tolist()


def expected_named(
    plain: PlainForward, prompt: list[int], response: list[int], ids: list[list[int]]
) -> list[float]:
    rows = plain.distributions(prompt, response)
    return [float(rows[place, each]) for place, named in enumerate(ids) for each in named]


def test_named_tokens_and_hidden_states_in_json(http: httpx.Client) -> None:
    prompt, response, ids = [10, 11, 12], [13, 14], [[1, 2, 3], [4, 5, 6]]
    row = {"prompt_token_ids": prompt, "response_token_ids": response}
    asked = {"details": "hidden", "sequences": [{**row, "named_token_ids": ids}]}
    [result] = http.post("/teacher/v1/score", json=asked).raise_for_status().json()["results"]
    plain = PlainForward(Path(TEACHER))
    expected = expected_named(plain, prompt, response, ids)
    np.testing.assert_allclose(np.ravel(result["named_logprobs"]), expected, atol=TOLERANCE, rtol=0)
    states = np.array(result["hidden_states"])
    assert states.shape == (2, http.get("/teacher/v1/info").json()["hidden_size"])
    [rounded] = http.post(
        "/teacher/v1/score", json={"details": ["hidden"], "hidden_dtype": "bfloat16", "sequences": [row]}
    ).json()["results"]
    np.testing.assert_allclose(rounded["hidden_states"], states, rtol=2**-8)
    for wrong, words in (
        ([[1, 2, 3]], "names tokens for 1 places, and the response has 2"),
        ([[1, 2], [3]], "names more tokens for one place than for another"),
        ([[1], [99_999]], "named_token_ids[1][0]: 99999 is no token"),
        ([[1] * 129] * 2, "named_token_ids[0]: has 129 tokens, and 128 are the most"),
    ):
        answer = http.post("/teacher/v1/score", json={"sequences": [{**row, "named_token_ids": wrong}]})
        assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text
    answer = http.post("/teacher/v1/score", json={"details": "moods", "sequences": [row]})
    assert answer.status_code == 422


def test_the_published_client_scores(http: httpx.Client) -> None:
    with TeacherClient(f"{http.base_url}/teacher") as teacher:
        info = teacher.info()
        pairs = [([10 + i, 11], [12] * (i + 1)) for i in range(20)]
        plain = PlainForward(Path(TEACHER))
        for (prompt, response), logprobs in zip(pairs, teacher.score_tokens(pairs), strict=True):
            np.testing.assert_allclose(logprobs, plain.logprobs(prompt, response), atol=TOLERANCE, rtol=0)
        [score] = teacher.score_texts([(CHAT, " Mia")])
        assert score.token_count == 1
        table = schema.build(
            schema.SEQUENCES,
            {"sequence_id": ["b", "a"], "prompt_token_ids": [[5], [6]], "response_token_ids": [[7], [8, 9]]},
            tokenizer_fingerprint=info.tokenizer_fingerprint,
        )
        ends = teacher.score(table, end_token_ids=[0, 1])
        schema.validate(ends, schema.TEACHER_SCORES)
        expected = plain.distributions([6], [8, 9])[:, :2].logsumexp(-1)
        np.testing.assert_allclose(
            ends["teacher_end_logprobs"][1].as_py(), expected.numpy(), atol=TOLERANCE, rtol=0
        )
        details = teacher.score(table, top_k=3, entropy=True)
        schema.validate(details, schema.TEACHER_DETAILS)
        assert details["sequence_id"].to_pylist() == ["b", "a"]
        assert schema.lengths(details["top_token_ids"]).tolist() == [3, 6]
        named = schema.build(
            schema.NAMED_SEQUENCES,
            {**table.to_pydict(), "named_token_ids": [[3, 4], [5, 6, 7, 8]]},
            tokenizer_fingerprint=info.tokenizer_fingerprint,
        )
        told = teacher.score(named)
        by_place = expected_named(plain, [6], [8, 9], [[5, 6], [7, 8]])
        np.testing.assert_allclose(told["named_logprobs"][1].as_py(), by_place, atol=TOLERANCE, rtol=0)
        # Whoever holds the head makes the whole distribution of them.
        head = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32).lm_head
        tokens = plain.distributions([6], [8, 9]).shape[1]
        for dtype, tolerance in (("float32", TOLERANCE), ("bfloat16", 0.1)):
            states = hidden_states(teacher.score(table, hidden=dtype), 1)
            assert states.shape == (2, info.hidden_size)
            made = head(torch.from_numpy(states.copy())).detach()[:, :tokens].log_softmax(-1)
            np.testing.assert_allclose(
                made.numpy(), plain.distributions([6], [8, 9]).numpy(), atol=tolerance, rtol=0
            )
        assert set(info.details) == {
            "top_k", "entropy", "end_token_ids", "named_token_ids", "hidden", "plain"
        }  # fmt: skip
        assert teacher.tokenizer().vocabulary == AutoTokenizer.from_pretrained(TEACHER).get_vocab()


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"response": "x"}, "give one of prompt_token_ids, prompt, messages, prompt_id, not none"),
        ({"prompt": "Mia", "messages": CHAT, "response": "x"}, "not prompt and messages"),
        ({"prompt": "Mia"}, "give one of response_token_ids, response, not none"),
        ({"messages": [{"role": "user"}], "response": "x"}, "sequences[0].messages[0].content"),
    ],
)
def test_unclear_sequences_are_refused(http: httpx.Client, row: dict[str, Any], detail: str) -> None:
    reply = http.post("/teacher/v1/score", json={"sequences": [row]})
    assert reply.status_code == 422
    assert detail in reply.json()["detail"]


def test_too_large_a_top_k_is_refused(http: httpx.Client) -> None:
    asked = {"top_k": 129, "sequences": [{"prompt_token_ids": [5], "response_token_ids": [6]}]}
    reply = http.post("/teacher/v1/score", json=asked)
    assert (reply.status_code, "top_k: 129 is over 128" in reply.json()["detail"]) == (422, True)


# Rollouts


def test_rollouts_come_with_the_policys_logprobs(http: httpx.Client) -> None:
    asked = {
        "prompts": [{"id": "a", "messages": CHAT}, {"prompt_token_ids": [5, 6, 7]}],
        "sampling": {"group_size": 3, "max_tokens": 12, "seed": 7},
    }
    answer = http.post("/rollout/v1/rollouts", json=asked).raise_for_status().json()
    assert [r["id"] for r in answer["results"]] == ["a"] * 3 + ["1"] * 3
    assert [r["sample_index"] for r in answer["results"]] == [0, 1, 2] * 2
    assert answer["policy_version"] == 0
    plain = PlainForward(Path(STUDENT))
    for result in answer["results"][3:]:
        expected = plain.logprobs([5, 6, 7], result["token_ids"])
        np.testing.assert_allclose(result["logprobs"], expected, atol=TOLERANCE, rtol=0)
        assert result["policy_versions"] == [0] * len(result["token_ids"])
    again = http.post("/rollout/v1/rollouts", json=asked).raise_for_status().json()
    assert [r["token_ids"] for r in again["results"]] == [r["token_ids"] for r in answer["results"]]


def test_rollouts_in_arrow(http: httpx.Client) -> None:
    fingerprint = http.get("/rollout/v1/policy").json()["tokenizer_fingerprint"]
    prompts = schema.build(
        schema.PROMPTS,
        [
            {
                "prompt_id": "p",
                "task": "t",
                "subset": "s",
                "prompt": "",
                "prompt_token_ids": [5, 6],
                "gold": "{}",
            }
        ],
        tokenizer_fingerprint=fingerprint,
    )
    reply = http.post(
        "/rollout/v1/rollouts?group_size=2&max_tokens=4",
        content=schema.to_ipc(prompts),
        headers={"content-type": ARROW},
    )
    rollouts = schema.from_ipc(reply.raise_for_status().content)
    schema.validate(rollouts, schema.ROLLOUTS)
    assert rollouts["prompt_id"].to_pylist() == ["p", "p"]
    refused = http.post(
        "/rollout/v1/rollouts?group_size=2", content=schema.to_ipc(prompts), headers={"content-type": ARROW}
    )
    assert (refused.status_code, "max_tokens" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"prompts": [], "sampling": {"group_size": 2, "max_tokens": 4}}, 422, "prompts"),
        ({"prompts": [{"prompt": "Mia"}], "sampling": {"group_size": 2}}, 422, "sampling.max_tokens"),
        (
            {
                "prompts": [{"prompt": "Mia"}],
                "sampling": {"group_size": 2, "max_tokens": 4, "temperature": 0.5},
            },
            422,
            "training",
        ),
        (
            {"prompts": [{"prompt_token_ids": [99999]}], "sampling": {"group_size": 2, "max_tokens": 4}},
            422,
            "prompts[0].prompt_token_ids[0]: 99999 is no token",
        ),
        (
            {"prompts": [{"prompt_token_ids": [5] * 1024}], "sampling": {"group_size": 2, "max_tokens": 4}},
            422,
            "leaves none",
        ),
        (
            {"prompts": [{"prompt": "Mia"}], "sampling": {"group_size": 9999, "max_tokens": 4}},
            413,
            "9999 responses in one request; at most 4096",
        ),
    ],
)
def test_impossible_rollouts_are_refused(http: httpx.Client, body: Any, status: int, detail: str) -> None:
    reply = http.post("/rollout/v1/rollouts", json=body)
    assert reply.status_code == status
    assert detail in reply.json()["detail"]


def test_weight_updates_are_not_on_http(http: httpx.Client) -> None:
    paths = http.get("/rollout/openapi.json").json()["paths"]
    assert set(paths) >= {"/v1/rollouts", "/v1/policy", "/healthz", "/readyz", "/metrics"}


# Verification


def test_verdicts_say_why(http: httpx.Client) -> None:
    knights = KnightsKnaves()
    [prompt] = knights.prompts("train", "2_people", 1, 0)
    right = knights.demonstration(prompt.gold)
    rows = [
        {"id": "right", "response": right},
        {"id": "tag", "response": right.replace("</think>", "")},
        {"id": "math", "task": "math", "gold": {"answer": "5"}, "response": "So \\boxed{5} or \\boxed{6}."},
    ]
    asked = {"task": "knights_knaves", "gold": json.loads(prompt.gold), "responses": rows}
    results = http.post("/verifier/v1/verify", json=asked).raise_for_status().json()["results"]
    assert [(r["id"], r["correct"]) for r in results] == [("right", True), ("tag", False), ("math", False)]
    assert results[0]["reward"] == pytest.approx(sum(results[0]["reward_parts"].values()))
    assert "think" in results[1]["verdict"]


def test_verification_in_arrow(http: httpx.Client) -> None:
    table = schema.build(
        schema.RESPONSES,
        {"sequence_id": ["a"], "task": ["math"], "response": ["\\boxed{5}"], "gold": ['{"answer": "5"}']},
    )
    reply = http.post("/verifier/v1/verify", content=schema.to_ipc(table), headers={"content-type": ARROW})
    rewards = schema.from_ipc(reply.raise_for_status().content)
    schema.validate(rewards, schema.REWARDS)
    assert rewards["correct"].to_pylist() == [True]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ('{"responses": [', 400, "Invalid JSON"),
        ({"responses": []}, 422, "responses"),
        ({"responses": [{"response": "x"}]}, 422, "responses[0].task: missing"),
        (
            {"task": "chess", "gold": "{}", "responses": [{"response": "x"}]},
            404,
            "task 'chess' is not judged",
        ),
        ({"task": "math", "gold": "odd", "responses": [{"response": "x"}]}, 422, "gold is at fault"),
    ],
)
def test_unclear_responses_are_refused(http: httpx.Client, body: Any, status: int, detail: str) -> None:
    sent = {"content": body} if isinstance(body, str) else {"json": body}
    reply = http.post("/verifier/v1/verify", **sent)
    assert reply.status_code == status
    assert detail in reply.json()["detail"]
