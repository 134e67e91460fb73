"""Completions as OpenAI's API answers them, for its documents; they are written by hand."""

import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field


class Usage(BaseModel):
    """What a request came to, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PromptLogprob(BaseModel):
    """A token at a place of the prompt."""

    logprob: float = Field(description="Natural logarithm, temperature 1.")
    rank: int = Field(description="1: no other token is likelier.")
    decoded_token: str


class Logprobs(BaseModel):
    """Of each token of the choice's text."""

    text_offset: list[int] = Field(description="Character of the text at which the token begins.")
    token_logprobs: list[float | None] = Field(
        description="Natural logarithm, temperature 1; null for the first token of a prompt."
    )
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None] = Field(
        description="The likeliest tokens and the token itself, which has the same number here and there."
    )


class CompletionChoice(BaseModel):
    """The completion of one prompt."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = Field(
        default=None, description="Where they were asked for: by token id, as vLLM's server tells them."
    )
    prompt_token_ids: list[int] | None = Field(default=None, description="With return_token_ids.")
    token_ids: list[int] | None = Field(default=None, description="Of the completion, with return_token_ids.")


class Completion(BaseModel):
    """An answer of ``POST /v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


def head(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """How every answer begins.

    Args:
        kind: the field ``object``.
        prefix: of its id.
    """
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """See `Usage`."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
