"""What Serve's proxy says by itself is a problem too; what a service says passes untouched."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from ray.serve import context as ray_context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from services.serve.http.body_first import BodyFirst
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails, answer
from services.serve.http.proxy import ProxyProblems, middlewares


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


class Losing:
    """Serve's proxy where replicas may be lost: it says nothing then, and waits for the next one."""

    def __init__(self) -> None:
        self.lost = self.back = False
        self.health_asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["root_path"]:  # a route was taken out of the path before
            await PlainTextResponse("no such route", 404)(scope, receive, send)
            return
        scope["root_path"] = "/" + scope["path"].split("/")[1]  # in place, as Serve does
        if scope["path"].endswith("/healthz"):
            self.health_asked += 1
            if self.health_asked == 1:  # Serve's router has not heard of it yet
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
                return
            while not self.back:  # noqa: ASYNC110 - as Serve's router looks for replicas
                await asyncio.sleep(0.01)
        elif self.lost or (await receive())["type"] == "http.disconnect":
            return
        await JSONResponse({"path": scope["path"]})(scope, receive, send)


def test_a_lost_replica_is_told_and_nobody_waits_for_the_next_one() -> None:
    serve = Losing()
    proxy_ = ProxyProblems(serve)

    async def body() -> None:
        transport = httpx.ASGITransport(proxy_)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=5) as http:
            assert (await http.post("/teacher/v1/score")).status_code == 200
            serve.lost = True
            told = await http.post("/teacher/v1/score", headers={"X-Request-ID": "r-2"})
            assert (told.status_code, told.headers["content-type"]) == (503, MEDIA_TYPE)
            assert told.headers["retry-after"] == "5"
            assert told.headers["x-request-id"] == "r-2"
            assert "was lost" in told.json()["detail"]
            # Others are served, and this one is not asked until its health answers.
            serve.lost = False
            for _ in range(3):
                assert (await http.get("/teacher/v1/info")).status_code == 503
            assert (await http.get("/verifier/v1/info")).status_code == 200
            await asyncio.sleep(0.4)
            assert serve.health_asked == 2
            assert (await http.get("/teacher/v1/info")).status_code == 503
            serve.back = True
            async with asyncio.timeout(5):
                while (await http.get("/teacher/v1/info")).status_code == 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(body())


