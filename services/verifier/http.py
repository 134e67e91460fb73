"""Requests and answers of the verifier's HTTP interface."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import pyarrow as pa
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rlad_core import schema
from rlad_core.client.errors import LimitError, UnknownNameError
from rlad_core.tasks.base import Task
from rlad_core.turn import opened_by
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body, to_table
from services.serve.http.elements import Elements, OwnIds, Strings, rows_of
from services.serve.http.json_forms import invalid, to_form
from services.serve.http.problems import ProblemError
from services.serve.http.texts import refuse_over
from services.serve.unfit_tables import refusal
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
    max_length=2**16,  # of a puzzle with all around it; a task goes through it several times
    description="Instead of gold, for tasks that can solve their prompts: the prompt that was answered; "
    "by default the request's.",
)
_OPENED = Meta(
    description="What the prompt had already written of the model's turn, such as '<think>', or an empty "
    "block of thoughts; it is judged with the response. By default the request's, or what the end of "
    "`prompt` shows.",
)
_MOST_GOLD_BYTES = 2**20
_HELD_AT_A_TIME = 2**16
_MAY_PROMPT = re.compile(rb'"prompt"|\\')
"""In a list of responses of which one has a prompt; its name may be spelled with escapes."""


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


class Defaults(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of all responses of a request that do not say it themselves."""

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

    def __post_init__(self) -> None:
        _check_gold(self)


class VerifyRequest(Defaults, forbid_unknown_fields=True, kw_only=True):
    """Responses to judge."""

    responses: Annotated[list[Annotated[ResponseIn, Meta(extra_json_schema=_NOT_BOTH)]], Meta(min_length=1)]


class UnreadRequest(Defaults, forbid_unknown_fields=True, kw_only=True):
    """A `VerifyRequest` whose responses are bytes as yet, see `services.serve.http.elements`."""

    responses: Raw


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
        LimitError: more responses, or prompts to solve, than one request may have; or, with what is said of
            all of them written out for each, more bytes.
        BusyError: there is no memory for what is written out beside other bodies.
    """
    most = limits.max_responses_per_request
    if body.encoding == "arrow":
        table = to_table(body.content)
        refuse_over("sequences", table.num_rows, most, "responses")
        return table
    # Gold may hold objects of its own.
    asked = to_form(body.content, UnreadRequest, 1 + most * _OBJECTS)
    responses = Elements(asked.responses, ResponseIn, "responses", most)
    responses.refuse_none()
    _refuse_many_prompts(asked, responses, limits.max_solved_prompts_per_request)
    ids, solved = OwnIds("responses"), dict[tuple[str, str], str]()
    gold_of_all = _gold(asked.gold, "gold") if isinstance(asked.gold, Raw) else None
    task_names, texts, golds = Strings(), Strings(), Strings()
    written, held = 0, len(body.content)
    for place, each in enumerate(responses):
        ids.add(each.id)
        where, task = f"responses[{place}]", asked.task if each.task is UNSET else each.task
        source = asked if each.gold is UNSET and each.prompt is UNSET else each
        if isinstance(task, UnsetType):
            raise invalid(f"{where}.task", "missing, here and for the whole request")
        if isinstance(source.prompt, str):
            if (key := (task, source.prompt)) not in solved:
                solved[key] = _solve(*key, tasks, where, "prompt" if source is asked else f"{where}.prompt")
            gold = solved[key]
        elif source is asked and gold_of_all is not None:
            gold = gold_of_all
        elif isinstance(source.gold, Raw):
            gold = _gold(source.gold, f"{where}.gold")
        else:
            raise invalid(f"{where}.gold", "missing, here and for the whole request, and a prompt as well")
        # What is said once of all of them is with each from here on.
        written += (
            task_names.add(task) + texts.add(_opened(each, asked, source) + each.response) + golds.add(gold)
        )
        if written > limits.max_body_bytes:
            raise LimitError(
                "body",
                f"{where}: with task, gold and `opened` of each, the responses up to here come to more than "
                f"{limits.max_body_bytes} bytes, the most that is taken; send them in several requests",
            )
        if written > held + _HELD_AT_A_TIME:
            body.hold(written - held)
            held = written
    columns = {
        "sequence_id": ids.packed(),
        "task": task_names.packed(),
        "response": texts.packed(),
        "gold": golds.packed(),
    }
    try:
        return schema.build(schema.RESPONSES, columns)
    except schema.SchemaError as error:
        raise refusal(error, "responses") from error


def _refuse_many_prompts(asked: UnreadRequest, responses: Elements[ResponseIn], most: int) -> None:
    """See that no more different prompts are to be solved.

    Raises:
        ProblemError: 422, a response is not of the form.
        LimitError: there are more.
    """
    prompts = {asked.prompt} - {UNSET}
    if _MAY_PROMPT.search(memoryview(asked.responses)):
        prompts |= {each.prompt for each in responses} - {UNSET}
    refuse_over("sequences", len(prompts), most, "prompts to solve")


def results_of(rewards: pa.Table) -> Iterator[dict[str, Any]]:
    """REWARDS as JSON has them."""
    for row in rows_of(rewards):
        yield {
            "id": row["sequence_id"],
            "reward": row["reward"],
            "reward_parts": dict(row["reward_parts"]),
            "correct": row["correct"],
            "verdict": row["verdict"],
        }


TELLING = Telling(lambda rewards, _: results_of(rewards))
"""How REWARDS are told: as they are, or as JSON."""


def _check_gold(form: ResponseIn | Defaults) -> None:
    if form.gold is not UNSET and form.prompt is not UNSET:
        raise ValueError("give one of gold, prompt, not gold and prompt")
    if isinstance(form.gold, Raw) and not bytes(form.gold).lstrip().startswith((b'"', b"{")):
        raise ValueError("gold: Expected `str | object`")


def _opened(response: ResponseIn, request: Defaults, source: ResponseIn | Defaults) -> str:
    """What stands before the response in the model's turn; `source` has its gold or prompt."""
    for said in (response.opened, request.opened):
        if isinstance(said, str):
            return said
    return opened_by(source.prompt) if isinstance(source.prompt, str) else ""


def _gold(raw: Raw, where: str) -> str:
    """Gold as text: a string as it is, an object as JSON."""
    text = bytes(raw)
    if len(text) > _MOST_GOLD_BYTES:
        raise invalid(where, f"has {len(text)} bytes; at most {_MOST_GOLD_BYTES} are taken")
    try:
        # Not orjson or msgspec: they refuse integers above 64 bits.
        value = json.loads(text)
        gold = value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "The body cannot be read", f"Invalid JSON: {where}: {error}") from error
    try:
        gold.encode()
    except UnicodeEncodeError as error:  # half of a pair, in bytes that are no UTF-8, which Raw lets pass
        raise invalid(where, f"is no text: {error}") from error
    return gold


def _solve(task: str, prompt: str, tasks: Mapping[str, Task | None], where: str, asked_at: str) -> str:
    """Gold of a prompt.

    Args:
        where: the response that it is for.
        asked_at: the prompt's place in the request.
    """
    if task not in tasks:
        raise UnknownNameError(
            f"{where}: task {task[:100]!r} is not judged here; known are {', '.join(tasks)}"
        )
    if (solver := tasks[task]) is None:
        raise invalid(asked_at, f"task {task!r} is a user's own, which solves no prompts; give gold")
    try:
        return solver.gold_of(prompt)
    except ValueError as error:
        raise invalid(asked_at, str(error)) from error
