"""What a rollout service's REST interface says, in the forms of its JSON."""

from pydantic import BaseModel, ConfigDict, Field

from rlad_core.client.forms import Load


class RolloutLimits(BaseModel):
    """What one request over HTTP may ask for; a run's own calls by handle are bounded by its slots."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_responses_per_request: int = Field(default=4096, gt=0, description="Prompts times group size.")
    max_unfinished_responses: int = Field(
        default=8192, gt=0, description="In one replica; what comes on top is refused with 429."
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        gt=0,
        description="Of an HTTP request, and of prompts that its answers repeat in OpenAI's forms.",
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
    limits: RolloutLimits
    load: Load
