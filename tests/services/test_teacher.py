"""The teacher service with real Ray, real engines and real HTTP."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from ray import serve
from scoring_cases import TOLERANCE, PlainForward, fingerprint, mixed_pairs, sequences

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.made_with import made_with_of
from services.clients.teachers.handle import HandleTeacher
from services.teacher.service import build
from services.teacher.settings import TeacherArgs, TeacherLimits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONGEST = 256
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def plain(tiny_model: Any) -> PlainForward:
    return PlainForward(tiny_model.path)


@pytest.fixture(scope="module")
def start(ray_cluster: None, tiny_model: Any) -> Iterator[Callable[[str], Any]]:
    """Starts the service with an engine, once."""
    handles: dict[str, Any] = {}

    def started(engine: str) -> Any:
        if engine not in handles:
            args = TeacherArgs(
                model=str(tiny_model.path),
                served_name="tiny",
                engine=engine,
                max_model_len=LONGEST,
                # Several batches for the requests below.
                max_tokens_per_batch=512,
                kv_cache_memory_gib=0.05,
                num_cpus=0.1,
                limits=TeacherLimits(
                    max_sequences_per_request=500, max_tokens_per_request=20_000, max_body_bytes=200_000
                ),
            )
            name = f"teacher-{engine}"
            handles[engine] = serve.run(build(args), name=name, route_prefix=f"/{name}")
        return handles[engine]

    yield started
    for engine in handles:
        serve.delete(f"teacher-{engine}")


@pytest.fixture(params=["torch", "vllm"], scope="module")
def teacher(request: pytest.FixtureRequest, start: Callable[[str], Any]) -> Any:
    return start(request.param)


@pytest.fixture(scope="module")
def http(start: Callable[[str], Any], serve_url: str) -> Iterator[httpx.Client]:
    start("torch")
    with httpx.Client(base_url=f"{serve_url}/teacher-torch", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def torch_teacher(start: Callable[[str], Any]) -> Any:
    return start("torch")


def test_logprobs_equal_a_plain_forward(teacher: Any, tiny_model: Any, plain: PlainForward) -> None:
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST))
    scores = teacher.score.remote(table).result(timeout_s=120)
    assert plain.largest_difference(table, scores) < TOLERANCE


def test_concurrent_calls_get_their_own_answers(teacher: Any, tiny_model: Any, plain: PlainForward) -> None:
    tables = [
        sequences(
            tiny_model.path,
            mixed_pairs(tiny_model.vocab_size, LONGEST, seed)[:6],
            [f"{seed}/{i}" for i in range(6)],
        )
        for seed in range(12)
    ]
    answers = [call.result(timeout_s=120) for call in [teacher.score.remote(table) for table in tables]]
    for table, scores in zip(tables, answers, strict=True):
        assert plain.largest_difference(table, scores) < TOLERANCE


def test_alone_or_in_a_batch_the_numbers_are_the_same(teacher: Any, tiny_model: Any) -> None:
    pairs = mixed_pairs(tiny_model.vocab_size, LONGEST, seed=3)
    together = teacher.score.remote(sequences(tiny_model.path, pairs)).result(timeout_s=120)
    for pair, expected in zip(pairs[::4], together["teacher_logprobs"].to_pylist()[::4], strict=True):
        alone = teacher.score.remote(sequences(tiny_model.path, [pair])).result(timeout_s=120)
        np.testing.assert_allclose(alone["teacher_logprobs"][0].as_py(), expected, atol=TOLERANCE, rtol=0)


def test_completions_tell_what_a_plain_forward_does(
    teacher: Any, serve_url: str, plain: PlainForward, request: pytest.FixtureRequest
) -> None:
    """OpenAI's form, of either engine; the other forms of it are in test_openai_scoring.py."""
    engine = request.node.callspec.params["teacher"]
    prompts = [[5, 9, 200, 31, 7], [44], [60, 61, 62]]
    fields = {"prompt": prompts, "echo": True, "logprobs": 3, "prompt_logprobs": 2, "max_tokens": 1}
    answer = httpx.post(f"{serve_url}/teacher-{engine}/v1/completions", json=fields, timeout=60)
    for ids, choice in zip(prompts, answer.raise_for_status().json()["choices"], strict=True):
        everything = plain.distributions(ids[:1], [*ids[1:], 0])
        whole = [*ids, int(everything[-1].argmax())]
        told = choice["logprobs"]
        expected = [float(row[token]) for row, token in zip(everything, whole[1:], strict=True)]
        np.testing.assert_allclose(told["token_logprobs"][1:], expected, atol=TOLERANCE, rtol=0)
        assert choice["text"] == " ".join(f"w{token}" for token in whole)
        for row, token, entry, top in zip(
            everything, ids[1:], choice["prompt_logprobs"][1:], told["top_logprobs"][1:], strict=False
        ):
            assert entry[str(token)]["rank"] == int((row >= row[token]).sum())
            likeliest = sorted(entry, key=lambda name: entry[name]["rank"])[:2]
            assert [int(name) for name in likeliest] == row.topk(2).indices.tolist()
            highest = sorted(top.values(), reverse=True)[:3]
            np.testing.assert_allclose(highest, row.topk(3).values, atol=TOLERANCE, rtol=0)
            assert top[f" w{token}"] == entry[str(token)]["logprob"]


