"""What is wrong with a request is told with its place, in `errors` and in the detail."""

import asyncio
import pickle
from typing import Annotated, Any

import httpx
import orjson
import pyarrow as pa
import pytest
from fastapi import Query
from small_tokenizer import TOKENIZER
from starlette.testclient import TestClient

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import InvalidRequestError
from rlad_core.client.forms import TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.schema.labels import NAME_KEY, VERSION_KEY
from rlad_core.tasks.base import Task
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from services.rollout.http import read_request as read_rollouts
from services.rollout.tables import check_prompts
from services.serve.http.bodies import Body
from services.serve.http.gate import service_app
from services.serve.http.problems import ProblemDetails, ProblemError, as_problem
from services.serve.http.streams import InBatches
from services.serve.http.texts import Reader
from services.teacher.forms import DetailsQuery
from services.teacher.reading import read_request as read_scores
from services.teacher.scoring.interface import ScoringEngine
from services.teacher.scoring.tables import check_details, check_sequences
from services.verifier.http import read_request as read_responses
from services.verifier.settings import VerifierLimits

READER = Reader.of(TOKENIZER, 64, vocab_size=100)
TASKS: dict[str, Task | None] = {"knights_knaves": KnightsKnaves(), "my_task": None}
ROW = {"prompt_token_ids": [1, 2], "response_token_ids": [3]}


def teacher(**request: Any) -> None:
    body = Body(orjson.dumps(request), "json", "json")
    read_scores(body, DetailsQuery(), READER, "sha256:mine", TeacherLimits())


def rollouts(**request: Any) -> None:
    body = Body(orjson.dumps({"sampling": {"group_size": 1, "max_tokens": 1}, **request}), "json", "json")
    read_rollouts(body, {}, READER, "sha256:mine", RolloutLimits())


def verifier(**request: Any) -> None:
    read_responses(Body(orjson.dumps({"gold": "1", **request}), "json", "json"), TASKS, VerifierLimits())


def prompted(**request: Any) -> None:
    read_responses(Body(orjson.dumps(request), "json", "json"), TASKS, VerifierLimits())