class Waiting:
    """Serve's proxy where requests wait for a replica, or one works on them, and health answers or not.

    Args:
        says: that no replica can be had, to who comes meanwhile; else they wait too.
    """

    def __init__(self, *, says: bool) -> None:
        self.answers = False
        self.says = says
        self.work = asyncio.Event()
        self.given_up = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/healthz"):
            if self.says and not self.answers:
                await PlainTextResponse("no replicas", 503)(scope, receive, send)
                return
            try:
                while not self.answers:  # noqa: ASYNC110 - as Serve's router looks for replicas
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:  # which Serve's proxy takes for a client that left
                await PlainTextResponse("disconnected", 499)(scope, receive, send)
                return
        elif scope["path"].endswith("/stream"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await self.work.wait()
            await send({"type": "http.response.body", "body": b"b", "more_body": False})
            return
        else:
            try:
                await self.work.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        await JSONResponse({})(scope, receive, send)


@pytest.mark.parametrize("says", [False, True])
def test_a_request_waits_for_a_service_that_answers_for_its_health_and_for_no_other(
    monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    monkeypatch.setattr("services.serve.http.proxy._LISTEN_EVERY_S", 0.02)
    monkeypatch.setattr("services.serve.http.proxy._SILENT_S", 0.1)

    async def body() -> None:
        serve = Waiting(says=says)
        transport = httpx.ASGITransport(ProxyProblems(serve))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=5) as http:
            serve.answers = True
            asked = asyncio.create_task(http.post("/teacher/v1/score"))
            await asyncio.sleep(0.4)
            assert not asked.done()

            serve.answers = False
            stream = asyncio.create_task(http.get("/teacher/v1/stream"))
            told = await asked
            assert (told.status_code, told.headers["content-type"]) == (503, MEDIA_TYPE)
            assert "retry-after" in told.headers
            await asyncio.sleep(0)
            assert serve.given_up == 1
            assert (await http.post("/teacher/v1/score")).status_code == 503

            serve.answers = True
            async with asyncio.timeout(5):
                while (await http.get("/teacher/v1/healthz")).status_code == 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            # One that has begun is let come to its end, and holds nobody up who comes meanwhile.
            next_one = asyncio.create_task(http.post("/teacher/v1/score"))
            await asyncio.sleep(0.1)
            assert not stream.done()
            assert not next_one.done()
            serve.work.set()
            assert (await stream).text == "ab"
            assert (await next_one).status_code == 200

    asyncio.run(body())


class Routing:
    """Serve's proxy with a router as Ray has it: requests wait where it knows of no replica.

    Attributes:
        curr_replicas: that there are.
        deployment: its service's.
    """

    def __init__(self) -> None:
        self.curr_replicas: dict[str, object] = {"one": object()}
        self._pending_requests_by_id: dict[str, object] = {}
        self.deployment = SimpleNamespace(autoscaling_config=None)
        self.work = asyncio.Event()
        inner = SimpleNamespace(_request_router=self, _metrics_manager=self.deployment)
        handle = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=inner))
        self.proxy_router = SimpleNamespace(match_route=lambda path: ("/teacher", handle, False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ray_context._serve_request_context.set(
            ray_context._RequestContext(_internal_request_id=str(id(scope)))
        )
        self._pending_requests_by_id[str(id(scope))] = scope
        try:
            while not self.curr_replicas:  # noqa: ASYNC110 - as Serve's router looks for replicas
                await asyncio.sleep(0.01)
        finally:
            del self._pending_requests_by_id[str(id(scope))]
        if scope["path"].endswith("/long"):
            await self.work.wait()
        await JSONResponse({})(scope, receive, send)


def test_who_waits_for_a_replica_where_there_is_none_is_told_and_who_has_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.serve.http.proxy._SILENT_S", 3600.0)

    async def body() -> None:
        serve = Routing()
        transport = httpx.ASGITransport(ProxyProblems(serve))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=5) as http:
            assert (await http.get("/teacher/v1/info")).status_code == 200
            long = asyncio.create_task(http.get("/teacher/v1/long"))
            await asyncio.sleep(0.1)
            kept, serve.curr_replicas = serve.curr_replicas, {}
            for path in ("/teacher/v1/info", "/teacher/healthz"):
                async with asyncio.timeout(30):
                    told = await http.get(path)
                assert (told.status_code, told.headers["content-type"]) == (503, MEDIA_TYPE)
                assert "retry-after" in told.headers
            assert not long.done()
            serve.curr_replicas = kept
            async with asyncio.timeout(5):
                while (await http.get("/teacher/v1/info")).status_code == 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            serve.work.set()
            assert (await long).status_code == 200

            # Where none is kept while nobody asks, who asks waits for one.
            serve.deployment.autoscaling_config = SimpleNamespace(min_replicas=0)
            serve.curr_replicas = {}
            asked = asyncio.create_task(http.get("/teacher/v1/info"))
            await asyncio.sleep(2)
            assert not asked.done()
            serve.curr_replicas = kept
            assert (await asked).status_code == 200

    asyncio.run(body())


def test_a_client_that_leaves_is_no_lost_replica() -> None:
    sent: list[Message] = []

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    async def body() -> None:
        proxy_ = ProxyProblems(Losing())
        scope = {
            "type": "http",
            "path": "/teacher/v1/score",
            "headers": [],
            "method": "POST",
            "root_path": "",
        }
        await proxy_(scope, leave, keep)
        assert (sent, proxy_._lost) == ([], {})

    asyncio.run(body())


async def empty() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unheard(message: Message) -> None:
    """What becomes of it is of no interest."""


def asked(path: str, address: str = "127.0.0.1") -> Scope:
    return {"type": "http", "path": path, "headers": [], "method": "POST", "client": (address, 1)}


def test_one_request_is_passed_on_at_a_turn_and_health_waits_for_none() -> None:
    turns, crowd = 30, 500  # that Serve's proxy takes for a request, and that come at once
    inside: set[str] = set()
    most = 0
    ended: list[str] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most
        name = f"{scope['path']} {scope['client'][0]}"
        inside.add(f"{name} {id(scope)}")
        most = max(most, len(inside))
        for _ in range(turns):
            await asyncio.sleep(0)
        inside.discard(f"{name} {id(scope)}")
        ended.append(name)

    async def body() -> None:
        door = BodyFirst(serve)
        work = [asked("/teacher/v1/score") for _ in range(crowd)] + [asked("/teacher/v1/score", "127.0.0.2")]
        everybody = [asyncio.create_task(door(scope, empty, unheard)) for scope in work]
        everybody.append(asyncio.create_task(door(asked("/teacher/healthz"), empty, unheard)))
        await asyncio.gather(*everybody)

    asyncio.run(body())
    assert most <= turns + 2
    # Health is answered before all others but the first; and who came behind the crowd has a turn of its own.
    assert ended.index("/teacher/healthz 127.0.0.1") <= 1
    assert ended.index("/teacher/v1/score 127.0.0.2") <= 3
    assert len(ended) == crowd + 2


@pytest.mark.parametrize("tokens", ["", "secret"])
def test_no_body_is_kept_for_health(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS", tokens)
    bodies: list[tuple[bytes, bool]] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        bodies.append((message["body"], message["more_body"]))

    async def endless() -> Message:
        return {"type": "http.request", "body": b"x" * 2**20, "more_body": True}

    async def body() -> None:
        scope = {**asked("/teacher/healthz"), "headers": [(b"content-length", b"1000000000")]}
        await BodyFirst(serve)(scope, endless, unheard)

    asyncio.run(body())
    assert bodies == [(b"", False)]


def test_nobody_turns_off_that_a_client_is_seen_to_leave() -> None:
    passed: list[Scope] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def body() -> None:
        hints = [(b"x-request-disconnect-disabled", b"?1"), (b"x-request-timeout-seconds", b"0")]
        for path in ("/teacher/v1/score", "/teacher/healthz"):
            scope = {**asked(path), "headers": [*hints, *hints, (b"accept", b"*/*")]}
            await BodyFirst(serve)(scope, empty, unheard)

    asyncio.run(body())
    assert [{name for name, _ in scope["headers"]} for scope in passed] == [{b"accept", b"x-request-id"}] * 2


def test_who_leaves_at_the_door_keeps_nobody_out() -> None:
    async def body() -> None:
        served: list[Scope] = []

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope)

        door = BodyFirst(serve)
        crowd = [asyncio.create_task(door(asked("/v1/score"), empty, unheard)) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in crowd[1:-1]:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert not crowd[-1].cancelled()
        before = len(served)
        await door(asked("/v1/score"), empty, unheard)
        assert len(served) == before + 1

    asyncio.run(body())