def test_an_empty_table_has_empty_scores(torch_teacher: Any, tiny_model: Any) -> None:
    scores = torch_teacher.score.remote(sequences(tiny_model.path, [])).result(timeout_s=60)
    schema.validate(scores, schema.TEACHER_SCORES)
    assert scores.num_rows == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (([1, 2], [3, 320]), r"sequence 'bad': .*token 1 is 320; the vocabulary has ids 0..319"),
        (([-1], [3]), r"sequence 'bad': .*token 0 is -1"),
        (([1], []), r"sequences\[1\]\.response_token_ids: sequence 'bad': is empty"),
        (([], [1]), r"sequences\[1\]\.prompt_token_ids: sequence 'bad': is empty"),
        (([1] * 200, [2] * 57), r"sequence 'bad': prompt and response have 257 tokens .* takes 256"),
    ],
)
def test_a_sequence_that_cannot_be_scored_is_named(
    torch_teacher: Any, tiny_model: Any, bad: tuple[list[int], list[int]], message: str
) -> None:
    table = sequences(tiny_model.path, [([1], [2]), bad, ([1], [3])], ids=["a", "bad", "c"])
    with pytest.raises(InvalidRequestError, match=message):
        torch_teacher.score.remote(table).result(timeout_s=60)


def test_another_tokenizer_is_refused(torch_teacher: Any, tiny_model: Any) -> None:
    table = sequences(tiny_model.path, [([1], [2])])
    table = table.replace_schema_metadata({**table.schema.metadata, b"rlad.tokenizer": b"sha256:other"})
    with pytest.raises(InvalidRequestError, match="made with tokenizer sha256:other"):
        torch_teacher.score.remote(table).result(timeout_s=60)


def test_requests_over_a_limit_say_how_much(torch_teacher: Any, tiny_model: Any) -> None:
    with pytest.raises(LimitError, match="501 sequences in one request; at most 500"):
        torch_teacher.score.remote(sequences(tiny_model.path, [([1], [2])] * 501)).result(timeout_s=60)
    many = [([1] * 128, [2] * 128)] * 100
    with pytest.raises(LimitError, match="25600 tokens in one request; at most 20000"):
        torch_teacher.score.remote(sequences(tiny_model.path, many)).result(timeout_s=60)
    few = sequences(tiny_model.path, [([1] * 128, [2] * 128)] * 8)
    with pytest.raises(LimitError, match="2048 tokens and 20480 numbers to tell of them in one request"):
        torch_teacher.score.remote(few, Details(top_k=20)).result(timeout_s=60)


def test_json_has_the_same_numbers(http: httpx.Client, tiny_model: Any, plain: PlainForward) -> None:
    pairs = mixed_pairs(tiny_model.vocab_size, LONGEST, seed=5)
    # Duplicates are answered like everybody else, and ids may be left out.
    pairs = [*pairs, pairs[0], pairs[3]]
    asked = [{"prompt_token_ids": p, "response_token_ids": r} for p, r in pairs]
    asked[1]["id"] = "mine"
    answer = http.post("/v1/score", json={"model": "tiny", "sequences": asked}).raise_for_status().json()
    assert answer["model"] == "tiny"
    assert answer["policy_version"] is None
    assert [r["id"] for r in answer["results"]] == ["0", "mine", *map(str, range(2, len(pairs)))]
    for (prompt, response), result in zip(pairs, answer["results"], strict=True):
        expected = plain.logprobs(prompt, response)
        np.testing.assert_allclose(result["logprobs"], expected, atol=TOLERANCE, rtol=0)
        assert result["logprob_sum"] == pytest.approx(sum(result["logprobs"]), abs=1e-3)
        assert result["token_count"] == len(response)
    assert answer["usage"] == {
        "sequences": len(pairs),
        "prompt_tokens": sum(len(p) for p, _ in pairs),
        "scored_tokens": sum(len(r) for _, r in pairs),
    }


