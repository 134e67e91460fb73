"""Requests and answers of the rollout service's HTTP interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import orjson
import pyarrow as pa
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError
from rlad_core.client.forms import JSON
from services.rollout.settings import SamplingSettings
from services.serve.http.bodies import Body, arrow_answer, to_model, to_table
from services.serve.http.problems import ProblemError
from services.serve.http.texts import PromptIn, check_one_given

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INVALID = "The request cannot be worked on"


class RolloutPrompt(PromptIn):
    """A prompt to answer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_one_given(self, "prompt_token_ids", "prompt", "messages")
        return self


class RolloutRequest(BaseModel):
    """Prompts, and how to sample responses to them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "prompts": [{"id": "a", "prompt_token_ids": [11, 12, 13]}],
                "sampling": {"group_size": 2, "max_tokens": 16, "seed": 1},
            }
        },
    )

    prompts: list[RolloutPrompt] = Field(min_length=1)
    sampling: SamplingSettings = Field(
        description="With training: true (the default) the log-probs are those of the sampled distribution."
    )


class ResponseOut(BaseModel):
    """One sampled response."""

    id: str = Field(description="Of its prompt.")
    sample_index: int
    token_ids: list[int]
    logprobs: list[float] = Field(description="Natural logarithm, temperature 1, one per token.")
    policy_versions: list[int] = Field(description="Of the weights that each token was sampled with.")
    finish_reason: str
    text: str


class RolloutUsage(BaseModel):
    """What a request came to."""

    prompts: int
    responses: int
    response_tokens: int


class RolloutAnswer(BaseModel):
    """The responses, prompt by prompt in the order of the request."""

    model: str
    policy_version: int = Field(description="That the service holds when it answers.")
    results: list[ResponseOut]
    usage: RolloutUsage


class PolicyInfo(BaseModel):
    """What a replica samples from."""

    model: str
    policy_version: int
    checksum: str | None = Field(description="Of the weights that were published; null for version 0.")
    max_model_len: int = Field(description="Tokens of prompt and response together.")
    tokenizer_fingerprint: str
    schema_versions: dict[str, int]


def read_request(
    body: Body, query: dict[str, str], tokenizer: PreTrainedTokenizerBase, fingerprint: str
) -> tuple[pa.Table, SamplingSettings]:
    """Prompts as the deployment's ``generate`` takes them, and the sampling.

    Args:
        query: with Arrow, the sampling settings; with JSON they are in the body.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
    """
    if body.encoding == "arrow":
        table = to_table(body.content)
        try:
            schema.validate(table, schema.PROMPTS)
        except schema.SchemaError as error:
            raise InvalidRequestError(str(error)) from error
        try:
            sampling = SamplingSettings.model_validate(query)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "sampling"
            raise ProblemError(422, _INVALID, f"query parameter {where}: {first['msg']}") from error
        columns = table.select(["prompt_id", "prompt_token_ids"])
        return columns.append_column("group_id", table.column("prompt_id")), sampling
    asked = to_model(body.content, RolloutRequest)
    ids = [prompt.id or str(place) for place, prompt in enumerate(asked.prompts)]
    if len(set(ids)) < len(ids):
        raise ProblemError(422, _INVALID, "prompts: an id occurs twice")
    tokens = [
        prompt.prompt_tokens(tokenizer, f"prompts[{place}]") for place, prompt in enumerate(asked.prompts)
    ]
    kind = schema.PROMPTS.field("prompt_token_ids").type
    table = pa.table({"group_id": ids, "prompt_id": ids, "prompt_token_ids": pa.array(tokens, kind)})
    return table.replace_schema_metadata({b"rlad.tokenizer": fingerprint.encode()}), asked.sampling


def write_answer(rollouts: pa.Table, body: Body, *, model: str, policy_version: int) -> Response:
    """The answer: ROLLOUTS as they are, or as JSON."""
    if body.answer == "arrow":
        return arrow_answer(rollouts)
    names = {
        "id": "prompt_id",
        "sample_index": "sample_index",
        "token_ids": "response_token_ids",
        "logprobs": "rollout_logprobs",
        "policy_versions": "policy_versions",
        "finish_reason": "finish_reason",
        "text": "response",
    }
    rows = rollouts.select(list(names.values())).rename_columns(list(names)).to_pylist()
    answer: dict[str, Any] = {
        "model": model,
        "policy_version": policy_version,
        "results": rows,
        "usage": {
            "prompts": len({row["id"] for row in rows}),
            "responses": len(rows),
            "response_tokens": sum(len(row["token_ids"]) for row in rows),
        },
    }
    return Response(orjson.dumps(answer), media_type=JSON)
