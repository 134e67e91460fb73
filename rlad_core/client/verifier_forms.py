"""What a verifier's REST interface says, in the forms of its JSON."""

from pydantic import BaseModel, Field

from rlad_core.client.forms import Load


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
    max_solved_prompts_per_request: int
    max_body_bytes: int
    max_queued_responses: int
    timeout_s: float
    schema_versions: dict[str, int]
    load: Load