@pytest.mark.parametrize(
    ("ask", "request_", "path", "what"),
    [
        (teacher, {"sequences": [ROW, {**ROW, "response_token_ids": [3, 100]}]},
         "sequences[1].response_token_ids[1]", "100 is no token; the vocabulary has ids 0..99"),
        (teacher, {"sequences": [{**ROW, "prompt_token_ids": [2**31 - 1]}]},
         "sequences[0].prompt_token_ids[0]", "is no token"),
        (teacher, {"sequences": [{**ROW, "named_token_ids": [[4, 100]]}]},
         "sequences[0].named_token_ids[0][1]", "100 is no token"),
        (teacher, {"prompts": [{"id": "p", "prompt_token_ids": [100]}], "sequences": [ROW]},
         "prompts[0].prompt_token_ids[0]", "100 is no token"),
        (teacher, {"sequences": [{**ROW, "id": "a"}, ROW, {**ROW, "id": "a"}]},
         "sequences[2].id", "'a' occurs twice"),
        (teacher, {"sequences": [{**ROW, "id": "1"}, ROW]}, "sequences[0].id", "'1' occurs twice"),
        (teacher, {"sequences": [ROW, {**ROW, "id": "0"}]}, "sequences[1].id", "'0' occurs twice"),
        (rollouts, {"prompts": [{"prompt_token_ids": [1]}, {"prompt_token_ids": [100]}]},
         "prompts[1].prompt_token_ids[0]", "100 is no token"),
        (rollouts, {"prompts": [{"id": "a", "prompt_token_ids": [1]}] * 2}, "prompts[1].id", "occurs twice"),
        (verifier, {"task": "my_task", "responses": [{"id": "a", "response": ""}] * 2},
         "responses[1].id", "'a' occurs twice"),
        (verifier, {"responses": [{"response": ""}]}, "responses[0].task", "missing"),
        (prompted, {"task": "my_task", "responses": [{"response": ""}]}, "responses[0].gold", "missing"),
        (prompted, {"task": "my_task", "prompt": "x", "responses": [{"response": ""}]},
         "prompt", "task 'my_task' is a user's own"),
        (prompted, {"task": "knights_knaves", "prompt": "no puzzle", "responses": [{"response": ""}]},
         "prompt", ""),
        (prompted, {"task": "knights_knaves", "responses": [{"response": "", "prompt": "no puzzle"}]},
         "responses[0].prompt", ""),
    ],
)  # fmt: skip
def test_a_request_in_json_is_told_where_it_is_wrong(
    ask: Any, request_: dict[str, Any], path: str, what: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        ask(**request_)
    problem = refused.value.problem
    assert problem.status == 422
    assert problem.errors
    assert (problem.errors[0].path, problem.detail) == (path, f"{path}: {problem.errors[0].message}")
    assert what in problem.errors[0].message


class Engine:
    """As far as details are asked of one."""

    tells = frozenset({"top_k", "end_token_ids", "plain"})
    vocab_size = 100


@pytest.mark.parametrize(
    ("details", "path"),
    [
        (Details(end_token_ids=(1, 1)), "end_token_ids"),
        (Details(end_token_ids=(1, 100)), "end_token_ids"),
        (Details(end_token_ids=tuple(range(65))), "end_token_ids"),
        (Details(top_k=101), "top_k"),
        (Details(top_k=200), "top_k"),
        (Details(entropy=True), "entropy"),
        (Details(top_k=1, plain=True), "top_k"),
    ],
)
def test_a_detail_that_is_not_told_is_named(details: Details, path: str) -> None:
    engine: ScoringEngine = Engine()  # type: ignore[assignment]
    with pytest.raises(InvalidRequestError) as refused:
        check_details(details, engine, "vllm", TeacherLimits())
    error = pickle.loads(pickle.dumps(refused.value))
    problem = ProblemDetails.model_validate(as_problem(error))
    assert problem.errors
    assert [fault.path for fault in problem.errors] == [path]
    assert problem.detail == str(error) == f"{path}: {problem.errors[0].message}"


def tokens(**changed: Any) -> pa.Table:
    """SEQUENCES of three rows, of which some columns are others."""
    columns: dict[str, Any] = {
        "sequence_id": ["a", "b", "c"],
        "prompt_token_ids": pa.array([[1], [2], [3]], pa.list_(pa.int32())),
        "response_token_ids": pa.array([[4], [5], [6, 7]], pa.list_(pa.int32())),
    }
    table = pa.table({name: each for name, each in (columns | changed).items() if each is not None})
    return table.replace_schema_metadata({NAME_KEY: "sequences", VERSION_KEY: str(schema.VERSION)})


def lists(*rows: Any) -> pa.Array:
    return pa.array(rows, pa.list_(pa.int32()))


@pytest.mark.parametrize(
    ("table", "path", "what"),
    [
        (tokens(response_token_ids=lists([4], [5], [6, 100])), "sequences[2].response_token_ids",
         "sequence 'c': token 1 is 100"),
        (tokens(response_token_ids=lists([4], [], [6])), "sequences[1].response_token_ids",
         "sequence 'b': is empty"),
        (tokens(response_token_ids=lists([4], [1, None], [6])), "sequences[1].response_token_ids",
         "token 1 is null"),
        (tokens(sequence_id=["a", "b", "a"]), "sequences[2].sequence_id", "'a' occurs a second time"),
        (tokens(response_token_ids=lists([4], [5] * 8, [6] * 8)), "sequences[1]",
         "sequence 'b': prompt and response have 9 tokens together"),
        (tokens(sequence_id=["a", None, "c"]), "sequences[1].sequence_id", "is null"),
        (tokens(prompt_token_ids=None), "prompt_token_ids", "missing"),
        (tokens(prompt_token_ids=["a", "b", "c"]), "prompt_token_ids", "has type string"),
        (tokens().replace_schema_metadata(None), "(body)", "carries no label"),
        (tokens(prompt_token_ids=lists(None, [1], [1])), "sequences[0].prompt_token_ids", "no row before it"),
        (tokens(named_token_ids=["x"] * 3), "named_token_ids", "has type string"),
    ],
)  # fmt: skip
def test_a_table_of_sequences_is_told_where_it_is_wrong(table: pa.Table, path: str, what: str) -> None:
    def ask() -> None:
        body = Body(schema.to_ipc(table), "arrow", "arrow")
        read = read_scores(body, DetailsQuery(), READER, "t", TeacherLimits()).sequences
        check_sequences(read, vocab_size=100, max_length=8, tokenizer_fingerprint=None)

    with pytest.raises((InvalidRequestError, ProblemError)) as refused:
        ask()
    told_at(refused.value, path, what)


def told_at(error: Exception, path: str, what: str) -> None:
    """Over HTTP, also where it comes from another process."""
    problem = ProblemDetails.model_validate(as_problem(error))
    if isinstance(error, InvalidRequestError):
        assert as_problem(pickle.loads(pickle.dumps(error))) == as_problem(error)
    assert problem.status == 422
    assert problem.errors
    [fault] = problem.errors
    assert (fault.path, problem.detail) == (path, f"{path}: {fault.message}")
    assert what in fault.message


def test_a_table_of_prompts_is_told_where_it_is_wrong() -> None:
    labels = {NAME_KEY: "prompts", VERSION_KEY: str(schema.VERSION)}
    columns = {"prompt_id": ["a", "b"], "prompt_token_ids": lists([1], [])}
    table = pa.table({name: columns.get(name, ["x", "y"]) for name in schema.PROMPTS.names})
    body = Body(schema.to_ipc(table.replace_schema_metadata(labels)), "arrow", "arrow")
    with pytest.raises(InvalidRequestError) as refused:
        read_rollouts(body, {"group_size": "1", "max_tokens": "1"}, READER, "t", RolloutLimits())
    told_at(refused.value, "prompts[1].prompt_token_ids", "is empty")
    prompts = pa.table({"group_id": ["a", "b"], "prompt_token_ids": lists([1], [1] * 8)})
    with pytest.raises(InvalidRequestError) as refused:
        check_prompts(prompts, tokenizer_fingerprint="t", vocab_size=100, max_model_len=8)
    told_at(refused.value, "prompts[1]", "the prompt of group 'b' has 8 tokens and leaves none")


def test_who_shows_the_detail_alone_shows_the_name_of_a_parameter() -> None:
    app = service_app("teacher", "Example", "For a test.")

    @app.post("/v1/score")
    async def score(_: Annotated[InBatches, Query()]) -> None: ...

    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 5000)) as client:
        told = client.post("/v1/score?topk=1")
    assert (told.status_code, told.json()["errors"][0]["path"]) == (422, "query.topk")

    async def ask() -> None:
        async with Endpoint("http://localhost") as endpoint:
            endpoint._http = httpx.AsyncClient(
                transport=httpx.ASGITransport(app, client=("127.0.0.1", 5000)), base_url="http://localhost"
            )
            await endpoint.request("POST", "/v1/score", what="one", params={"topk": 1})

    with pytest.raises(InvalidRequestError, match=r"422: query\.topk: Extra inputs"):
        asyncio.run(ask())
