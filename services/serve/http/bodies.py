"""Requests and answers as JSON or as an Arrow IPC stream, as the headers say.

A route that takes both gets its request's body from `services.serve.http.health.Intake`, which reads it with
`read_body`, and says in its OpenAPI entry, through `documents`, what `read_body` would accept.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from rlad_core import schema
from rlad_core.client.errors import LimitError
from rlad_core.client.forms import ARROW, JSON
from services.serve.http.problems import ProblemError, documented, faults

Model = TypeVar("Model", bound=BaseModel)

Encoding = Literal["json", "arrow"]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# curl -d says x-www-form-urlencoded unless told otherwise, and JSON is what people then send.
_ENCODINGS: dict[str, Encoding] = {JSON: "json", "application/x-www-form-urlencoded": "json", ARROW: "arrow"}


@dataclass(frozen=True)
class Body:
    """A request's body, within the limit.

    Args:
        encoding: of the request.
        answer: encoding that the answer is wanted in: what ``Accept`` names, else that of the request.
    """

    content: bytes
    encoding: Encoding
    answer: Encoding


def encoding_of(request: Request) -> Encoding | None:
    """What a request says its body is; None: neither of the two."""
    return _ENCODINGS.get(_content_type(request))


async def read_body(request: Request, max_bytes: int) -> Body:
    """The body, read no further than the limit: its announced length may be missing or wrong.

    Raises:
        ProblemError: 415, neither JSON nor Arrow.
        LimitError: the body is too large.
    """
    if (encoding := encoding_of(request)) is None:
        raise ProblemError(
            415, "Unsupported media type", f"{_content_type(request)!r}: send {JSON} or {ARROW}"
        )
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise LimitError("body", f"the body has more than {max_bytes} bytes, the most that is taken")
        parts.append(part)
    accepted = request.headers.get("accept", "")
    answer: Encoding = "arrow" if ARROW in accepted else "json" if JSON in accepted else encoding
    return Body(b"".join(parts), encoding, answer)


def to_model(content: bytes, model: type[Model]) -> Model:
    """A JSON body as `model`.

    Raises:
        ProblemError: 400 no JSON, 422 not of the documented form; tells every field at fault.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = faults(error.errors(include_url=False, include_context=False, include_input=False))
        if error.errors()[0]["type"] == "json_invalid":
            raise ProblemError(400, "The body cannot be read", found[0].message) from error
        first = f"{found[0].path}: {found[0].message}"
        raise ProblemError(422, "The request cannot be worked on", first, found[:20]) from error


def to_table(content: bytes) -> pa.Table:
    """An Arrow body as a table, its values not yet checked.

    Raises:
        ProblemError: 400, no Arrow IPC stream or a broken one.
    """
    try:
        return schema.from_ipc(content)
    except schema.SchemaError as error:
        raise ProblemError(400, "The body cannot be read", str(error)) from error


def arrow_answer(table: pa.Table) -> Response:
    """The answer as an Arrow IPC stream."""
    return Response(schema.to_ipc(table), media_type=ARROW)


def documents(request: type[BaseModel], answer: type[BaseModel]) -> dict[str, Any]:
    """What a route that takes and gives both encodings tells the OpenAPI document."""
    form = request.model_json_schema(ref_template="#/components/schemas/{model}")
    # OpenAPI keeps definitions in one place; a schema inside a request body may only hold itself.
    definitions = form.pop("$defs", {})
    return {
        "response_model": answer,
        "responses": {
            200: {"content": {ARROW: _BINARY}},
            **documented(400, 401, 404, 413, 415, 422, 429, 500, 503, 504),
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": _inlined(form, definitions)}, ARROW: _BINARY},
            }
        },
    }


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", JSON).split(";")[0].strip().lower()


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rsplit("/", 1)[-1]], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}
