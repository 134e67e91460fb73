"""What a rollout service's REST interface says, in the forms of its JSON."""

from pydantic import BaseModel, ConfigDict, Field

from rlad_core.client.errors import LimitError
from rlad_core.client.forms import Load


class RolloutLimits(BaseModel):
    """What one request over HTTP may ask for; a run's own calls by handle are bounded by its slots."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_responses_per_request: int = Field(default=4096, gt=0, description="Prompts times group size.")
    max_tokens_per_request: int = Field(
        default=9 * 2**20,  # 256 responses of 32,768 tokens, and a million tokens of prompts
        gt=0,
        description="Of prompts and longest responses together, and the likeliest tokens that are told at "
        "each place of a response.",
    )
    max_top_k: int = Field(default=20, ge=0, description="Likeliest tokens that are told at each place.")
    max_unfinished_responses: int = Field(
        default=8192, gt=0, description="In one replica; what comes on top is refused with 429."
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        gt=0,
        description="Of an HTTP request, and of prompts that its answers repeat in OpenAI's forms.",
    )

    def check_tokens(self, tokens: int, told: int = 0) -> None:
        """Refuse a request that may come to so many tokens if that is too many.

        Args:
            tokens: of prompts and longest responses.
            told: numbers that the answer is to tell besides; they take memory as the tokens do.

        Raises:
            LimitError: says how much.
        """
        if tokens + told > (most := self.max_tokens_per_request):
            also = f" and {told} numbers to tell of them" if told else ""
            raise LimitError(
                "tokens",
                f"{tokens} tokens of prompts and longest responses{also} in one request; at most {most} are "
                "taken. Ask for fewer or shorter ones, or in several requests",
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
