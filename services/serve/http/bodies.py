"""Requests and answers as JSON or as an Arrow IPC stream, as the headers say.

A route that takes both gets its request's body from `services.serve.http.health.Intake`, which reads it with
`read_body`, and says in its OpenAPI entry, through `documents`, what `read_body` would accept.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pyarrow as pa
from fastapi import Request, Response
from pydantic import BaseModel

from rlad_core import schema
from rlad_core.client.forms import ARROW, JSON
from services.serve.http.answers import MEDIA_TYPES, NDJSON, AnswerEncoding, Telling, json_pieces
from services.serve.http.encodings import Piece, known, packed, unpacked, wanted, weighed
from services.serve.http.problems import ProblemError, documented
from services.serve.http.reading import BodyReader

EVENTS = "text/event-stream"
Encoding = Literal["json", "arrow"]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# curl -d says x-www-form-urlencoded unless told otherwise, and JSON is what people then send.
_ENCODINGS: dict[str, Encoding] = {JSON: "json", "application/x-www-form-urlencoded": "json", ARROW: "arrow"}


@dataclass(frozen=True)
class Body:
    """A request's body, within the limit and unpacked.

    Args:
        encoding: of the request.
        answer: encoding that the answer is wanted in: what ``Accept`` weighs most, else that of the request.
        coding: compression that the answer may have, of `services.serve.http.encodings`.
        hold: to be told of bytes that are written out of it, where they come to more than it has; raises
            `BusyError` where there is no memory for them beside other bodies.
    """

    content: bytes
    encoding: Encoding
    answer: AnswerEncoding
    coding: str = "identity"
    hold: Callable[[int], None] = lambda _: None


def encoding_of(request: Request) -> Encoding | None:
    """What a request says its body is; None: neither of the two."""
    return _ENCODINGS.get(_content_type(request))


@asynccontextmanager
async def read_body(request: Request, reader: BodyReader, max_bytes: int) -> AsyncIterator[Body]:
    """The body, read no further than the limit: its announced length may be missing or wrong.

    Raises:
        ProblemError: 415, neither JSON nor Arrow, or a compression that is unknown; 400, one that is broken.
        LimitError, SlowBodyError, BusyError: see `BodyReader.reading`.
    """
    if (encoding := encoding_of(request)) is None:
        raise ProblemError(
            415, "Unsupported media type", f"{_content_type(request)[:100]!r}: send {JSON} or {ARROW}"
        )
    # All of them: a header may stand there several times (RFC 9110, 5.3).
    coding = known(", ".join(request.headers.getlist("content-encoding")))
    announced = request.headers.get("content-length")
    caller = request.scope.get("caller", "")
    async with reader.reading(request.receive, announced, max_bytes, caller) as held:
        content = held.take()
        if coding != "identity":
            pieces = unpacked(content, coding, max_bytes)
            while piece := await asyncio.to_thread(next, pieces, b""):
                held.add(piece)
            content = held.take()
        answer = _answer_encoding(", ".join(request.headers.getlist("accept"))) or encoding
        yield Body(content, encoding, answer, wanted(_accepted_codings(request)), held.count)


def accepts(request: Request, coding: str) -> bool:
    """Whether ``Accept-Encoding`` names a coding, of `services.serve.http.encodings`."""
    return wanted(_accepted_codings(request), (coding,)) == coding


def only_json(body: Body) -> bytes:
    """The content of a body that may be nothing else.

    Raises:
        ProblemError: 415, it is Arrow.
    """
    if body.encoding != "json":
        raise ProblemError(415, "Unsupported media type", f"send {JSON}")
    return body.content


def to_table(content: bytes) -> pa.Table:
    """An Arrow body as a table, its values not yet checked.

    Raises:
        ProblemError: 400, no Arrow IPC stream or a broken one.
    """
    try:
        return schema.from_ipc(content, sent=True)
    except schema.SchemaError as error:
        raise ProblemError(400, "The body cannot be read", str(error)) from error


def whole_answer(telling: Telling, done: pa.Table, body: Body) -> Response:
    """The answer to `body` for whose rows all was done together."""
    return _answer(telling.pieces(body.answer, [(0, done)]), MEDIA_TYPES[body.answer], body)


def json_answer(fields: dict[str, Any], body: Body) -> Response:
    """The answer to `body` as JSON, with values as `json_pieces` takes them."""
    return _answer(json_pieces(fields.items()), JSON, body)


def documents(
    request: Any,
    answer: type[BaseModel],
    example: dict[str, Any],
    *,
    openai: bool = False,
    arrow: bool = True,
    events: bool = False,
) -> dict[str, Any]:
    """What a route that gets its body from `read_body` tells the OpenAPI document.

    Args:
        request: a `msgspec.Struct`, or one with `msgspec.Meta` beside it.
        answer: its JSON form.
        example: of a request.
        openai: it is one of those that OpenAI's clients ask.
        arrow: it takes and gives Arrow too.
        events: it gives a stream of events too.
    """
    binary = {ARROW: _BINARY} if arrow else {}
    lines = {NDJSON: {"schema": {"type": "string"}}} if arrow else {}
    stream: dict[str, Any] = {EVENTS: {}} if events else {}  # what an event is OpenAPI 3.1 cannot say
    form = msgspec.json.schema(request, ref_template="#/components/schemas/{name}")
    # OpenAPI keeps definitions in one place; a schema inside a request body may only hold itself.
    definitions = form.pop("$defs", {})
    form = {**_inlined(form, definitions), "example": example}
    return {
        "response_model": answer,
        "responses": {
            200: {"content": {**binary, **lines, **stream}},
            **documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504, openai=openai),
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": form}, **binary},
            }
        },
    }


def _answer(pieces: Iterable[Piece], media_type: str, body: Body) -> Response:
    sink = io.BytesIO()
    sink.writelines(pieces)
    packed_content, headers = packed(sink.getvalue(), body.coding)
    return Response(packed_content, headers=headers, media_type=media_type)


def _answer_encoding(accepted: str) -> AnswerEncoding | None:
    """Which of ours ``Accept`` weighs most, the first of equals; None: it names none of them."""
    weights = weighed(accepted)
    named: dict[str, AnswerEncoding] = {ARROW: "arrow", NDJSON: "ndjson", JSON: "json"}
    usable = [name for name in named if weights.get(name, 0.0) > 0]
    return named[max(usable, key=weights.__getitem__)] if usable else None


def _accepted_codings(request: Request) -> str:
    return ", ".join(request.headers.getlist("accept-encoding"))


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", JSON).split(";")[0].strip().lower()


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        beside = {key: value for key, value in part.items() if key != "$ref"}
        return {**_inlined(definitions[part["$ref"].rsplit("/", 1)[-1]], definitions), **beside}
    return {key: _inlined(value, definitions) for key, value in part.items()}
