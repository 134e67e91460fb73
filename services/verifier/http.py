"""Requests and answers of the verifier's HTTP interface."""

import json
from collections.abc import Mapping
from typing import Any, Self

import orjson
import pyarrow as pa
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlad_core import schema
from rlad_core.client.errors import UnknownNameError
from rlad_core.client.forms import JSON
from rlad_core.tasks.base import Task
from rlad_core.turn import opened_by
from services.serve.http.bodies import Body, arrow_answer, to_model, to_table
from services.serve.http.problems import ProblemError


class ResponseIn(BaseModel):
    """One response to judge."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        default=None, min_length=1, description="Yours; by default its place, '0', '1', ..."
    )
    task: str | None = Field(default=None, min_length=1, description="By default the request's.")
    response: str = Field(description="What the model wrote, special tokens left out.")
    opened: str | None = Field(
        default=None,
        description="What the prompt had already written of the model's turn, such as '<think>', or an empty "
        "block of thoughts; it is judged with the response. By default the request's, or what the end of "
        "`prompt` shows.",
    )
    gold: str | dict[str, Any] | None = Field(
        default=None,
        description="What the task judges by, as it stands in prompts' column `gold`, or as a JSON object; "
        "by default the request's.",
    )
    prompt: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of gold, for tasks that can solve their prompts: the prompt that was answered; "
        "by default the request's.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _not_both(self)
        return self


class VerifyRequest(BaseModel):
    """Responses to judge."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "task": "my_task",
                "gold": {"answer": "5"},
                "responses": [{"id": "a", "response": "So it is 5."}, {"id": "b", "response": "It is 6."}],
            }
        },
    )

    task: str | None = Field(
        default=None, min_length=1, description="Of all responses that name none; `/v1/info` lists the tasks."
    )
    gold: str | dict[str, Any] | None = Field(
        default=None, description="Of all responses that bring neither gold nor prompt."
    )
    prompt: str | None = Field(default=None, min_length=1, description="The same; one of the two.")
    opened: str | None = Field(
        default=None, description="What the prompt opened of the model's turn; of responses that say none."
    )
    responses: list[ResponseIn] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _not_both(self)
        return self


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


def read_request(body: Body, tasks: Mapping[str, Task | None]) -> pa.Table:
    """RESPONSES of the body of ``POST /v1/verify``, their values not yet checked where it is Arrow.

    Args:
        tasks: by name, to solve prompts; None: a user's own, which is only asked for rewards.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form, or a prompt that the task
            cannot solve.
        UnknownNameError: a prompt of a task that is not judged here.
    """
    if body.encoding == "arrow":
        return to_table(body.content)
    asked = to_model(body.content, VerifyRequest)
    solved: dict[tuple[str, str], str] = {}
    rows = []
    for place, each in enumerate(asked.responses):
        where, task = f"responses[{place}]", each.task or asked.task
        source = asked if each.gold is None and each.prompt is None else each
        if task is None:
            raise _invalid(f"{where}.task: missing, here and for the whole request")
        if source.prompt is not None:
            if (key := (task, source.prompt)) not in solved:
                solved[key] = _solve(*key, tasks, where)
            gold = solved[key]
        elif source.gold is not None:
            # Not orjson: it refuses integers above 64 bits and writes NaN as null.
            gold = source.gold if isinstance(source.gold, str) else json.dumps(source.gold)
        else:
            raise _invalid(f"{where}.gold: missing, here and for the whole request, and a prompt as well")
        rows.append(
            {
                "sequence_id": each.id or str(place),
                "task": task,
                "response": _opened(each, asked, source) + each.response,
                "gold": gold,
            }
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


def _not_both(model: "ResponseIn | VerifyRequest") -> None:
    if model.gold is not None and model.prompt is not None:
        raise ValueError("give one of gold, prompt, not gold and prompt")


def _opened(response: ResponseIn, request: VerifyRequest, source: ResponseIn | VerifyRequest) -> str:
    """What stands before the response in the model's turn; `source` has its gold or prompt."""
    for said in (response.opened, request.opened):
        if said is not None:
            return said
    return opened_by(source.prompt or "")


def _solve(task: str, prompt: str, tasks: Mapping[str, Task | None], where: str) -> str:
    if task not in tasks:
        raise UnknownNameError(f"{where}: task {task!r} is not judged here; known are {', '.join(tasks)}")
    if (solver := tasks[task]) is None:
        raise _invalid(f"{where}.prompt: task {task!r} is a user's own, which solves no prompts; give gold")
    try:
        return solver.gold_of(prompt)
    except ValueError as error:
        raise _invalid(f"{where}.prompt: {error}") from error


def _invalid(detail: str) -> ProblemError:
    return ProblemError(422, "The request cannot be worked on", detail)
