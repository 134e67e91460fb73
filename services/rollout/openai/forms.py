"""Chat completions as OpenAI's API answers them, for its documents; they are written by hand."""

from typing import Literal

from pydantic import BaseModel, Field

from services.serve.openai.answers import Usage


class Answer(BaseModel):
    """What was written."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class LikelyToken(BaseModel):
    """A token at its place."""

    token: str
    logprob: float = Field(description="Natural logarithm, temperature 1, of the whole vocabulary.")
    bytes: list[int]


class WrittenToken(LikelyToken):
    """The token that was written."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(BaseModel):
    """Of each token that was written."""

    content: list[WrittenToken]
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: Answer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]
    token_ids: list[int] | None = Field(default=None, description="With return_token_ids.")


class ChatCompletion(BaseModel):
    """An answer of ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = Field(
        default=None, description="With return_token_ids; of a stream with its first event."
    )
