"""What the declaration of a value per token says, and the rules that its numbers may keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[Any]
Per = Literal[
    "prompt token",
    "teacher's prompt token",
    "response token",
    "k per response token",
    "m per response token",
    "d per response token",
]
Source = Literal["prompt", "rollout", "teacher", "reference", "caller"]
Presence = Literal["required", "optional", "asked"]

# A float32 logit minus its log-sum-exp can come out positive by one rounding step of the logit
# (7.6e-6 at a logit of 100), and that is still probability 1.
_ROUNDING: Final = 1e-5


@dataclass(frozen=True)
class Rule:
    """What each number of a column keeps.

    Attributes:
        says: the rule in words, for the error.
        holds: whether it is kept: the column's numbers [n], in the column's own type -> bool [n].
    """

    says: str
    holds: Callable[[Numbers], npt.NDArray[np.bool_]]


#: Where the size of the vocabulary is known, `below` takes this rule's place.
TOKEN_ID: Final = Rule("a token id is at least 0", lambda values: values >= 0)
LOGPROB: Final = Rule(
    "a log-prob is finite and at most 0", lambda values: np.isfinite(values) & (values <= _ROUNDING)
)
ENTROPY: Final = Rule(
    "an entropy is finite and at least 0", lambda values: np.isfinite(values) & (values >= -_ROUNDING)
)
POLICY_VERSION: Final = Rule("a policy version is at least 0", lambda values: values >= 0)
FINITE: Final = Rule("wanted a finite number", np.isfinite)

# Its exponent's bits are all set in what is infinite or no number.
BFLOAT16_BITS: Final = Rule(
    "wanted the bits of a finite bfloat16 number", lambda values: (values & 0x7F80) != 0x7F80
)


def below(vocab_size: int) -> Rule:
    """`TOKEN_ID` for a vocabulary of this size."""
    return Rule(
        f"the vocabulary has ids 0..{vocab_size - 1}", lambda values: (values >= 0) & (values < vocab_size)
    )


@dataclass(frozen=True)
class TokenValue:
    """A number (or k numbers) per token, under one name in every table and in `TokenBatch`.

    Attributes:
        name: of its columns.
        type: of one number, such as ``pa.float32()``.
        rule: what every number keeps.
        per: how many of them a row has: one per prompt token (of the prompt, or as a privileged teacher reads
            it), one per response token, or k per response token: k for the first token, then k for the
            second, ..., with one k for all rows and columns of a table. m and d are such numbers too, of
            tokens that a caller names and of a hidden state.
        source: who makes it: the stream of prompts, the policy's engine (`services.rollout.engine`), the
            teacher's (`services.teacher.scoring`) or who asks it.
        presence: "required" is in every row. "optional" may be left out by an engine that cannot tell it, and
            is then null in all rows of a table. "asked" is made by an engine for who asks for it, and goes
            with TEACHER_DETAILS or ROLLOUT_DETAILS alone.
        trained_on: what is "asked" goes on into EXPERIENCE, where an objective wants it asked.

    Raises:
        ValueError: the type is of no number, "asked" of what no engine makes, or `trained_on` of what is
            not "asked", since the learner gets all else anyway.
    """

    name: str
    type: pa.DataType
    rule: Rule
    per: Per
    source: Source
    presence: Presence = "optional"
    trained_on: bool = False

    def __post_init__(self) -> None:
        if not (pa.types.is_integer(self.type) or pa.types.is_floating(self.type)):
            raise ValueError(f"{self.name} is declared as {self.type}; write the type of one number")
        if self.presence == "asked" and self.source not in ("teacher", "rollout"):
            raise ValueError(f"{self.name} is declared as made when asked for; only an engine can be asked")
        if self.trained_on and self.presence != "asked":
            raise ValueError(f"{self.name} is declared as trained_on, which all that is not asked is anyway")

    @property
    def token(self) -> str:
        """What it has one or several of: "prompt token", "response token" and so on."""
        return self.per.rpartition(" per ")[2]

    @property
    def says_how_many(self) -> bool:
        """It is the tokens themselves."""
        return self.rule is TOKEN_ID and not self.has_several

    @property
    def has_several(self) -> bool:
        """For each token: k, m or d."""
        return self.per != self.token

    @property
    def column_type(self) -> pa.DataType:
        """Of the column: lists without nulls inside."""
        return pa.list_(pa.field("item", self.type, nullable=False))

    def field(self, *, nullable: bool = False) -> pa.Field:
        """Its column in a schema."""
        return pa.field(self.name, self.column_type, nullable=nullable)
