"""Requests and answers of the rollout service's HTTP interface."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta, Raw, Struct
from pydantic import BaseModel, Field, ValidationError

from rlad_core import schema
from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.settings import SamplingSettings
from services.rollout.sizes import group_tokens
from services.serve.http.answers import Beside, Telling
from services.serve.http.bodies import Body, to_table
from services.serve.http.elements import Elements, OwnIds, rows_of
from services.serve.http.json_forms import decode, invalid, one_of, to_form
from services.serve.http.problems import MOST_FAULTS, ProblemError, faults
from services.serve.http.query_values import AS_WHOLE, Flag, Number, Whole
from services.serve.http.streams import InBatches
from services.serve.http.texts import PromptIn, Reader, check_one_given, letters_of, refuse_over
from services.serve.http.token_columns import TokenColumn
from services.serve.token_sum import TokenSum
from services.serve.unfit_tables import refusal

_INVALID = "The request cannot be worked on"
_MESSAGES = 8
_MOST_SETTINGS_BYTES = 4096
_WITH_ARROW = "With Arrow; else in the body."


class RolloutPrompt(PromptIn, forbid_unknown_fields=True, kw_only=True):
    """A prompt to answer."""

    def __post_init__(self) -> None:
        check_one_given(self, "prompt_token_ids", "prompt", "messages")


_ALTERNATIVES = one_of(("prompt_token_ids", "prompt", "messages"))
_SAMPLING = {
    **SamplingSettings.model_json_schema(),
    "description": "With training: true (the default) the log-probs are those of the sampled distribution.",
}


class RolloutRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Prompts, and how to sample responses to them."""

    prompts: Annotated[
        list[Annotated[RolloutPrompt, Meta(extra_json_schema=_ALTERNATIVES)]], Meta(min_length=1)
    ]
    sampling: Annotated[Raw, Meta(extra_json_schema=_SAMPLING)]


class UnreadRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A `RolloutRequest` whose prompts are bytes as yet, see `services.serve.http.elements`."""

    prompts: Raw
    sampling: Raw


_Count = Annotated[int, Field(gt=0, lt=2**31), AS_WHOLE]
_NOT_GIVEN: Any = None
"""Not of a type with None: no query can say that, and a fault would be told once for each type."""


class SamplingQuery(BaseModel):
    """`SamplingSettings` as query parameters, each by itself; what they come to together is checked there."""

    group_size: _Count = Field(
        default=_NOT_GIVEN, description="With Arrow, which needs it; else in the body."
    )
    max_tokens: _Count = Field(
        default=_NOT_GIVEN, description="With Arrow, which needs it; else in the body."
    )
    temperature: Number = Field(default=1.0, ge=0, le=2, description=_WITH_ARROW)
    top_p: Number = Field(default=1.0, gt=0, le=1, description=_WITH_ARROW)
    top_k: Whole = Field(default=0, ge=0, lt=2**31, description=_WITH_ARROW)
    seed: Whole = Field(default=_NOT_GIVEN, ge=0, lt=2**63, description=_WITH_ARROW)
    stop_token_ids: str = Field(
        default=_NOT_GIVEN,
        pattern=r"^[0-9]{1,10}(,[0-9]{1,10}){0,63}$",
        description="With commas between, or each by itself. " + _WITH_ARROW,
    )
    training: Flag = Field(default=True, description=_WITH_ARROW)


class RolloutQuery(SamplingQuery, InBatches):
    """Query parameters of ``POST /v1/rollouts``."""


EXAMPLE: dict[str, Any] = {
    "prompts": [{"id": "a", "prompt_token_ids": [11, 12, 13]}],
    "sampling": {"group_size": 2, "max_tokens": 16, "seed": 1},
}


def read_request(
    body: Body, query: dict[str, str], reader: Reader, fingerprint: str, limits: RolloutLimits
) -> tuple[pa.Table, SamplingSettings]:
    """Prompts as the deployment's ``generate`` takes them, and the sampling.

    Args:
        query: with Arrow, the sampling settings; with JSON they are in the body, and nothing is here.
        limits: looked at before anything is tokenized, and while it is.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
        LimitError: more responses or tokens than one request may ask for.
    """
    if body.encoding == "arrow":
        table = to_table(body.content)
        try:
            schema.validate(table, schema.PROMPTS)
        except schema.SchemaError as error:
            raise refusal(error, "prompts", table) from error
        try:
            sampling = SamplingSettings.model_validate(query | _ids_in(query))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "sampling"
            raise invalid(f"query.{where}", first["msg"].removeprefix("Value error, ")) from error
        _check(table.num_rows, sampling, limits)
        sizes = schema.lengths(table.column("prompt_token_ids"))
        limits.check_tokens(int(group_tokens(sizes, sampling, reader.max_length).sum()))
        columns = table.select(["prompt_id", "prompt_token_ids"])
        return columns.append_column("group_id", table.column("prompt_id")), sampling
    for name in query:
        raise invalid(
            f"query.{name}", f"is read with Arrow alone; with JSON write it in the body, sampling.{name}"
        )
    most = limits.max_responses_per_request
    asked = to_form(body.content, UnreadRequest, 2 + most * (1 + _MESSAGES))
    sampling = _sampling(bytes(asked.sampling))
    prompts = Elements(asked.prompts, RolloutPrompt, "prompts", most)
    prompts.refuse_none()
    _check(len(prompts), sampling, limits)
    ids, tokens = OwnIds("prompts"), TokenColumn(len(prompts))
    letters = np.zeros(len(prompts), np.int64)
    for place, prompt in enumerate(prompts):
        ids.add(prompt.id)
        if isinstance(prompt.prompt_token_ids, Raw):
            tokens[place] = reader.prompt(prompt, f"prompts[{place}]")
        else:
            letters[place] = letters_of(prompt.prompt, prompt.messages)
    names, is_text = ids.packed(), tokens.missing
    limits.check_tokens(int(group_tokens(tokens.sizes[~is_text], sampling, reader.max_length).sum()))
    if is_text.any():
        _read_texts(prompts, tokens, letters, sampling, reader, limits)
    table = pa.table({"group_id": names, "prompt_id": names, "prompt_token_ids": tokens.packed()})
    return table.replace_schema_metadata({b"rlad.tokenizer": fingerprint.encode()}), sampling


def _read_texts(
    prompts: Elements[RolloutPrompt],
    tokens: TokenColumn,
    letters: npt.NDArray[np.int64],
    sampling: SamplingSettings,
    reader: Reader,
    limits: RolloutLimits,
) -> None:
    """Those that came as text, within the limit of tokens."""
    counted = TokenSum(limits.max_tokens_per_request)
    for place, prompt in prompts.first(reader.may_be_too_long(letters)):
        if place not in tokens:
            tokens[place] = reader.prompt(prompt, f"prompts[{place}]")
        counted.add(int(tokens.sizes[place]), f"prompts[{place}]")
    limits.check_tokens(int(group_tokens(tokens.sizes, sampling, reader.max_length).sum()))


def one_each(query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The sampling's query parameters: of one that is there again its last value, of the end tokens all."""
    return {
        name: ",".join(values) if name == "stop_token_ids" else values[-1]
        for name, values in query.items()
        if name != "stream"
    }


