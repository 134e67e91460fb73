"""What every HTTP request passes: tokens, problems instead of tracebacks, logs with the request's id."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services import telemetry
from services.errors import BusyError
from services.http.auth import AuthError, Tokens, is_loopback
from services.http.gate import service_app
from services.http.health import Intake
from services.http.problems import MEDIA_TYPE

LOCAL, ELSEWHERE = ("127.0.0.1", 5000), ("192.0.2.7", 5000)


def client(who: tuple[str, int] = LOCAL) -> TestClient:
    app = service_app("Example", "For a test.")

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "up"}

    @app.get("/v1/fine")
    async def fine() -> dict[str, int]:
        return {"answer": 42}

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the house")

    @app.get("/v1/busy")
    async def busy() -> None:
        raise BusyError("7 tokens wait here", retry_after_s=1.2)

    return TestClient(app, client=who, raise_server_exceptions=False)


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)
    monkeypatch.delenv("RLAD_API_TOKENS_FILE", raising=False)


def test_without_tokens_this_machine_alone_is_served() -> None:
    assert client().get("/v1/fine").json() == {"answer": 42}
    refused = client(ELSEWHERE).get("/v1/fine")
    assert refused.status_code == 401
    assert refused.headers["content-type"] == MEDIA_TYPE
    assert "no token is configured" in refused.json()["detail"]
    assert client(ELSEWHERE).get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/fine", "/docs", "/openapi.json", "/v1/nothing"])
def test_with_tokens_every_route_but_health_wants_one(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS", "old-token, new-token")
    here = client()
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic old-token"}):
        refused = here.get(path, headers=header)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in refused.json()["detail"]
    for token in ("old-token", "new-token"):
        assert here.get(path, headers={"Authorization": f"Bearer {token}"}).status_code != 401
    assert here.get("/healthz").status_code == 200
    assert client(ELSEWHERE).get(path, headers={"Authorization": "bearer new-token"}).status_code != 401


def test_tokens_in_a_file_are_exchanged_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("first\n")
    tokens = Tokens({"RLAD_API_TOKENS_FILE": str(file)})
    assert tokens.required
    assert tokens.accept("Bearer first")
    replacement = tmp_path / "new"
    replacement.write_text("second\nthird\n")
    replacement.replace(file)
    assert [tokens.accept(f"Bearer {token}") for token in ("first", "second", "third")] == [False, True, True]
    file.unlink()
    with pytest.raises(AuthError, match="cannot be read"):
        tokens.accept("Bearer second")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "third"])
def test_an_empty_token_is_never_valid(header: str | None, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("\n\n")
    assert not Tokens({"RLAD_API_TOKENS": " , ", "RLAD_API_TOKENS_FILE": str(file)}).accept(header)


def test_loopback_addresses() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("10.0.0.1", "0.0.0.0", "", "testclient")] == [False] * 4


def test_a_fault_is_told_to_the_operator_and_not_to_the_client(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(None)
    answer = client().get("/v1/broken", headers={"X-Request-ID": "abc-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert "secret" not in answer.text
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    failed = next(line for line in lines if line["event"] == "request_failed")
    assert "secret of the house" in failed["error"]
    request = next(line for line in lines if line["event"] == "request")
    assert (request["request_id"], request["path"], request["status"]) == ("abc-1", "/v1/broken", 500)


def test_refusals_say_when_to_come_back() -> None:
    answer = client().get("/v1/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["detail"] == "7 tokens wait here"


def test_unknown_routes_and_methods_are_problems() -> None:
    for answer, status in ((client().get("/v2/x"), 404), (client().delete("/v1/fine"), 405)):
        assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)


def test_a_drained_replica_finishes_what_it_has() -> None:
    async def fine() -> None: ...

    intake = Intake(fine, "the engine")
    with intake.admit():
        intake.close()
        assert intake.in_work == 1
        with pytest.raises(Exception, match="takes nothing new"), intake.admit():
            raise AssertionError("let in")
    assert intake.in_work == 0
