"""What may be asked of a teacher besides the response tokens' own log-probs."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError

HiddenDtype = Literal["float32", "bfloat16"]

HIDDEN_BYTES: Final = {"float32": 4, "bfloat16": 2}
"""Of a number of a hidden state."""


@dataclass(frozen=True)
class Details:
    """What is wanted about the place of each response token besides the response token's log-prob.

    Which of them an engine can tell is in ``TeacherInfo.details``, by the names of these fields.

    Args:
        top_k: the likeliest tokens; 0 for none.
        entropy: of the distribution.
        end_token_ids: tokens that count as one outcome, whose probability together is wanted; no id twice.
        hidden: the hidden state after the final norm, of which the head makes the distribution, in this
            precision; None: not.
        named_token_ids: how many tokens are named for each place, in a NAMED_SEQUENCES table, whose log-probs
            are wanted.
        plain: computed another way than usual, each sequence by itself, so that both can be compared.

    Raises:
        InvalidRequestError: hidden states are told in no such precision.
    """

    top_k: int = 0
    entropy: bool = False
    end_token_ids: tuple[int, ...] = ()
    hidden: HiddenDtype | None = None
    named_token_ids: int = 0
    plain: bool = False

    def __post_init__(self) -> None:
        if self.hidden is not None and self.hidden not in HIDDEN_BYTES:
            known = " and ".join(HIDDEN_BYTES)
            raise InvalidRequestError(f"{self.hidden!r} is no precision that there is; {known} are", "hidden")

    @property
    def fields(self) -> frozenset[str]:
        """What is asked for, by field."""
        return frozenset(name for name, value in vars(self).items() if value)

    @property
    def columns(self) -> frozenset[str]:
        """What is asked for, by its columns in TEACHER_DETAILS."""
        columns = {
            "top_k": ("top_token_ids", "top_logprobs"),
            "entropy": ("entropy",),
            "end_token_ids": ("teacher_end_logprobs",),
            "hidden": ("hidden_states_bfloat16" if self.hidden == "bfloat16" else "hidden_states",),
            "named_token_ids": ("named_logprobs",),
            "plain": (),
        }
        return frozenset(column for field in self.fields for column in columns[field])

    @property
    def told_per_token(self) -> int:
        """Numbers that are told of each response token and count as tokens of a request. Hidden states have a
        limit of their own.
        """
        return self.top_k + self.named_token_ids + bool(self.end_token_ids)

    @property
    def query(self) -> dict[str, Any]:
        """As parameters of a URL; what is named stands in the body."""
        asked = {
            "top_k": self.top_k,
            "entropy": "true" if self.entropy else None,
            "end_token_ids": list(self.end_token_ids),
            "details": "hidden" if self.hidden else None,
            "hidden_dtype": self.hidden,
            "plain": "true" if self.plain else None,
        }
        return {name: value for name, value in asked.items() if value}


NO_DETAILS: Final = Details()


def answer_schema(details: Details) -> pa.Schema:
    """TEACHER_SCORES, or TEACHER_DETAILS where something was asked for that only it has."""
    scores = schema.TEACHER_SCORES
    return scores if details.columns <= set(scores.names) else schema.TEACHER_DETAILS


def names_tokens(sequences: pa.Table) -> bool:
    """Whether a table is NAMED_SEQUENCES."""
    return "named_token_ids" in sequences.column_names


def named_per_token(sequences: pa.Table) -> int:
    """How many tokens the table names for each response token; the first row counts, others are checked."""
    if not names_tokens(sequences) or not sequences.num_rows:
        return 0
    first = sequences.slice(0, 1)
    named, tokens = (
        schema.lengths(first.column(name))[0] for name in ("named_token_ids", "response_token_ids")
    )
    return int(named) // max(1, int(tokens))


def hidden_states(scores: pa.Table, row: int) -> npt.NDArray[np.float32]:
    """The hidden states of one row of TEACHER_DETAILS, in whichever precision they were told.

    Returns:
        float32 [response tokens, hidden size].

    Raises:
        ValueError: none were asked for.
    """
    tokens = len(scores.column("teacher_logprobs")[row])
    for name in ("hidden_states", "hidden_states_bfloat16"):
        told = scores.column(name)[row]
        if told.is_valid:
            values = told.values.to_numpy(zero_copy_only=False)
            return widened(values).reshape(tokens, -1)
    raise ValueError("the table tells no hidden states: ask for them with hidden=")


def widened(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 from float32, or from the bits of bfloat16 in uint16."""
    if values.dtype != np.uint16:
        return values.astype(np.float32, copy=False)
    # A bfloat16 number is the upper half of a float32 one.
    return (values.astype(np.uint32) << 16).view(np.float32)
