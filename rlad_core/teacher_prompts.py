"""Which teachers a prompt has, what each counts, and what a privileged one reads before it.

A privileged teacher (`TeacherSection.prefix`) reads the policy's chat with a text put before the last message
of the user. The response tokens are the same, and so is the place of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlad_core.config import RunConfig, TeacherSection
from rlad_core.config.teachers import parts_of_prefix
from rlad_core.tasks import Prompt, Task
from rlad_core.tasks.columns import value_in
from rlad_core.tasks.section import TaskSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Share:
    """One teacher of a prompt.

    Attributes:
        place: of the teacher in the recipe.
        weight: above 0; those of a prompt's teachers need not sum to 1.
        prompt_token_ids: what it reads in the prompt's place; None: the prompt.
    """

    place: str
    weight: float = 1.0
    prompt_token_ids: tuple[int, ...] | None = None


class TeacherPrompts:
    """Of a recipe.

    Args:
        config: the run.
        tokenizer: the policy's.
        tasks: the recipe's, by the names that prompts carry.
    """

    def __init__(
        self, config: RunConfig, tokenizer: PreTrainedTokenizerBase, tasks: Mapping[str, Task]
    ) -> None:
        self._teachers = config.teacher_sections
        self._places = {name: config.teachers_of(name) for name in tasks}
        self._chat = config.policy.chat
        self._tokenizer = tokenizer
        self._tasks = tasks
        self._columns = {section.label: _kept(section) for section in config.task_sections.values()}

    @property
    def looks_at_prompts(self) -> bool:
        """Whether there is a prompt of which it may be found that it cannot be taught."""
        return any(each.prefix is not None or each.weight_column for each in self._teachers.values())

    def of(self, prompt: Prompt, tokens: int | None = None) -> tuple[Share, ...]:
        """The prompt's teachers that count.

        Args:
            tokens: of the prompt as the policy reads it, to look whether a prefix is too long; None: nobody
                looks.

        Raises:
            ValueError: it cannot be taught; says why.
        """
        return tuple(self._shares(prompt, tokens))

    def _shares(self, prompt: Prompt, tokens: int | None) -> Iterator[Share]:
        counted = 0
        for place in self._places[prompt.task]:
            teacher = self._teachers[place]
            if (weight := self._weight(teacher, prompt)) > 0:
                counted += 1
                yield Share(place, weight, self._ids(place, teacher, prompt, tokens))
        if self._places[prompt.task] and not counted:
            raise ValueError("no teacher has a weight above 0 for it")

    def _weight(self, teacher: TeacherSection, prompt: Prompt) -> float:
        if teacher.weight_column is None:
            return teacher.weight_for(prompt.task)
        value = _number_in(self._fact(prompt, teacher.weight_column))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"its {teacher.weight_column} is {value!r:.40}, and a weight is a number")
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"its {teacher.weight_column} is {value:g}, and a weight is 0 or more")
        return float(value)

    def _ids(
        self, place: str, teacher: TeacherSection, prompt: Prompt, tokens: int | None
    ) -> tuple[int, ...] | None:
        if teacher.prefix is None:
            return None
        text = "".join(
            said + ("" if name is None else _written(self._fact(prompt, name)))
            for said, name in parts_of_prefix(teacher.prefix)
        )
        ids = self._chat.ids(self._tokenizer, _with_prefix(prompt.messages, text))
        if tokens is not None and len(ids) > tokens + teacher.prefix_tokens:
            raise ValueError(
                f"has {len(ids) - tokens} tokens more with {place}.prefix, and {place}.prefix_tokens is "
                f"{teacher.prefix_tokens}"
            )
        return tuple(ids)

    def _fact(self, prompt: Prompt, name: str) -> Any:
        """What is known of a prompt under a name: a column of its data, or a part of its gold. Its solution
        is the one that its task works out, where it does.

        Raises:
            ValueError: nothing is.
        """
        if name == "solution":
            with suppress(ValueError):
                return self._tasks[prompt.task].demonstration(prompt.gold)
        try:
            return value_in(_facts(prompt), name, ())[1]
        except ValueError as error:
            kept = self._columns.get(prompt.task)
            if kept is None or name in kept:
                raise
            raise ValueError(f"{error}. If its file has {name}, write it in columns.teachers") from error


def _kept(section: TaskSection) -> tuple[str, ...] | None:
    """Columns of its files that it keeps for teachers; None: it keeps them all, or takes no names."""
    kept: tuple[str, ...] | None = getattr(getattr(section, "columns", None), "teachers", None)
    return kept


def _facts(prompt: Prompt) -> dict[str, Any]:
    try:
        gold = json.loads(prompt.gold)
    except ValueError:
        gold = prompt.gold
    if not isinstance(gold, dict):
        return {"gold": gold, **prompt.columns}
    row = gold.get("row")
    return {"gold": prompt.gold, **gold, **(row if isinstance(row, dict) else {}), **prompt.columns}


def _number_in(value: Any) -> Any:
    """The number that a text says, since cells of CSV files are texts; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_prefix(messages: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    """The chat with the text before the last message that the user says, or before the last one."""
    users = [place for place, message in enumerate(messages) if message["role"] == "user"]
    last = users[-1] if users else len(messages) - 1
    return [
        {**message, "content": text + message["content"]} if place == last else message
        for place, message in enumerate(messages)
    ]
