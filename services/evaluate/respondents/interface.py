"""What is asked of a model, what comes back, and who can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rlad_core.tasks import Prompt


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled.

    max_tokens: of a response; None: as many as the model's context leaves.
    """

    temperature: float
    top_p: float
    max_tokens: int | None
    seed: int


@dataclass(frozen=True)
class Wanted:
    """One response: that number `sample` to a prompt, whatever the number of samples."""

    prompt: Prompt
    sample: int

    @property
    def name(self) -> str:
        """What its seed comes from, together with the sampling's: so more samples later change none."""
        return f"{self.prompt.prompt_id}#{self.sample}" if self.sample else self.prompt.prompt_id


@dataclass(frozen=True, eq=False)
class Answer:
    """A response.

    prompt: the text that the model read, or the chat in words where a template elsewhere made it.
    opened: what the prompt had already written of the model's turn; the verifier reads it and the response.
    finish_reason: "stop", or "length" where it was cut off; endpoints have others. None: it was not told.
    tokens: its length; None: it was not told.
    values: per token, where they are known: columns of ANSWERS, [tokens] each.
    """

    prompt: str
    response: str
    opened: str
    finish_reason: str | None
    tokens: int | None
    values: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)


class Respondent(ABC):
    """A model that answers.

    Attributes:
        part: responses that are asked for together.
        at_most: parts under way at a time.
    """

    part: int
    at_most: int

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What its responses depend on beside prompt and sampling: the key that they are kept under."""

    @abstractmethod
    async def answer(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """The responses, in order.

        Raises:
            ServiceError: what the model's server refused; another prompt may be answered.
            TimeoutError: nothing came in time.
        """

    async def close(self) -> None:  # noqa: B027 - most hold nothing
        """Close its connections."""


def chat_in_words(prompt: Prompt) -> str:
    """The messages as a person reads them."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in prompt.messages)


def opened_before(response: str) -> str:
    """What a chat template elsewhere had opened of the model's turn, as far as the response shows it.

    One that closes thoughts which it did not open began in them (R1-Distill, Qwen3-Thinking).
    """
    before, closing, _ = response.partition("</think>")
    return "<think>" if closing and "<think>" not in before else ""
