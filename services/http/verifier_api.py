"""Requests and answers of the verifier's HTTP interface."""

import json
from typing import Any

import orjson
import pyarrow as pa
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from rlad_core import schema
from services.http.bodies import JSON, Body, arrow_answer, to_model, to_table
from services.http.problems import ProblemError


class ResponseIn(BaseModel):
    """One response to judge."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        default=None, min_length=1, description="Yours; by default its place, '0', '1', ..."
    )
    task: str | None = Field(default=None, min_length=1, description="By default the request's.")
    response: str = Field(description="What the model wrote, special tokens left out.")
    gold: str | dict[str, Any] | None = Field(
        default=None,
        description="What the task judges by, as it stands in prompts' column `gold`, or as a JSON object; "
        "by default the request's.",
    )


class VerifyRequest(BaseModel):
    """Responses to judge."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "task": "math",
                "gold": {"answer": "\\frac{1}{2}"},
                "responses": [{"id": "a", "response": "So it is \\boxed{0.5}."}],
            }
        },
    )

    task: str | None = Field(default=None, min_length=1, description="Of all responses that name none.")
    gold: str | dict[str, Any] | None = Field(default=None, description="Of all responses that bring none.")
    responses: list[ResponseIn] = Field(min_length=1)


class Judged(BaseModel):
    """How one response was judged."""

    id: str
    reward: float
    reward_parts: dict[str, float]
    correct: bool
    verdict: str = Field(description="What is wrong with it in words, or that nothing is.")


class VerifyAnswer(BaseModel):
    """The verdicts, in the order of the request."""

    results: list[Judged]


class VerifierInfo(BaseModel):
    """What is judged here, and within which limits."""

    tasks: list[str]
    check_time_limit_s: float
    check_memory_limit_mib: int
    max_responses_per_request: int
    max_body_bytes: int
    timeout_s: float
    schema_versions: dict[str, int]


def read_request(body: Body) -> pa.Table:
    """RESPONSES of the body of ``POST /v1/verify``, their values not yet checked where it is Arrow.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
    """
    if body.encoding == "arrow":
        return to_table(body.content)
    asked = to_model(body.content, VerifyRequest)
    rows = []
    for place, each in enumerate(asked.responses):
        task, gold = each.task or asked.task, asked.gold if each.gold is None else each.gold
        for name, value in (("task", task), ("gold", gold)):
            if value is None:
                raise _invalid(f"responses[{place}].{name}: missing, here and for the whole request")
        # Not orjson: it refuses integers above 64 bits and writes NaN as null.
        text = gold if isinstance(gold, str) else json.dumps(gold)
        rows.append(
            {"sequence_id": each.id or str(place), "task": task, "response": each.response, "gold": text}
        )
    try:
        return schema.build(schema.RESPONSES, rows)
    except schema.SchemaError as error:
        raise _invalid(str(error)) from error


def write_answer(rewards: pa.Table, body: Body) -> Response:
    """The answer: REWARDS as they are, or as JSON."""
    if body.answer == "arrow":
        return arrow_answer(rewards)
    results = [
        {
            "id": row["sequence_id"],
            "reward": row["reward"],
            "reward_parts": dict(row["reward_parts"]),
            "correct": row["correct"],
            "verdict": row["verdict"],
        }
        for row in rewards.to_pylist()
    ]
    return Response(orjson.dumps({"results": results}), media_type=JSON)


def _invalid(detail: str) -> ProblemError:
    return ProblemError(422, "The request cannot be worked on", detail)