def test_arrow_over_http_is_what_the_handle_says(
    http: httpx.Client, torch_teacher: Any, tiny_model: Any
) -> None:
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST, seed=6))
    reply = http.post("/v1/score", content=schema.to_ipc(table), headers={"content-type": ARROW})
    assert reply.headers["content-type"] == ARROW
    scores = schema.from_ipc(reply.raise_for_status().content)
    expected = torch_teacher.score.remote(table).result(timeout_s=60)
    assert scores["sequence_id"].equals(expected["sequence_id"])
    for got, wanted in zip(*(t["teacher_logprobs"].to_pylist() for t in (scores, expected)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=TOLERANCE, rtol=0)
    as_json = http.post(
        "/v1/score",
        content=schema.to_ipc(table),
        headers={"content-type": ARROW, "accept": "application/json"},
    )
    assert len(as_json.json()["results"]) == table.num_rows


_GOOD = {"prompt_token_ids": [1, 2], "response_token_ids": [3]}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("{not json", 400, "Invalid JSON"),
        ({"sequences": []}, 422, "sequences"),
        ({"sequences": [_GOOD, {**_GOOD, "response_token_ids": []}]}, 422, "sequences[1].response_token_ids"),
        ({"sequences": [{**_GOOD, "prompt_token_ids": [1, "x"]}]}, 422, "sequences[0].prompt_token_ids[1]"),
        ({"sequences": [{**_GOOD, "response": "text"}]}, 422, "sequences[0]: give one of"),
        ({"sequences": [{**_GOOD, "respons": "text"}]}, 422, "unknown field `respons`"),
        (
            {"sequences": [{**_GOOD, "id": "z", "response_token_ids": [400]}]},
            422,
            "response_token_ids[0]: 400 is",
        ),
        ({"sequences": [{**_GOOD, "id": "z"}, {**_GOOD, "id": "z"}]}, 422, "'z' occurs twice"),
        ({"end_token_ids": [1, 1], "sequences": [_GOOD]}, 422, "end_token_ids: an id is there twice"),
        ({"end_token_ids": [1, 320], "sequences": [_GOOD]}, 422, "end_token_ids: 320 is no token"),
        ({"end_token_ids": [*range(65)], "sequences": [_GOOD]}, 422, "end_token_ids: 65 ids, and 64 are"),
        ({"model": "other", "sequences": [_GOOD]}, 404, "model 'other' is not served here; this is 'tiny'"),
        ({"sequences": [_GOOD] * 501}, 413, "501 sequences in one request; at most 500"),
        ({"sequences": [{**_GOOD, "prompt_token_ids": [1] * 100_000}]}, 413, "more than 200000 bytes"),
    ],
)
def test_http_errors_are_problems(http: httpx.Client, body: Any, status: int, detail: str) -> None:
    sent = {"content": body} if isinstance(body, str) else {"json": body}
    reply = http.post("/v1/score", **sent)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert detail in problem["detail"]


def test_unreadable_arrow_and_other_media_are_problems(http: httpx.Client, tiny_model: Any) -> None:
    whole = schema.to_ipc(sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST)))
    for body in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-8]):
        reply = http.post("/v1/score", content=body, headers={"content-type": ARROW})
        assert (reply.status_code, reply.json()["status"]) == (400, 400)
    wrong = schema.build(
        schema.TEACHER_SCORES,
        {"sequence_id": ["a"], "teacher_logprobs": [[-1.0]]},
        tokenizer_fingerprint=fingerprint(tiny_model.path),
    )
    reply = http.post("/v1/score", content=schema.to_ipc(wrong), headers={"content-type": ARROW})
    assert reply.status_code == 422
    assert "labelled 'teacher_scores'" in reply.json()["detail"]
    assert http.post("/v1/score", content=b"x", headers={"content-type": "text/csv"}).status_code == 415
    assert http.get("/v1/nothing").headers["content-type"] == "application/problem+json"


