"""What a service says of itself to people, tools and Prometheus: `/docs`, `/openapi.json`, `/metrics`.

The page `/docs` brings Swagger UI along (in `static`, version 5.35.0), so it works without the internet. A
browser cannot send a token with the address of a page: where tokens are set, the page is shown to who has
none, asks for one, and fetches the document with it. Nothing of the service stands in the page itself.

`/metrics` is of the process that answers: what `rlad_core.metrics` declares of the service, and the process's
own figures. It is for a service that runs alone; of several replicas it tells one, and Ray's agent tells all.
"""

import copy
import gzip
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from rlad_core.client.forms import JSON
from services.serve.http.auth import Tokens
from services.serve.http.bodies import accepts
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails

PAGE, ASSETS = "/docs", "/docs/"
_STATIC = Path(__file__).with_name("static")
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "docs.js": "text/javascript",
}
_SCHEME = "bearer"
_OPEN = ("/healthz", "/readyz", "/health")


def release() -> str:
    """The installed version of RLAD."""
    return version("rlad")


def add_pages(app: FastAPI) -> None:
    """Give `app` the three routes and what the page needs."""
    app.add_api_route(PAGE, _docs, include_in_schema=False)
    app.add_api_route(ASSETS + "{name}", _asset, include_in_schema=False)
    app.add_api_route("/openapi.json", _documentation(), include_in_schema=False)
    app.add_api_route("/metrics", metrics, response_class=PlainTextResponse)


def page(status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The page that shows the documentation, or asks for a token."""
    return Response((_STATIC / "docs.html").read_bytes(), status, headers, media_type="text/html")


def is_for_a_browser(path: str, headers: Headers) -> bool:
    """Whether a request is that of a person who opens the page."""
    return path == PAGE and "text/html" in headers.get("accept", "")


async def metrics(request: Request) -> Response:
    """What this replica has counted since it began, in Prometheus' text format."""
    # As it is asked for: exemplars are told in OpenMetrics' format only.
    write, kind = choose_encoder(request.headers.get("Accept", ""))
    return Response(write(prometheus_client.REGISTRY), media_type=kind)


async def _docs() -> Response:
    return page()


async def _asset(name: str, request: Request) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404, "Not Found")
    headers = {"Cache-Control": "max-age=3600", "Vary": "Accept-Encoding"}
    packed = _STATIC / f"{name}.gz"
    if packed.exists() and accepts(request, "gzip"):
        headers["Content-Encoding"] = "gzip"
        return Response(packed.read_bytes(), headers=headers, media_type=_ASSETS[name])
    return Response(_plain(name), headers=headers, media_type=_ASSETS[name])


@cache
def _plain(name: str) -> bytes:
    """A file of the page; unpacked once, since anybody may ask."""
    packed = _STATIC / f"{name}.gz"
    return gzip.decompress(packed.read_bytes()) if packed.exists() else (_STATIC / name).read_bytes()


def _documentation() -> Callable[[Request], Awaitable[Response]]:
    """The route of the document, which is made once: it takes tens of milliseconds of the event loop."""
    made: dict[tuple[str, bool], bytes] = {}

    async def openapi(request: Request) -> Response:
        # The prefix under which Serve's proxy has the service.
        kind = request.scope.get("root_path", "").rstrip("/") or "/", Tokens().required
        if kind not in made:
            made[kind] = _document(request.app, *kind)
        return Response(made[kind], media_type=JSON)

    return openapi


def _document(app: FastAPI, prefix: str, guarded: bool) -> bytes:
    """The document as JSON.

    Args:
        guarded: a token is required.
    """
    document = copy.deepcopy(app.openapi())
    _as_problems(document)
    _at_the_door(document)
    document["servers"] = [{"url": prefix}]
    if guarded:
        _secure(document)
    return orjson.dumps(document)


def _as_problems(document: dict[str, Any]) -> None:
    """Say of errors what they are sent as; FastAPI puts every form under its own media type."""
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            if MEDIA_TYPE not in answers.get("422", {}).get("content", {MEDIA_TYPE: {}}):
                del answers["422"]  # FastAPI's, of each route with a name in its path, which is never wrong
            for answer in answers.values():
                content = answer.get("content", {})
                if MEDIA_TYPE in content and (form := content.pop("application/json", None)):
                    content[MEDIA_TYPE] = form


def _at_the_door(document: dict[str, Any]) -> None:
    """Say what is answered before a route is asked: to strangers, over limits, for a lost replica."""
    plain = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            told = operation["responses"]
            # In the route's own form of problems, where it has one.
            content = next((said["content"] for status, said in told.items() if status[0] in "45"), plain)
            of_all = ("414", "431", "503")
            for status in of_all if path in _OPEN else ("401", "403", *of_all):
                told.setdefault(status, {"description": HTTPStatus(int(status)).phrase, "content": content})


def _secure(document: dict[str, Any]) -> None:
    """Say that all but health wants a bearer token."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[_SCHEME] = {"type": "http", "scheme": "bearer"}
    document["security"] = [{_SCHEME: []}]
    for path in _OPEN:
        for operation in document["paths"].get(path, {}).values():
            operation["security"] = []
