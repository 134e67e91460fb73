"""What may be asked of a teacher besides the response tokens' own log-probs."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rlad_core import schema


@dataclass(frozen=True)
class Details:
    """What is wanted about the place of each response token besides the response token's log-prob.

    Which of them an engine can tell is in ``TeacherInfo.details``, by the names of these fields.

    Args:
        top_k: the likeliest tokens; 0 for none.
        entropy: of the distribution.
        end_token_ids: tokens that count as one outcome, whose probability together is wanted; no id twice.
    """

    top_k: int = 0
    entropy: bool = False
    end_token_ids: tuple[int, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """What is asked for, by field."""
        return frozenset(name for name, value in vars(self).items() if value)

    @property
    def columns(self) -> frozenset[str]:
        """What is asked for, by its columns in TEACHER_DETAILS."""
        return frozenset(column for field in self.fields for column in COLUMNS[field])

    @property
    def told_per_token(self) -> int:
        """Numbers that are told of each response token and count as tokens of a request."""
        return self.top_k + bool(self.end_token_ids)

    @property
    def query(self) -> dict[str, Any]:
        """As parameters of a URL."""
        asked = {name: getattr(self, name) for name in self.fields}
        return {name: str(value).lower() if value is True else value for name, value in asked.items()}


COLUMNS = {
    "top_k": ("top_token_ids", "top_logprobs"),
    "entropy": ("entropy",),
    "end_token_ids": ("teacher_end_logprobs",),
}
"""What is told where a field of `Details` asks for it."""

NO_DETAILS = Details()


def answer_schema(details: Details) -> pa.Schema:
    """TEACHER_SCORES, or TEACHER_DETAILS where something was asked for that only it has."""
    scores = schema.TEACHER_SCORES
    return scores if details.columns <= set(scores.names) else schema.TEACHER_DETAILS
