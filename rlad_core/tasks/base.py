"""What a task is: where prompts come from, what a good response looks like, how a response is judged.

The rest of the system knows a task only through this protocol. Gold is a JSON string that the task writes and
reads; everybody else carries it along.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Prompt:
    """One thing to ask a model.

    prompt_id: 32 hex digits, a hash of task and messages: equal prompts have equal ids in every run.
    subset: the part of the task it is reported under, e.g. "3_people".
    messages: the chat, for a tokenizer's chat template with its generation prompt.
    gold: what the task needs to judge a response, as JSON.
    """

    prompt_id: str
    task: str
    subset: str
    messages: list[dict[str, str]]
    gold: str


@dataclass(frozen=True)
class Verdict:
    """How a response was judged.

    reward: the sum of `parts`.
    parts: the reward's parts by name; the same names for every response of a task.
    correct: what accuracy counts.
    reason: in words, what was wrong with it, or that nothing was.
    """

    reward: float
    parts: dict[str, float]
    correct: bool
    reason: str


class Task(Protocol):
    """A source of prompts that can judge the responses to them."""

    @property
    def name(self) -> str:
        """As it stands in recipes and in the column `task`."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """The parts one can ask for and by which accuracy is reported."""

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` different prompts, always the same for the same arguments; None: all there are.

        Raises:
            ValueError: there is no such split or subset, it holds fewer prompts, or has no end.
        """

    def verify(self, response: str, gold: str) -> Verdict:
        """Judge any text whatsoever.

        The verifier service calls this in processes that it kills when they take too long or too much memory;
        `math` needs that, other tasks take a time linear in the text's length.

        Args:
            response: what the model generated after the chat template's generation prompt, special tokens
                left out.

        Raises:
            ValueError: the gold was not written by this task. Never for what the response contains.
        """

    def gold_of(self, prompt: str) -> str:
        """The gold of a prompt that somebody else brings, where the task can solve it; in linear time.

        Args:
            prompt: the text of one of the task's prompts; a chat template may stand around it.

        Raises:
            ValueError: the prompt is none of this task, or the gold cannot be found from it.
        """

    def demonstration(self, gold: str) -> str:
        """A response with the highest reward, with its reasoning, for supervised training.

        Raises:
            ValueError: the task has no reasoning for this prompt.
        """


def prompt_id(task: str, messages: list[dict[str, str]]) -> str:
    """The id of a prompt with these messages, see `Prompt`."""
    return hashlib.blake2b(json.dumps([task, messages]).encode(), digest_size=16).hexdigest()
