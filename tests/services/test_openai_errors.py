"""Refusals in the form that OpenAI's clients read, where they ask."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from rlad_core.client.errors import BusyError, UnknownNameError
from services.serve.http.json_forms import invalid
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails, add_problem_handlers, answer

app = FastAPI()
add_problem_handlers(app, "teacher")
CLIENT = TestClient(app)


@app.post("/v1/completions")
async def completions(kind: str) -> None:
    if kind == "busy":
        raise BusyError("9 wait here", retry_after_s=1.5)
    if kind == "unknown":
        raise UnknownNameError("model 'x' is not served here")
    raise invalid("prompt[1]", "the text has no token")


@app.post("/v1/score")
async def score() -> None:
    raise invalid("sequences[1]", "the text has no token")


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        (
            "invalid",
            422,
            {
                "message": "prompt[1]: the text has no token",
                "type": "invalid_request_error",
                "param": "prompt[1]",
                "code": None,
            },
        ),
        ("busy", 429, {"message": "9 wait here", "type": "rate_limit_error", "param": None, "code": None}),
        (
            "unknown",
            404,
            {
                "message": "model 'x' is not served here",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            },
        ),
    ],
)
def test_a_problem_says_the_same_in_openais_form(
    kind: str, status: int, error: dict[str, str | None]
) -> None:
    told = CLIENT.post("/v1/completions", params={"kind": kind})
    assert told.status_code == status
    assert told.headers["content-type"] == MEDIA_TYPE
    assert told.headers.get("retry-after") == ("2" if kind == "busy" else None)
    assert told.json()["error"] == error
    assert told.json()["detail"] == error["message"]


def test_other_routes_have_problems_alone() -> None:
    assert "error" not in CLIENT.post("/v1/score").json()


@pytest.mark.parametrize(
    ("path", "has"),
    [
        ("/teacher/v1/chat/completions", True),
        ("/v1/models", True),
        ("/v1/models/Qwen/Qwen3-8B", True),
        ("/v1/modelsoup", False),
    ],
)
def test_the_path_decides_also_behind_a_prefix(path: str, has: bool) -> None:
    async def gate(scope, receive, send):  # type: ignore[no-untyped-def]
        await answer(ProblemDetails(title="T", status=401, detail="no"), {"WWW-Authenticate": "Bearer"})(
            scope, receive, send
        )

    told = TestClient(gate).get(path)
    assert told.headers["www-authenticate"] == "Bearer"
    assert ("error" in told.json()) == has
    assert not has or told.json()["error"]["type"] == "authentication_error"