def _ids_in(query: dict[str, str]) -> dict[str, list[str]]:
    """The one setting that is a list, as ``stop_token_ids=1,5``."""
    return {name: query[name].split(",") for name in ("stop_token_ids",) if name in query}


def _check(prompts: int, sampling: SamplingSettings, limits: RolloutLimits) -> None:
    refuse_over("sequences", prompts * sampling.group_size, limits.max_responses_per_request, "responses")


def _sampling(text: bytes) -> SamplingSettings:
    if len(text) > _MOST_SETTINGS_BYTES:
        raise invalid("sampling", f"has {len(text)} bytes, more than all that may be set takes")
    given = decode(text, dict[str, Any], "sampling")
    # Lists are flat; what lies deeper is refused as it is, and not followed for as many levels as it has.
    whole = {
        name: [_whole(each) for each in value] if isinstance(value, list) else _whole(value)
        for name, value in given.items()
    }
    try:
        # As JSON, whose lists are tuples too where it is strict.
        return SamplingSettings.model_validate_json(json.dumps(whole), strict=True)
    except RecursionError as error:  # what was read had a few levels less than it may have to be written
        raise invalid("sampling", "too many levels") from error
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        found = faults(told[:MOST_FAULTS])
        for fault in found:
            fault.path = "sampling" if fault.path == "(body)" else f"sampling.{fault.path}"
        raise ProblemError(422, _INVALID, f"{found[0].path}: {found[0].message}", found) from error


def _whole(value: Any) -> Any:
    """5.0 is an integer to JSON Schema, and not to pydantic where it is strict."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def telling(prompts: pa.Table, *, model: str, version: Callable[[], int]) -> Telling:
    """How the ROLLOUTS of prompts are told: as they are, or as JSON.

    Args:
        version: the policy's, asked for when the answer is begun.
    """
    return Telling(lambda rollouts, _: results_of(rollouts), lambda: _Beside(prompts, model, version))


class _Beside(Beside):
    """Beside the responses to prompts: by what they were made, and how much they are."""

    def __init__(self, prompts: pa.Table, model: str, version: Callable[[], int]) -> None:
        self._prompts, self._model, self._version = prompts, model, version
        self._responses = self._response_tokens = 0

    def begin(self) -> dict[str, Any]:
        return {"model": self._model, "policy_version": self._version()}

    def add(self, done: pa.Table) -> None:
        self._responses += done.num_rows
        self._response_tokens += int(schema.lengths(done.column("response_token_ids")).sum())

    def end(self) -> dict[str, Any]:
        usage = {
            "prompts": self._prompts.num_rows,
            "responses": self._responses,
            "response_tokens": self._response_tokens,
        }
        return {"usage": usage}


def results_of(rollouts: pa.Table) -> Iterator[dict[str, Any]]:
    """ROLLOUTS as JSON has them."""
    names = {
        "id": "prompt_id",
        "sample_index": "sample_index",
        "token_ids": "response_token_ids",
        "logprobs": "rollout_logprobs",
        "policy_versions": "policy_versions",
        "finish_reason": "finish_reason",
        "text": "response",
    }
    return rows_of(rollouts.select(list(names.values())).rename_columns(list(names)))
