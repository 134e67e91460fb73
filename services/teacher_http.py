"""The teacher's HTTP interface: requests and answers as JSON or as an Arrow IPC stream, as the headers say.

Bodies are read and written by hand: a request is a hundred thousand integers, and those should pass from
bytes to arrays once.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlad_core import schema
from services.errors import LimitError
from services.problems import ProblemError, documented, faults
from services.teacher_settings import TeacherLimits

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
Encoding = Literal["json", "arrow"]
_MEDIA_TYPES: dict[Encoding, str] = {"json": JSON, "arrow": ARROW}

TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class SequenceIn(BaseModel):
    """One response to score after its prompt."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        default=None, min_length=1, description="Yours; by default its place, '0', '1', ..."
    )
    prompt_token_ids: list[TokenId] = Field(min_length=1)
    response_token_ids: list[TokenId] = Field(min_length=1)


class ScoreRequest(BaseModel):
    """Responses to score."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "sequences": [
                    {"id": "a", "prompt_token_ids": [11, 12, 13], "response_token_ids": [14, 15]},
                    {"id": "b", "prompt_token_ids": [11, 12, 13], "response_token_ids": [16]},
                ]
            }
        },
    )

    model: str | None = Field(
        default=None, description="Refused with 404 where it is not the one that is served."
    )
    sequences: list[SequenceIn] = Field(min_length=1)


class SequenceScore(BaseModel):
    """The score of one response."""

    id: str
    logprobs: list[float] = Field(description="Natural logarithm, temperature 1, one per response token.")
    logprob_sum: float
    token_count: int = Field(description="Response tokens.")


class Usage(BaseModel):
    """What a request came to."""

    sequences: int
    prompt_tokens: int
    scored_tokens: int


class ScoreAnswer(BaseModel):
    """The scores, in the order of the request."""

    model: str
    policy_version: int | None = Field(description="Of a policy that scores itself; null for a teacher.")
    results: list[SequenceScore]
    usage: Usage


class TeacherInfo(BaseModel):
    """What is served, and within which limits."""

    model: str
    engine: str
    dtype: str
    max_model_len: int = Field(description="Tokens of prompt and response together.")
    vocab_size: int = Field(description="Token ids are below it.")
    tokenizer_fingerprint: str
    schema_versions: dict[str, int]
    limits: TeacherLimits


class Health(BaseModel):
    """How the service is."""

    status: Literal["up", "ready"]


#: What the route of `read_request` and `write_answer` tells the OpenAPI document.
SCORE_DOCS: dict[str, Any] = {
    "response_model": ScoreAnswer,
    "responses": {
        200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}},
        **documented(400, 404, 413, 415, 422, 429, 500, 503, 504),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
}


@dataclass(frozen=True)
class Wanted:
    """A request that was read.

    Args:
        sequences: SEQUENCES, its values not yet checked.
        model: the model it names, if it names one.
        encoding: of the request, for metrics.
        answer: encoding that the answer is wanted in.
    """

    sequences: pa.Table
    model: str | None
    encoding: Encoding
    answer: Encoding


async def read_request(request: Request, limits: TeacherLimits, tokenizer_fingerprint: str) -> Wanted:
    """Read a request of ``POST /v1/score``.

    Args:
        tokenizer_fingerprint: written on tables made from JSON, whose ids are taken to be this service's.

    Raises:
        ProblemError: 400 not readable, 415 neither JSON nor Arrow, 422 not of the documented form.
        LimitError: the body is too large.
    """
    content_type = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    encoding: Encoding = "arrow" if content_type == ARROW else "json"
    # curl -d says x-www-form-urlencoded unless told otherwise, and JSON is what people then send.
    if content_type not in (JSON, ARROW, "application/x-www-form-urlencoded"):
        raise ProblemError(415, "Unsupported media type", f"{content_type!r}: send {JSON} or {ARROW}")
    body = await _body(request, limits.max_body_bytes)
    if encoding == "arrow":
        try:
            table, model = schema.from_ipc(body), None
        except schema.SchemaError as error:
            raise ProblemError(400, "The body cannot be read", str(error)) from error
    else:
        table, model = _from_json(body, tokenizer_fingerprint)
    accepted = request.headers.get("accept", "")
    answer = next((name for name, media in _MEDIA_TYPES.items() if media in accepted), encoding)
    return Wanted(table, model, encoding, answer)


def write_answer(wanted: Wanted, scores: pa.Table, *, model: str) -> Response:
    """The answer to `wanted`: TEACHER_SCORES as they are, or as JSON with sums and counts."""
    if wanted.answer == "arrow":
        return Response(schema.to_ipc(scores), media_type=ARROW)
    values, offsets = schema.flatten(scores.column("teacher_logprobs"))
    results = [
        {
            "id": sequence_id,
            "logprobs": values[start:stop],
            # In float64: the sum of thousands of float32 values loses digits that a reader may compare.
            "logprob_sum": float(values[start:stop].sum(dtype=np.float64)),
            "token_count": int(stop - start),
        }
        for sequence_id, (start, stop) in zip(
            scores.column("sequence_id").to_pylist(), pairwise(offsets), strict=True
        )
    ]
    usage = {
        "sequences": scores.num_rows,
        "prompt_tokens": int(schema.lengths(wanted.sequences.column("prompt_token_ids")).sum()),
        "scored_tokens": int(values.size),
    }
    answer = {"model": model, "policy_version": None, "results": results, "usage": usage}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than the limit: its announced length may be missing or wrong."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise LimitError("body", f"the body has more than {most} bytes, the most that is taken")
        parts.append(part)
    return b"".join(parts)


def _from_json(body: bytes, tokenizer_fingerprint: str) -> tuple[pa.Table, str | None]:
    try:
        asked = ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        found = faults(error.errors(include_url=False, include_context=False, include_input=False))
        if error.errors()[0]["type"] == "json_invalid":
            raise ProblemError(400, "The body cannot be read", found[0].message) from error
        first = f"{found[0].path}: {found[0].message}"
        raise ProblemError(422, "The request cannot be worked on", first, found[:20]) from error
    try:
        table = schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": [s.id or str(place) for place, s in enumerate(asked.sequences)],
                "prompt_token_ids": [s.prompt_token_ids for s in asked.sequences],
                "response_token_ids": [s.response_token_ids for s in asked.sequences],
            },
            tokenizer_fingerprint=tokenizer_fingerprint,
        )
    except schema.SchemaError as error:
        raise ProblemError(422, "The request cannot be worked on", str(error)) from error
    return table, asked.model