def test_info_health_and_documents(http: httpx.Client, tiny_model: Any) -> None:
    info = http.get("/v1/info").json()
    assert (info["model"], info["engine"], info["max_model_len"]) == ("tiny", "torch", LONGEST)
    assert info["vocab_size"] == tiny_model.vocab_size
    assert info["tokenizer_fingerprint"] == fingerprint(tiny_model.path)
    assert info["limits"]["max_tokens_per_request"] == 20_000
    assert http.get("/healthz").json() == {"status": "up"}
    assert http.get("/readyz").json() == {"status": "ready"}
    paths = http.get("/openapi.json").json()["paths"]
    assert ARROW in paths["/v1/score"]["post"]["requestBody"]["content"]
    assert {"/v1/score", "/v1/info", "/healthz", "/readyz"} <= set(paths)


def test_what_older_clients_ask_is_found_with_and_without_a_last_slash(http: httpx.Client) -> None:
    for slash in ("", "/"):
        assert http.get(f"/health{slash}").json() == {"status": "up"}
        assert http.post(f"/get_sequence_logprobs{slash}", json={}).status_code == 422
    assert http.post("/v1/score/", json={"sequences": [_GOOD]}).status_code == 404


@pytest.mark.parametrize("path", ["/-/routes", "/teacher-torch/v1/score"])
def test_serve_is_asked_for_no_web_socket(http: httpx.Client, path: str) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert httpx.get(http.base_url.join(path), headers=upgrade).status_code == 403


def test_the_handle_client_scores_and_passes_errors_on(
    torch_teacher: Any, tiny_model: Any, plain: PlainForward
) -> None:
    client = HandleTeacher(torch_teacher, "rlad:kk-teacher", timeout_s=60)
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST, seed=8))
    assert plain.largest_difference(table, asyncio.run(client.score(table))) < TOLERANCE
    with pytest.raises(InvalidRequestError, match="sequence 's0'"):
        asyncio.run(client.score(sequences(tiny_model.path, [([1], [999])])))


def test_the_handle_client_names_what_it_waited_for(torch_teacher: Any, tiny_model: Any) -> None:
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST, seed=9))
    with pytest.raises(TimeoutError, match=r"waited 0.001 s for the teacher's log-probs of 19 sequences"):
        asyncio.run(HandleTeacher(torch_teacher, "rlad:kk-teacher", timeout_s=0.001).score(table))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_model_len": 1000, "max_tokens_per_batch": 512}, "a sequence is never split"),
        ({"tensor_parallel_size": 2, "num_gpus": 2}, "needs engine: vllm"),
        ({"engine": "vllm", "tensor_parallel_size": 2, "num_gpus": 1}, "write the same number"),
        ({"max_token_per_batch": 512}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeacherArgs(**{"model": "m", **settings})


def test_cases_are_mixed() -> None:
    """The lengths that the comparisons above rest on."""
    lengths = [len(p) + len(r) for p, r in mixed_pairs(320, LONGEST)]
    assert (min(lengths), max(lengths)) == (2, LONGEST)
    prompts = sorted(p for p, _ in mixed_pairs(320, LONGEST))
    assert max(len(list(group)) for _, group in itertools.groupby(prompts)) == 5


def test_scores_say_what_they_were_made_with_and_can_be_made_another_way(
    teacher: Any, tiny_model: Any, plain: PlainForward
) -> None:
    table = sequences(tiny_model.path, mixed_pairs(tiny_model.vocab_size, LONGEST, seed=8)[:6])
    usual = teacher.score.remote(table).result(timeout_s=120)
    again = teacher.score.remote(table, Details(plain=True)).result(timeout_s=120)
    assert plain.largest_difference(table, again) < TOLERANCE
    # The second has hashed the weights anew.
    made_with = made_with_of(usual)
    assert made_with is not None
    assert made_with == made_with_of(again)
    assert (made_with.temperature, made_with.dtype) == (1.0, "float32")
    assert made_with.tokenizer == fingerprint(tiny_model.path)
    assert made_with.weights.startswith("sums:")


def test_over_http_they_say_it_too(http: httpx.Client) -> None:
    told = http.get("/v1/info").json()
    asked = {"plain": True, "sequences": [_GOOD]}
    answer = http.post("/v1/score", json=asked).raise_for_status().json()
    usual = http.post("/v1/score", json={"sequences": [_GOOD]}).raise_for_status().json()
    assert answer["made_with"] == usual["made_with"] == told["made_with"]
    assert "plain" in told["details"]
    np.testing.assert_allclose(
        answer["results"][0]["logprobs"], usual["results"][0]["logprobs"], atol=TOLERANCE, rtol=0
    )
    refused = http.post("/v1/score", json={**asked, "top_k": 2})
    assert (refused.status_code, "top_k: is not told with plain" in refused.text) == (422, True)
