"""A service without Ray: the proxy's middlewares, gate, intake and a form, in a real server."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from fastapi import Request, Response
from ray.serve._private.http_util import RequestIdMiddleware
from starlette.types import ASGIApp

from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import json_answer
from services.serve.http.body_first import BodyFirst
from services.serve.http.gate import service_app
from services.serve.http.health import UP, Health, Intake
from services.serve.http.proxy import ProxyProblems
from services.serve.http.reading import BodyLimits, BodyReader
from services.serve.http.slow_clients.answers_taken import AnswersTaken
from services.serve.http.texts import Reader
from services.serve.replica_settings import ReplicaArgs
from services.teacher.forms import DetailsQuery
from services.teacher.reading import read_request


class Words:
    """A tokenizer as far as requests need one."""

    def get_vocab(self) -> dict[str, int]:
        return {"a": 1}

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [1] * len(text.split())}


READER = Reader.of(Words(), 1000)  # type: ignore[arg-type]


@contextmanager
def served(**limits: Any) -> Iterator[str]:
    """Its URL. ``POST /v1/score`` reads a request as the teacher does and says how many sequences it has.

    Args:
        limits: of `BodyLimits`, where they are not the usual ones.
    """

    async def fine() -> None: ...

    app = service_app("teacher", "Example", "For a test.")
    intake = Intake("teacher", fine, "the engine", ReplicaArgs(max_ongoing_requests=1, max_queued_requests=1))
    waiting = asyncio.Event()

    @app.get("/healthz")
    async def alive() -> Health:
        return UP

    @app.post("/v1/wait")
    async def wait(request: Request) -> Response:
        async with intake.admit(request, 2**20) as body:
            await waiting.wait()
            return json_answer({}, body)

    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        async with intake.admit(request, 2**26) as body:
            wanted = await intake.read(
                read_request, body, DetailsQuery(), READER, "sha256:mine", TeacherLimits()
            )
            return json_answer({"rows": wanted.sequences.num_rows, "padding": "x" * 2000}, body)

    first = BodyFirst(ProxyProblems(RequestIdMiddleware(app)))  # as Serve puts them together
    first._reader = BodyReader(replace(BodyLimits(), **limits))
    with running(AnswersTaken(first)) as url:
        yield url


@contextmanager
def running(app: ASGIApp, **config: Any) -> Iterator[str]:
    """Its URL, in a real server.

    Args:
        config: of uvicorn.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", **config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"{'https' if 'ssl_certfile' in config else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.force_exit = server.should_exit = True
            thread.join(10)
