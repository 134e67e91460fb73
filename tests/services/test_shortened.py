"""What is said of a fault is short, however long what is at fault: over real HTTP, without Ray."""

from collections.abc import Iterator

import httpx
import pytest
from served_app import served

from services.serve.http.problems import MOST_CHARACTERS, Fault, OpenAIProblem, ProblemDetails, shortened

MIB = 2**20


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with served() as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "`", "\\n"])
@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        ('{"', '":1}', "Object contains unknown field `"),
        ('{"sequences":[],"hidden_dtype":"', '"}', "Invalid enum value '"),
        ('{"sequences":[],"details":"', '"}', "Invalid enum value '"),
        ('{"sequences":[{"prompt":"a","response":"b","', '":1}]}', "Object contains unknown field `"),
    ],
    ids=["key", "hidden_dtype", "details", "key of a sequence"],
)
def test_what_is_at_fault_is_not_sent_back(
    http: httpx.Client, begin: str, end: str, said: str, character: str
) -> None:
    told = http.post("/v1/score", content=(begin + character * (2 * MIB) + end).encode())
    assert told.status_code == 422
    assert len(told.content) < 10 * MOST_CHARACTERS
    [fault] = told.json()["errors"]
    assert fault["message"].startswith(said)
    for text in (told.json()["detail"], fault["message"]):
        assert len(text) == MOST_CHARACTERS
        assert text.endswith("…")
    assert len(fault["path"]) < 100


def test_what_is_short_says_where_as_ever(http: httpx.Client) -> None:
    told = http.post("/v1/score", content=b'{"sequences":[],"hidden_dtype":" - at `$.a`"}').json()
    assert told["errors"] == [{"path": "hidden_dtype", "message": "Invalid enum value ' - at `$.a`'"}]
    told = http.post("/v1/score", content=b'{"sequences":[{"prompt":"a","response":1}]}').json()
    assert told["errors"][0]["path"] == "sequences[0].response"


def test_every_problem_is_shortened_wherever_it_is_told() -> None:
    long = "x" * MIB
    problem = ProblemDetails(title="a", status=422, detail=long, errors=[Fault(path=long, message=long)])
    assert len(problem.model_dump_json()) < 4 * MOST_CHARACTERS
    assert OpenAIProblem.model_json_schema()["properties"]["detail"]["type"] == "string"
    assert shortened("y" * MOST_CHARACTERS) == "y" * MOST_CHARACTERS
    assert shortened("y" * (MOST_CHARACTERS + 1)) == "y" * (MOST_CHARACTERS - 1) + "…"
