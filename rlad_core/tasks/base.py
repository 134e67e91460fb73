"""What a task is: where prompts come from, what a good response looks like, how a response is judged.

The rest of the system knows a task only through this class. Gold is a JSON string that the task writes and
reads; everybody else carries it along. A task of a user's own needs `prompts` and `verify`, the rest has
defaults; it may derive from `Task` or just have the methods (`complete`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rlad_core.data import Fault
from rlad_core.sections import code


@dataclass(frozen=True)
class Prompt:
    """One thing to ask a model.

    prompt_id: 32 hex digits, a hash of task and messages: equal prompts have equal ids in every run.
    subset: the part of the task it is reported under, e.g. "3_people".
    messages: the chat, for a tokenizer's chat template with its generation prompt.
    gold: what the task needs to judge a response, as JSON.
    where: file and line that it is from, for people.
    answer: the right answer alone, in one way of writing it; None: the gold. Prompts that ask the same must
        agree in it.
    golds: of all rows that ask it and have the same answer, where they differ: each may hold another worked
        solution, and stages that train on these take one after the other. Empty: there is the gold alone.
    columns: what a teacher may be told of it beside the gold, or be weighed by: columns of its data by name.
    """

    prompt_id: str
    task: str
    subset: str
    messages: list[dict[str, str]]
    gold: str
    where: str = field(default="", compare=False)
    answer: str | None = field(default=None, compare=False)
    golds: tuple[str, ...] = field(default=(), compare=False)
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Verdict:
    """How a response was judged.

    reward: what training maximises.
    parts: the reward's parts by name; the same names for every response of a task.
    correct: what accuracy counts.
    reason: in words, what was wrong with it, or that nothing was.
    """

    reward: float
    parts: dict[str, float]
    correct: bool
    reason: str


@dataclass(frozen=True)
class TaskSpec:
    """How a process that judges makes a task: a class and its arguments, both as plain values.

    place: ``module:Class`` or ``/path/file.py:Class``, see `rlad_core.sections.code`.
    settings: keyword arguments.
    preload: module whose import takes long, for the process that judging ones are forked from.
    """

    place: str
    settings: dict[str, Any]
    preload: str | None = None


class Task(ABC):
    """A source of prompts that can judge the responses to them."""

    name: ClassVar[str] = ""
    """As it stands in the column `task`; that of a user's own task is its class's name where it is empty."""
    can_hang: ClassVar[bool] = True
    """Whether a check may take any time and memory for some texts. Every check is run where it can be killed;
    a recipe with such a task must also leave time for a step whose checks all hang."""
    is_users: ClassVar[bool] = False
    """Whether checks run a user's own code: what it raises is then never taken for a fault of the request."""

    @property
    def subsets(self) -> Sequence[str]:
        """The parts one can ask for and by which accuracy is reported."""
        return ("all",)

    @abstractmethod
    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` different prompts, always the same for the same arguments; None: all there are.

        Args:
            split: "train" or, held out, "validation" or "test"; no prompt is in two of them.
            subset: one of `subsets`.

        Raises:
            ValueError: there is no such split or subset, it holds fewer prompts, or has no end.
        """

    def faults(self, split: str, subset: str) -> Sequence[Fault]:
        """Rows of its data that are no prompts, and why. Asked after `prompts` for the same part."""
        return ()

    @abstractmethod
    def verify(self, response: str, gold: str) -> Verdict:
        """Judge any text whatsoever.

        The verifier service calls this in processes that it kills when they take too long or too much memory.

        Args:
            response: the model's turn, special tokens left out: what the chat template's generation prompt
                had opened of it, such as `<think>`, and what the model generated (see `rlad_core.turn`).

        Raises:
            ValueError: the gold was not written by this task. Never for what the response contains.
        """

    def warm_up(self) -> None:  # noqa: B027 - most tasks have nothing to load
        """Load what checks need; called once in a process that judges, outside of the checks' time limit."""

    def failed(self, gold: str) -> Verdict:
        """What a response gets whose check did not end; computed from the gold alone. By default nothing.

        Raises:
            ValueError: the gold was not written by this task.
        """
        return Verdict(0.0, {}, False, "")

    def gold_of(self, prompt: str) -> str:
        """The gold of a prompt that somebody else brings, where the task can solve it; in linear time.

        Args:
            prompt: the text of one of the task's prompts; a chat template may stand around it.

        Raises:
            ValueError: the prompt is none of this task, or the gold cannot be found from it.
        """
        raise ValueError(f"task {self.name} cannot find the answer from the prompt; give gold")

    def demonstration(self, gold: str) -> str:
        """A response with the highest reward, with its reasoning, for supervised training: the model's whole
        turn, of which nothing is repeated that the prompt has opened.

        Raises:
            ValueError: the task has no reasoning for this prompt.
        """
        raise ValueError(
            f"task {self.name} has no worked solutions. Train on a teacher's responses (source: teacher)"
        )

    def prompt(self, asked: str | list[dict[str, str]], gold: Any, subset: str = "all") -> Prompt:
        """A prompt of this task.

        Args:
            asked: the text that the user says, or a chat as messages with role and content.
            gold: a text as it is, anything else as JSON.
        """
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        written = gold if isinstance(gold, str) else json.dumps(gold)
        return Prompt(prompt_id(self.name, messages), self.name, subset, messages, written)


def complete(made: type, name: str) -> type[Task]:
    """A user's class as a `Task`: what it does not say has the defaults.

    Args:
        name: that the task gets where the class says none.

    Raises:
        TypeError: it is no class, or lacks a method that has no default.
    """
    if not isinstance(made, type):
        raise TypeError(f"{name} is no class but {type(made).__name__}; write the name of a task's class")
    missing = [each for each in ("prompts", "verify") if not callable(getattr(made, each, None))]
    bases = (made,) if issubclass(made, Task) else (made, Task)
    inherited = [
        each for each in Task.__abstractmethods__ if getattr(made, each, None) is getattr(Task, each)
    ]
    if missing or inherited:
        raise TypeError(f"{name} is no task: it has no {' and no '.join(sorted({*missing, *inherited}))}")
    said = getattr(made, "name", "") if isinstance(getattr(made, "name", ""), str) else ""
    return type(made.__name__, bases, {"name": said or name, "is_users": True, "__module__": made.__module__})


def check_calls(task: Task) -> None:
    """Whether a user's task can be called as the rest of the system does.

    Raises:
        TypeError: a method takes other arguments, or is asynchronous; says which, and its place.
    """
    for method, given in ((task.prompts, ("split", "subset", None, 0)), (task.verify, ("response", "gold"))):
        where = f"({code.defined(inspect.unwrap(method))})"
        if inspect.iscoroutinefunction(method):
            raise TypeError(f"{method.__name__} is asynchronous; write def without async {where}")
        try:
            inspect.signature(method).bind(*given)
        except TypeError as error:
            wanted = "split, subset, count, seed" if method.__name__ == "prompts" else "response, gold"
            raise TypeError(f"{method.__name__} cannot be called with {wanted}: {error} {where}") from error


def prompt_id(task: str, messages: list[dict[str, str]]) -> str:
    """The id of a prompt with these messages, see `Prompt`."""
    return hashlib.blake2b(json.dumps([task, messages]).encode(), digest_size=16).hexdigest()
