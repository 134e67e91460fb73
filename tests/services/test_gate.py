"""What every HTTP request passes: tokens, problems instead of tracebacks, logs with the request's id."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx
import prometheus_client
import pytest
from fastapi import Query, Request
from recording import recording_into
from served_app import served
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from rlad_core.client.errors import BusyError, DeadlineError, DrainingError, InvalidRequestError, LimitError
from rlad_core.metric_specs import SHARED
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.serve.http.auth import AuthError, Tokens, is_loopback
from services.serve.http.bodies import ARROW
from services.serve.http.callers import caller_of
from services.serve.http.gate import service_app
from services.serve.http.health import Intake
from services.serve.http.problems import MEDIA_TYPE
from services.serve.http.streams import InBatches
from services.serve.replica_settings import ReplicaArgs

LOCAL, ELSEWHERE = ("127.0.0.1", 5000), ("192.0.2.7", 5000)


def client(who: tuple[str, int] = LOCAL) -> TestClient:
    app = service_app("teacher", "Example", "For a test.")

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "up"}

    @app.get("/v1/fine")
    async def fine() -> dict[str, int]:
        return {"answer": 42}

    @app.get("/v1/several/{name}")
    @app.delete("/v1/several/{name}")
    async def several(name: str) -> str:
        return name

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the house")

    @app.get("/v1/busy")
    async def busy() -> None:
        raise BusyError("7 tokens wait here", retry_after_s=1.2)

    @app.post("/v1/length")
    async def length(request: Request) -> dict[str, int]:
        async with intake().admit(request, 10) as body:
            return {"length": len(body.content)}

    @app.post("/v1/queried")
    async def queried(_: Annotated[InBatches, Query()]) -> None: ...

    @app.post("/v1/closed")
    async def closed(request: Request) -> None:
        door = intake()
        door.close()
        async with door.admit(request, 10):
            raise AssertionError("let in")

    return TestClient(app, base_url="http://localhost", client=who, raise_server_exceptions=False)


def intake() -> Intake:
    async def fine() -> None: ...

    return Intake("teacher", fine, "the engine", ReplicaArgs())


def recorded(registry: prometheus_client.CollectorRegistry, name: str) -> dict[str, float]:
    """Values of a metric by kind."""
    families = {family.name: family for family in registry.collect()}
    if name not in families:
        return {}
    samples = [sample for sample in families[name].samples if sample.name.endswith("_total")]
    assert {(s.labels["run"], s.labels["service"]) for s in samples} == {(SHARED, "teacher")}
    return {sample.labels["kind"]: sample.value for sample in samples}


@pytest.fixture
def registry() -> Iterator[prometheus_client.CollectorRegistry]:
    own = prometheus_client.CollectorRegistry()
    with recording_into(own):
        yield own


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


def test_a_file_that_is_read_while_it_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch()
    written = file.stat().st_mtime_ns
    tokens = Tokens({"RLAD_API_TOKENS_FILE": str(file)})
    assert not tokens.accept("Bearer first")
    file.write_text("first\n")
    os.utime(file, ns=(written, written))  # as within one tick of the kernel's clock
    assert tokens.accept("Bearer first")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "third"])
def test_an_empty_token_is_never_valid(header: str | None, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("\n\n")
    assert not Tokens({"RLAD_API_TOKENS": " , ", "RLAD_API_TOKENS_FILE": str(file)}).accept(header)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        ({}, None),
        ({"RLAD_API_TOKENS": "mine", "RLAD_API_TOKENS_FILE": "FILE"}, None),
        ({"RLAD_API_TOKENS": " , "}, "RLAD_API_TOKENS: there is no token in it"),
        ({"RLAD_API_TOKENS_FILE": "FILE"}, "RLAD_API_TOKENS_FILE: there is no token in it"),
    ],
)
def test_that_somebody_can_be_let_in_is_seen_at_the_start(
    given: dict[str, str], lacks: str | None, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text("\n \n")
    tokens = Tokens({name: value.replace("FILE", str(tmp_path / "FILE")) for name, value in given.items()})
    with pytest.raises(AuthError, match=lacks) if lacks else nullcontext():
        tokens.check()


def test_loopback_addresses() -> None:
    own = ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost")
    others = ("10.0.0.1", "0.0.0.0", "::ffff:10.0.0.1", "::2", "", "testclient")
    assert {host: is_loopback(host) for host in own} == dict.fromkeys(own, True)
    assert {host: is_loopback(host) for host in others} == dict.fromkeys(others, False)


def test_a_fault_is_told_to_the_operator_and_not_to_the_client(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(None)
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
    door = intake()

    async def meanwhile() -> None:
        request = Request({"type": "http", "headers": []}, lambda: asyncio.sleep(0, {"type": "http.request"}))
        async with door.admit(request, 10):
            door.close()
            assert door.in_work == 1
            with pytest.raises(DrainingError, match="takes nothing new"):
                async with door.admit(request, 10):
                    raise AssertionError("let in")
        assert door.in_work == 0

    asyncio.run(meanwhile())


def test_what_is_refused_unread_is_in_the_metrics(registry: prometheus_client.CollectorRegistry) -> None:
    here = client()
    arrow, text = ({"content-type": kind} for kind in (ARROW, "text/csv"))
    assert here.post("/v1/length", content=b"short", headers=arrow).json() == {"length": 5}
    assert here.post("/v1/length", content=b"x" * 11).status_code == 413
    assert here.post("/v1/length", content=b"x", headers=text).status_code == 415
    assert here.post("/v1/closed", content=b"x").status_code == 503
    assert client(ELSEWHERE).post("/v1/length", content=b"x").status_code == 401
    assert here.post("/v1/queried?strem=true", content=b"x").status_code == 422
    assert recorded(registry, "rlad_service_requests") == {"arrow": 1, "json": 2, "other": 3}
    assert recorded(registry, "rlad_service_limits_hit") == {"body": 1}
    assert recorded(registry, "rlad_service_errors") == {
        "LimitError": 1,
        "ProblemError": 1,
        "DrainingError": 1,
        "UnauthorizedError": 1,
        "InvalidRequestError": 1,
    }


@pytest.mark.parametrize(
    ("error", "limits"),
    [
        (LimitError("tokens", "too many"), {"tokens": 1}),
        (BusyError("wait", 1.0), {"queue": 1}),
        (DeadlineError("late"), {"time": 1}),
        (InvalidRequestError("no"), {}),
        (KeyError("bug"), {}),
    ],
)
def test_a_limit_is_counted_whoever_tells_of_it(
    registry: prometheus_client.CollectorRegistry, error: Exception, limits: dict[str, float]
) -> None:
    with pytest.raises(type(error)), telemetry.request("teacher", "handle"):
        raise error
    assert recorded(registry, "rlad_service_limits_hit") == limits
    assert recorded(registry, "rlad_service_errors") == {type(error).__name__: 1}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        # Rebinding: a name of somebody else's that leads here.
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[x"}, 403),
        ({"Host": "evil.example@localhost"}, 403),
        ({"Host": "localhost#.evil.example"}, 403),
        ({"Host": "localhost:port"}, 403),
        ({"Host": "my-service:80"}, 200),
        ({"Host": "OTHER.:8000"}, 200),
        ({"Host": "[fd00::7]:8000"}, 200),
        # A page of another site, or of another program on this machine.
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:9000"}, 403),
        ({"Host": "localhost:8000", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "null"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://["}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 200),
        # Something stands between, of which nobody told us.
        ({"X-Forwarded-For": "127.0.0.1"}, 401),
        ({"X-Forwarded-Proto": "https"}, 401),
        ({"Forwarded": "for=127.0.0.1"}, 401),
        ({"Via": "1.1 proxy"}, 401),
    ],
)
def test_what_counts_as_this_machine_without_tokens(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setenv("RLAD_ALLOWED_HOSTS", "my-service, other.:8000, fd00::7, http://none")
    monkeypatch.setenv("RLAD_ALLOWED_ORIGINS", "http://localhost:3000")
    answer = client().get("/v1/fine", headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert "only this machine is served" in answer.json()["detail"] or "may not ask" in answer.text
    # Health tells nothing that is anybody's, and load balancers name hosts as they like.
    assert client().get("/healthz", headers=headers).status_code == 200
    monkeypatch.setenv("RLAD_API_TOKENS", "mine")
    allowed = {**headers, "Authorization": "Bearer mine"}
    assert client(ELSEWHERE).get("/v1/fine", headers=allowed).status_code == 200


def test_a_proxy_that_was_named_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    # uvicorn has put the address that the proxy tells, without a port, in the place of the proxy's own.
    told = {"X-Forwarded-For": "127.0.0.1"}
    assert client(("127.0.0.1", 0)).get("/v1/fine", headers=told).status_code == 200
    assert (
        client(("192.0.2.7", 0)).get("/v1/fine", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 401
    )
    # And has not where it is another proxy, on this machine: then anybody may be behind it.
    for header in ({"X-Forwarded-For": "192.0.2.7"}, told, {"X-Real-IP": "192.0.2.7"}):
        assert client().get("/v1/fine", headers=header).status_code == 401
    assert client().get("/v1/fine").status_code == 200


def test_tokens_of_any_bytes(tmp_path: Path) -> None:
    odd = "pass word,mit ü und €".encode()
    (tmp_path / "tokens").write_bytes(b"first\r\n" + odd + b"\n\xff\xfe\x80\n")
    tokens = Tokens({"RLAD_API_TOKENS_FILE": str(tmp_path / "tokens"), "RLAD_API_TOKENS": "größe"})
    for token in (odd, b"\xff\xfe\x80", "größe".encode(), b"first"):
        assert tokens.accept("Bearer " + token.decode("latin-1"))
    assert not tokens.accept("Bearer \N{EURO SIGN}")
    assert not tokens.accept("Bearer pass")


def test_head_and_options() -> None:
    here = client()
    got, head = here.get("/v1/fine"), here.head("/v1/fine")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert here.head("/v1/length").status_code == 405
    assert here.head("/v1/nothing").status_code == 404
    for path, allowed in (("/v1/fine", "GET, HEAD, OPTIONS"), ("/v1/length", "OPTIONS, POST")):
        told = here.options(path)
        assert (told.status_code, told.headers["allow"], told.content) == (204, allowed, b"")
    assert here.options("/v1/nothing").status_code == 404
    for path in ("/v1/fine", "/openapi.json"):
        assert here.delete(path).headers["allow"] == "GET, HEAD, OPTIONS"
    # Two routes have this path, and the framework knows of the first of them.
    refused = here.post("/v1/several/7")
    assert (refused.status_code, refused.headers["allow"]) == (
        405,
        here.options("/v1/several/7").headers["allow"],
    )
    assert refused.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"


def test_head_in_a_real_server(capfd: pytest.CaptureFixture[str]) -> None:
    with served() as url:
        for path in ("/healthz", "/openapi.json"):
            head, got = httpx.head(url + path), httpx.get(url + path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]
    assert "request_failed" not in capfd.readouterr().err


@pytest.mark.parametrize("given", ["x" * 129, "two words", "line", ""])
def test_a_request_id_is_a_short_word(given: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(None)
    client().get("/v1/fine", headers={"X-Request-ID": given})
    line = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert line["request_id"] == (given if given == "line" else None)


@pytest.mark.parametrize(
    "header", ["bearer secret", "BEARER secret", "Bearer  secret", "Bearer \t secret \t"]
)
def test_a_token_is_one_caller_however_it_is_spelled(header: str) -> None:
    def caller(given: str) -> str:
        headers = Headers({"authorization": given})
        return caller_of({"type": "http", "client": ("10.0.0.1", 1)}, headers, with_tokens=True)

    assert Tokens({"RLAD_API_TOKENS": "secret"}).accept(header)
    # As operators have computed it for their weights.
    assert caller(header) == "token:" + hashlib.sha256(b"Bearer secret").hexdigest()[:12]
    assert caller("Bearer other") != caller(header)
