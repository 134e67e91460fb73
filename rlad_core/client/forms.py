"""What a teacher's REST interface says, in the forms of its JSON; Arrow tables have `rlad_core.schema`."""

from pydantic import BaseModel, ConfigDict, Field

from rlad_core.client.errors import LimitError
from rlad_core.client.made_with import MadeWith

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


class TeacherLimits(BaseModel):
    """What one request may ask for; shown in ``/v1/info``. A single sequence is limited by the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_sequences_per_request: int = Field(default=4096, gt=0)
    max_tokens_per_request: int = Field(
        default=2**20,
        gt=0,
        description="Of prompts and responses together, and what more is told of each response token: its "
        "top_k likeliest tokens, those that were named, the probability of the end tokens.",
    )
    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="Of an HTTP request.")
    max_queued_tokens: int = Field(
        default=2**22,
        gt=0,
        description="Of requests that wait in one replica; what comes on top is refused with 429.",
    )
    max_top_k: int = Field(default=128, ge=0, description="Likeliest tokens for each place, and named ones.")
    max_hidden_bytes: int = Field(
        default=256 * 2**20, ge=0, description="Of the hidden states that are told of one request."
    )
    max_end_token_ids: int = Field(default=64, ge=0, description="End tokens of one request.")
    timeout_s: float = Field(default=600.0, gt=0, description="Longest time for one request's scores.")

    def check(self, sequences: int, tokens: int, told: int = 0) -> None:
        """Refuse a request of so many sequences and tokens if that is too many.

        Args:
            sequences, tokens: what is to be scored.
            told: numbers that the answer is to tell besides; they take memory as the scored tokens do.

        Raises:
            LimitError: says which limit and how much.
        """
        if sequences > (most := self.max_sequences_per_request):
            raise LimitError("sequences", f"{sequences} sequences in one request; at most {most} are taken")
        if tokens + told > (most := self.max_tokens_per_request):
            also = f" and {told} numbers to tell of them" if told else ""
            raise LimitError("tokens", f"{tokens} tokens{also} in one request; at most {most} are taken")

    def check_hidden(self, size: int) -> None:
        """Refuse to tell hidden states of so many bytes if that is too many.

        Raises:
            LimitError: says how much.
        """
        if size > (most := self.max_hidden_bytes):
            raise LimitError(
                "hidden_states", f"{size} bytes of hidden states in one request; at most {most} are told"
            )


class TokenLogprob(BaseModel):
    """A token the teacher could have written."""

    token_id: int
    logprob: float


class SequenceScore(BaseModel):
    """The score of one response."""

    id: str
    logprobs: list[float] = Field(description="Natural logarithm, temperature 1, one per response token.")
    logprob_sum: float
    token_count: int = Field(description="Response tokens.")
    prompt_token_ids: list[int] | None = Field(default=None, description="Where text was sent.")
    response_token_ids: list[int] | None = Field(default=None, description="Where text was sent.")
    top: list[list[TokenLogprob]] | None = Field(default=None, description="Likeliest first.")
    entropy: list[float] | None = None
    named_logprobs: list[list[float]] | None = Field(
        default=None, description="Of the tokens that were named for each place."
    )
    hidden_states: list[list[float]] | None = Field(
        default=None, description="After the final norm, at each place."
    )
    tokens: list[str] | None = Field(default=None, description="Of the response, as strings.")
    offsets: list[tuple[int, int]] | None = Field(
        default=None,
        description="Of each the first character and the one behind its last: in the response as it was "
        "sent, or in what its token ids decode to.",
    )
    end_logprobs: list[float] | None = Field(
        default=None, description="Of the end tokens together: the log of their probabilities' sum."
    )


class Usage(BaseModel):
    """What a request came to."""

    sequences: int
    prompt_tokens: int
    scored_tokens: int


class ScoreAnswer(BaseModel):
    """The scores, in the order of the request."""

    model: str
    policy_version: int | None = Field(description="Of a policy that scores itself; null for a teacher.")
    results: list[SequenceScore]
    usage: Usage
    made_with: MadeWith | None = Field(default=None, description="What the log-probs were made with.")


class Load(BaseModel):
    """What the replica that answers has to do."""

    requests: int = Field(description="Over HTTP that were let in and are not answered.")
    callers_waiting: int = Field(description="Callers with something that waits for the engine or a worker.")
    waiting: int = Field(description="Sequences, prompts or checks that wait so.")
    waiting_tokens: int | None = Field(default=None, description="Of those, where they have tokens.")


class TeacherInfo(BaseModel):
    """What is served, and within which limits."""

    model: str
    engine: str
    dtype: str
    max_model_len: int = Field(description="Tokens of prompt and response together.")
    vocab_size: int = Field(description="Token ids are below it.")
    hidden_size: int = Field(description="Numbers of a hidden state.")
    tells_entropy: bool = Field(description="Whether the engine can.")
    details: list[str] = Field(description="What may be asked for besides log-probs.")
    takes_shared_prompts: bool = Field(
        default=False, description="Whether a group's prompt may be sent once, see POST /v1/score."
    )
    tokenizer_fingerprint: str
    chat_template_fingerprint: str | None = Field(description="null: the tokenizer has no chat template.")
    made_with: MadeWith | None = Field(
        default=None, description="What log-probs are made with; every answer says it of its own."
    )
    schema_versions: dict[str, int]
    limits: TeacherLimits
    load: Load | None = None


class TokenizerInfo(BaseModel):
    """The served model's tokenizer, as far as another model must agree with it."""

    vocabulary: dict[str, int] = Field(description="Token -> id, added tokens included.")
    special_tokens: dict[str, str] = Field(description="Such as eos_token -> <|im_end|>.")
    chat_template: str | None
    end_token_ids: list[int] = Field(
        default=[], description="Every token that ends a turn, by tokenizer and generation config."
    )
