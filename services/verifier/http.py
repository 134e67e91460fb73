"""Requests and answers of the verifier's HTTP interface."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
from fastapi import Response
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rlad_core import schema
from rlad_core.client.errors import UnknownNameError
from rlad_core.tasks.base import Task
from rlad_core.turn import opened_by
from services.serve.http.bodies import Body, arrow_answer, json_answer, lines_answer, to_table
from services.serve.http.json_forms import to_form
from services.serve.http.problems import ProblemError
from services.serve.http.texts import own_ids, refuse_over
from services.verifier.settings import VerifierLimits

_OBJECTS = 8
"""Of a response and its gold, on the average of a full request."""


_GOLD = Meta(
    extra_json_schema={"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": True}]},
    description="What the task judges by, as it stands in prompts' column `gold`, or as a JSON object; "
    "by default the request's.",
)
_PROMPT = Meta(
    min_length=1,
    description="Instead of gold, for tasks that can solve their prompts: the prompt that was answered; "
    "by default the request's.",
)
_OPENED = Meta(
    description="What the prompt had already written of the model's turn, such as '<think>', or an empty "
    "block of thoughts; it is judged with the response. By default the request's, or what the end of "
    "`prompt` shows.",
)
_MOST_GOLD_BYTES = 2**20


class ResponseIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """One response to judge."""

    id: (
        Annotated[str, Meta(min_length=1, description="Yours; by default its place, '0', '1', ...")]
        | UnsetType
    ) = UNSET
    task: Annotated[str, Meta(min_length=1, description="By default the request's.")] | UnsetType = UNSET
    response: Annotated[str, Meta(description="What the model wrote, special tokens left out.")]
    opened: Annotated[str, _OPENED] | UnsetType = UNSET
    gold: Annotated[Raw, _GOLD] | UnsetType = UNSET
    prompt: Annotated[str, _PROMPT] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_gold(self)


_NOT_BOTH = {"not": {"required": ["gold", "prompt"]}}


class VerifyRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Responses to judge."""

    task: (
        Annotated[
            str,
            Meta(min_length=1, description="Of all responses that name none; `/v1/info` lists the tasks."),
        ]
        | UnsetType
    ) = UNSET
    gold: Annotated[Raw, _GOLD] | UnsetType = UNSET
    prompt: Annotated[str, _PROMPT] | UnsetType = UNSET
    opened: Annotated[str, _OPENED] | UnsetType = UNSET
    responses: Annotated[list[Annotated[ResponseIn, Meta(extra_json_schema=_NOT_BOTH)]], Meta(min_length=1)]

    def __post_init__(self) -> None:
        _check_gold(self)


DOCUMENTED = Annotated[VerifyRequest, Meta(extra_json_schema=_NOT_BOTH)]

EXAMPLE: dict[str, Any] = {
    "task": "my_task",
    "gold": {"answer": "5"},
    "responses": [{"id": "a", "response": "So it is 5."}, {"id": "b", "response": "It is 6."}],
}


def read_request(body: Body, tasks: Mapping[str, Task | None], limits: VerifierLimits) -> pa.Table:
    """RESPONSES of the body of ``POST /v1/verify``, their values not yet checked where it is Arrow.

    Args:
        tasks: by name, to solve prompts; None: a user's own, which is only asked for rewards.
        limits: looked at before anything is solved.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form, or a prompt that the task
            cannot solve.
        UnknownNameError: a prompt of a task that is not judged here.
        LimitError: more responses, or prompts to solve, than one request may have.
    """
    most = limits.max_responses_per_request
    if body.encoding == "arrow":
        table = to_table(body.content)
        refuse_over("sequences", table.num_rows, most, "responses")
        return table
    # Gold may hold objects of its own.
    asked = to_form(body.content, VerifyRequest, 1 + most * _OBJECTS)
    refuse_over("sequences", len(asked.responses), most, "responses")
    prompts = {asked.prompt, *(each.prompt for each in asked.responses)} - {UNSET}
    refuse_over("sequences", len(prompts), limits.max_solved_prompts_per_request, "prompts to solve")
    own_ids([each.id for each in asked.responses])
    solved: dict[tuple[str, str], str] = {}
    rows = []
    for place, each in enumerate(asked.responses):
        where, task = f"responses[{place}]", asked.task if each.task is UNSET else each.task
        source = asked if each.gold is UNSET and each.prompt is UNSET else each
        if isinstance(task, UnsetType):
            raise _invalid(f"{where}.task: missing, here and for the whole request")
        if isinstance(source.prompt, str):
            if (key := (task, source.prompt)) not in solved:
                solved[key] = _solve(*key, tasks, where)
            gold = solved[key]
        elif isinstance(source.gold, Raw):
            gold = _gold(source.gold, "gold" if source is asked else f"{where}.gold")
        else:
            raise _invalid(f"{where}.gold: missing, here and for the whole request, and a prompt as well")
        rows.append(
            {
                "sequence_id": str(place) if each.id is UNSET else each.id,
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
        return arrow_answer(rewards, body)
    results = results_of(rewards)
    if body.answer == "ndjson":
        return lines_answer(results, body)
    return json_answer({"results": results}, body)


def results_of(rewards: pa.Table) -> list[dict[str, Any]]:
    """REWARDS as JSON has them."""
    return [
        {
            "id": row["sequence_id"],
            "reward": row["reward"],
            "reward_parts": dict(row["reward_parts"]),
            "correct": row["correct"],
            "verdict": row["verdict"],
        }
        for row in rewards.to_pylist()
    ]


def _check_gold(form: ResponseIn | VerifyRequest) -> None:
    if form.gold is not UNSET and form.prompt is not UNSET:
        raise ValueError("give one of gold, prompt, not gold and prompt")
    if isinstance(form.gold, Raw) and not bytes(form.gold).lstrip().startswith((b'"', b"{")):
        raise ValueError("gold: Expected `str | object`")


def _opened(response: ResponseIn, request: VerifyRequest, source: ResponseIn | VerifyRequest) -> str:
    """What stands before the response in the model's turn; `source` has its gold or prompt."""
    for said in (response.opened, request.opened):
        if isinstance(said, str):
            return said
    return opened_by(source.prompt) if isinstance(source.prompt, str) else ""


def _gold(raw: Raw, where: str) -> str:
    """Gold as text: a string as it is, an object as JSON."""
    text = bytes(raw)
    if len(text) > _MOST_GOLD_BYTES:
        raise _invalid(f"{where}: has {len(text)} bytes; at most {_MOST_GOLD_BYTES} are taken")
    try:
        # Not orjson or msgspec: they refuse integers above 64 bits.
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "The body cannot be read", f"Invalid JSON: {where}: {error}") from error
    return value if isinstance(value, str) else json.dumps(value)


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
