"""What Serve's proxy says by itself is a problem too; what a service says passes untouched."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.serve.http.problems import MEDIA_TYPE, ProblemDetails, answer
from services.serve.http.proxy import middlewares


async def status(request: Request) -> Response:
    """As Serve's proxy answers: plain text."""
    code = int(request.path_params["code"])
    headers = {"X-Request-ID": "r-1"} | ({"Retry-After": "7"} if code == 429 else {})
    return PlainTextResponse("the proxy's words", code, headers)


async def problem(_: Request) -> Response:
    return answer(ProblemDetails(title="Too much", status=413, detail="9 of 8"))


async def stream(_: Request) -> Response:
    return StreamingResponse(iter([b"a", b"b"]), media_type="text/plain")


async def fine(_: Request) -> Response:
    return JSONResponse({"answer": 42})


def proxy(routes: Response) -> TestClient:
    """A stand-in for Serve's proxy that tells these routes."""

    async def tell_routes(_: Request) -> Response:
        return routes

    return TestClient(
        Starlette(
            routes=[
                Route("/status/{code}", status, methods=["GET", "POST"]),
                Route("/-/status/{code}", status),
                Route("/-/routes", tell_routes),
                Route("/-/healthz", fine),
                Route("/problem", problem),
                Route("/stream", stream),
                Route("/fine", fine),
            ],
            middleware=middlewares()[::-1],  # Serve takes the last one as the outermost
        ),
        base_url="http://localhost",
        client=("127.0.0.1", 5000),
    )


CLIENT = proxy(JSONResponse({"/": "teacher"}))


@pytest.mark.parametrize(
    ("code", "becomes", "title"),
    [
        (404, 404, "Not served here"),
        (408, 504, "The time limit was reached"),
        (429, 429, "Too much is waiting"),
        (503, 503, "Not ready"),
        (400, 400, "Bad Request"),
    ],
)
def test_plain_text_becomes_a_problem(code: int, becomes: int, title: str) -> None:
    told = CLIENT.get(f"/status/{code}")
    assert told.status_code == becomes
    assert told.headers["content-type"] == MEDIA_TYPE
    assert told.json() == {
        "type": "about:blank",
        "title": title,
        "status": becomes,
        "detail": "the proxy's words",
    }
    assert told.headers["x-request-id"] == "r-1"


def test_the_caller_is_told_when_to_come_back() -> None:
    assert CLIENT.get("/status/429").headers["retry-after"] == "7"
    assert CLIENT.get("/status/503").headers["retry-after"] == "1"
    assert "retry-after" not in CLIENT.get("/status/404").headers


@pytest.mark.parametrize(
    "routes", [JSONResponse({}), PlainTextResponse("Route table is not populated yet.", 503)]
)
def test_before_any_service_has_a_route_the_caller_is_told_to_come_back(routes: Response) -> None:
    told = proxy(routes).post("/status/404?x=1", content=b"{}")
    assert (told.status_code, told.headers["retry-after"]) == (503, "1")
    assert told.json()["title"] == "Not ready"
    assert told.json()["detail"] == "no service is up here yet"
    assert told.headers["x-request-id"] == "r-1"


def test_what_broke_is_not_told() -> None:
    told = CLIENT.get("/status/500")
    assert told.status_code == 500
    assert "the proxy's words" not in told.text


def test_everything_else_passes_as_it_is() -> None:
    assert CLIENT.get("/fine").json() == {"answer": 42}
    assert CLIENT.get("/stream").text == "ab"
    assert CLIENT.get("/problem").json()["detail"] == "9 of 8"
    assert CLIENT.get("/-/status/503").text == "the proxy's words"


def test_what_services_there_are_is_told_to_who_has_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy(JSONResponse({"/": "teacher"})).get("/-/routes").json() == {"/": "teacher"}
    monkeypatch.setenv("RLAD_API_TOKENS", "mine")
    guarded = proxy(JSONResponse({"/": "teacher"}))
    refused = guarded.get("/-/routes", headers={"X-Request-ID": "mine"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.headers["x-request-id"] == "mine"
    assert guarded.get("/-/routes", headers={"Authorization": "Bearer mine"}).json() == {"/": "teacher"}
    # Where no service is up, that is found out all the same.
    lone = proxy(PlainTextResponse("Route table is not populated yet.", 500))
    assert lone.get("/status/404").status_code == 503


EVIL = {"Host": "evil.example"}
PAGE = {"Origin": "http://evil.example"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/-/routes", EVIL, 403),
        ("/-/routes", PAGE, 403),
        ("/-/routes", {"Via": "1.1 a"}, 401),
        ("/-/routes", {"Host": "127.0.0.1:80"}, 200),
        ("/-/healthz", EVIL, 403),
        ("/-/healthz", PAGE, 403),
        # As kubelets and load balancers ask.
        ("/-/healthz", {"Host": "10.1.2.3:8000"}, 200),
        ("/-/healthz", {"Host": "localhost"}, 200),
        ("/-/healthz", {"Host": "[fd00::1]:8000"}, 200),
        ("/-/healthz", {"Host": "mine.example"}, 200),
        ("/-/status/503", EVIL, 403),
        ("/status/404", EVIL, 403),
        ("/status/404", PAGE, 403),
        ("/status/404", {"Host": "localhost"}, 404),
    ],
)
def test_without_tokens_other_names_and_pages_get_none_of_serves_own_routes(
    monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setenv("RLAD_ALLOWED_HOSTS", "mine.example")
    told = CLIENT.get(path, headers=headers | {"X-Request-ID": "mine"})
    assert told.status_code == status
    if status == 403:
        assert told.headers["content-type"] == MEDIA_TYPE
        assert "no token is configured here" in told.json()["detail"]
        assert told.headers["x-request-id"] == ("mine" if path.startswith("/-/") else "r-1")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_serves_real_proxy_uses_it(http: httpx.Client) -> None:
    told = http.get("/nowhere")
    assert told.status_code == 404
    assert told.headers["content-type"] == MEDIA_TYPE
    assert "/nowhere" in told.json()["detail"]
