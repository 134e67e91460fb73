"""A service that has lost its replicas is told by Serve's proxy, and nobody waits for the next one."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from ray.serve import context as ray_context
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from services.serve.http.problems import MEDIA_TYPE
from services.serve.http.proxy import ProxyProblems


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
