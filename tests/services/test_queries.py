"""URLs with more than may be read of them: over real HTTP, without Ray."""

import itertools
import string
from collections.abc import Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from pydantic import ValidationError
from ray.serve._private.http_util import RequestIdMiddleware
from served_app import running
from starlette.datastructures import QueryParams

from services.rollout.http import RolloutQuery, one_each
from services.serve.http.body_first import BodyFirst
from services.serve.http.gate import service_app
from services.serve.http.problems import MEDIA_TYPE
from services.serve.http.proxy import ProxyProblems
from services.serve.http.queries import MOST_NAMES, values_of
from services.teacher.forms import ScoreQuery

NAMES = ["".join(letters) for letters in itertools.product(string.ascii_letters, repeat=3)]
BOMBS = {
    "short names": "&".join(NAMES)[:65_000],
    "names of a short query": "&".join(NAMES[: MOST_NAMES + 1]),
    "one value": "top_k=" + "1" * 40_000,
}
LONGEST = "&".join(f"end_token_ids={2**31 - 1 - place}" for place in range(1024))
"""That makes sense."""


def app() -> FastAPI:
    service = service_app("teacher", "Example", "For a test.")

    @service.post("/v1/score")
    async def score(query: Annotated[ScoreQuery, Query()], request: Request) -> dict[str, int]:
        return {"end_tokens": len(query.end_token_ids), "names": len(values_of(request.query_params))}

    return service


@pytest.fixture(scope="module", params=["service", "proxy"])
def http(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A service by itself, and what stands before Serve's proxy, behind which none is asked."""
    behind = BodyFirst(ProxyProblems(RequestIdMiddleware(_unasked))) if request.param == "proxy" else app()
    with running(behind) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


async def _unasked(*_: object) -> None:
    raise AssertionError("the service is asked")


ODD = [
    "entropy=yes",
    "plain=on",
    "stream=t",
    "entropy=1",
    "top_k=1_0",
    "top_k=5.0",
    "top_k=%205",
]
ODD += ["top_k=+5", "top_k=%D9%A3", "end_token_ids=1_0", "entropy=", "top_k="]


@pytest.mark.parametrize("query", ODD)
def test_a_value_is_taken_in_the_documented_form_alone(query: str) -> None:
    with running(app()) as url:
        told = httpx.post(f"{url}/v1/score?{query}", timeout=60)
        assert told.status_code == 422
        [fault] = told.json()["errors"]
        assert fault["path"].startswith(f"query.{query.partition('=')[0]}")
        assert "has to be written as" in fault["message"]
        right = "top_k=5&entropy=true&stream=false&end_token_ids=5&end_token_ids=6"
        assert httpx.post(f"{url}/v1/score?{right}", timeout=60).json()["end_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "odd", "fine"),
    [
        ("temperature", ["1_0", " 1", "nan", "1.", "0x1"], ["0.7", "1", "1e-3"]),
        ("top_p", [".5", "Infinity"], ["0.5"]),
        ("seed", ["5.0", "1_0", "\u0663"], ["0", str(2**63 - 1)]),
        ("group_size", ["2.0", "02_0"], ["2"]),
        ("training", ["no", "0", "fals"], ["false", "true", "False"]),
        ("stop_token_ids", ["\u0663", "1, 2"], ["1,2"]),
    ],
)
def test_the_same_of_sampling(name: str, odd: list[str], fine: list[str]) -> None:
    for value in odd:
        with pytest.raises(ValidationError):
            RolloutQuery.model_validate({name: value})
    for value in fine:
        assert RolloutQuery.model_validate({name: value})


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_query_over_the_limits_is_refused_unread(http: httpx.Client, bomb: str) -> None:
    for method in ("POST", "GET"):
        told = http.request(method, f"/v1/score?{BOMBS[bomb]}")
        assert (told.status_code, told.headers["content-type"]) == (414, MEDIA_TYPE)
        assert told.json()["title"] == "The URL is too long"
        assert "at most" in told.json()["detail"]


def test_the_longest_query_that_makes_sense_is_read() -> None:
    with running(BodyFirst(app())) as url:
        told = httpx.post(f"{url}/v1/score?{LONGEST}", timeout=60)
        assert told.json() == {"end_tokens": 1024, "names": 1}
        # Unknown names are told as ever while they are few.
        few = "&".join([LONGEST, *NAMES[: MOST_NAMES - 1]])
        assert httpx.post(f"{url}/v1/score?{few}", timeout=60).status_code == 422


def test_values_are_those_of_each_name_in_order() -> None:
    query = QueryParams("a=1&b=2&a=3&stop_token_ids=4&stop_token_ids=5&c=")
    found = values_of(query)
    assert found == {name: query.getlist(name) for name in query}
    assert one_each(found) == {"a": "3", "b": "2", "stop_token_ids": "4,5", "c": ""}


def test_the_document_says_that_every_route_may_refuse_it() -> None:
    with running(app()) as url:
        document = httpx.get(f"{url}/openapi.json", timeout=60).json()
    assert {"414", "431"} <= set(document["paths"]["/v1/score"]["post"]["responses"])
