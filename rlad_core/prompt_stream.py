"""Prompts of a recipe's tasks: those to train on as an endless stream, held-out ones, and both as tables."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.config import EvaluationRecipe, RunConfig
from rlad_core.language_model.chat import OWN, ChatFormat
from rlad_core.tasks import Part, Prompt, Task
from rlad_core.teacher_prompts import Share, TeacherPrompts
from rlad_core.turn import opened_by, rest_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tasks = Mapping[str, Task]


@dataclass(frozen=True)
class Selection:
    """What is left out of a recipe's prompts, as `prompt_checks` decides before anything starts.

    training, held_out: ids of prompts that are not used.
    solutions: worked solutions that are not, of prompts that have others; see `solution_id`.
    limit: tokens that a longer prompt keeps; None: none is cut.
    """

    training: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()
    solutions: frozenset[str] = frozenset()
    limit: int | None = None


class PromptTables:
    """Prompts as the policy reads them.

    Args:
        tokenizer: the policy's, with a chat template unless `chat` has one.
        cut_at: tokens that a longer prompt keeps: its longest message loses its beginning. None: it stays as
            it is.
        chat: how a chat becomes text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, cut_at: int | None = None, chat: ChatFormat = OWN
    ) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._limit = cut_at
        self.fingerprint = schema.tokenizer_fingerprint(tokenizer.get_vocab())

    def table(self, prompts: Sequence[Prompt]) -> pa.Table:
        """PROMPTS of these prompts, in order."""
        texts, ids = self.read(prompts)
        return schema.build(
            schema.PROMPTS,
            {
                "prompt_id": [prompt.prompt_id for prompt in prompts],
                "task": [prompt.task for prompt in prompts],
                "subset": [prompt.subset for prompt in prompts],
                "prompt": texts,
                "prompt_token_ids": ids,
                "gold": [prompt.gold for prompt in prompts],
            },
            tokenizer_fingerprint=self.fingerprint,
        )

    def read(self, prompts: Sequence[Prompt]) -> tuple[list[str], list[list[int]]]:
        """Text and token ids of each prompt, with the chat template and its generation prompt.

        Raises:
            Exception: what the chat template raises, which may refuse a chat.
        """
        texts = [self._text(prompt.messages) for prompt in prompts]
        ids = self._ids(texts)
        for place, tokens in enumerate(ids):
            if self._limit is not None and len(tokens) > self._limit:
                texts[place] = self._shortened(prompts[place], self._limit)
                [ids[place]] = self._ids([texts[place]])
        return texts, ids

    def demonstrations(
        self,
        prompts: Sequence[Prompt],
        sequence_ids: Sequence[str],
        tasks: Tasks,
        epochs: Sequence[int] | None = None,
    ) -> pa.Table:
        """SEQUENCES of these prompts with their tasks' worked solutions, each closed by the end token.

        Args:
            epochs: of each visit: of a prompt with several solutions each epoch has the next. None: all are
                in the first.

        Raises:
            ValueError: a task has no worked solution for one of them.
        """
        table = rows_of(self.table(different(prompts)), prompts)
        asked_ids = table.column("prompt_token_ids")
        texts, epochs = table.column("prompt").to_pylist(), epochs or [0] * len(prompts)
        replies = [
            rest_of(tasks[prompt.task].demonstration(_gold_of(prompt, epoch)), opened_by(text))
            for prompt, text, epoch in zip(prompts, texts, epochs, strict=True)
        ]
        ids = self._tokenizer(replies, add_special_tokens=False)["input_ids"] if replies else []
        return schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": list(sequence_ids),
                "prompt_token_ids": asked_ids,
                "response_token_ids": [[*tokens, self._tokenizer.eos_token_id] for tokens in ids],
            },
            tokenizer_fingerprint=self.fingerprint,
        )

    def _text(self, messages: list[dict[str, str]]) -> str:
        return self._chat.text(self._tokenizer, messages)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []

    def _shortened(self, prompt: Prompt, limit: int) -> str:
        """The prompt's text with as much of its longest message's end as fits, or its last letter."""
        longest = max(range(len(prompt.messages)), key=lambda place: len(prompt.messages[place]["content"]))
        content = prompt.messages[longest]["content"]

        def without(cut: int) -> str:
            messages = [dict(message) for message in prompt.messages]
            messages[longest]["content"] = content[cut:]
            return self._text(messages)

        cuts = range(1, max(len(content), 2))
        cut = bisect_left(cuts, True, key=lambda cut: len(self._ids([without(cut)])[0]) <= limit)
        return without(cuts[min(cut, len(cuts) - 1)])


class PromptStream:
    """The training prompts of a run.

    Position p of the stream is a visit: a prompt in epoch p // n. Each epoch is shuffled anew, by the run's
    seed alone, so a resumed run sees the order it would have seen.

    Args:
        config: the run.
        tokenizer: the policy's, with a chat template.
        selection: what is left out of its prompts.

    Raises:
        ValueError: a task cannot give as many prompts, or there is none.
    """

    def __init__(
        self, config: RunConfig, tokenizer: PreTrainedTokenizerBase, selection: Selection = Selection()
    ) -> None:
        self._tasks = tasks_of(config)
        self._teachers = TeacherPrompts(config, tokenizer, self._tasks)
        self._tables = PromptTables(tokenizer, cut_at=selection.limit, chat=config.policy.chat)
        self._prompts = training_prompts(config, self._tasks, selection)
        if not self._prompts:
            raise ValueError("there is no prompt to train on")
        count, seed = len(self._prompts), config.seed
        # A step that crosses epochs needs two orders, and a resumed one perhaps an older one.
        self._order = lru_cache(maxsize=4)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(count)
        )

    @property
    def epoch_prompts(self) -> int:
        """Prompts of which each epoch consists."""
        return len(self._prompts)

    def prompts(self, positions: Sequence[int]) -> list[Prompt]:
        """The prompts at these positions of the stream."""
        return [self._prompts[self._index(position)] for position in positions]

    def group_id(self, position: int, prompt: Prompt) -> str:
        """Unique per visit: the prompt's id and the epoch."""
        return f"{prompt.prompt_id}#{position // len(self._prompts)}"

    def table(self, prompts: Sequence[Prompt]) -> pa.Table:
        """See `PromptTables.table`; a prompt that two epochs bring into one step is there once."""
        return self._tables.table(different(prompts))

    def demonstrations(
        self, prompts: Sequence[Prompt], sequence_ids: Sequence[str], epochs: Sequence[int] | None = None
    ) -> pa.Table:
        """See `PromptTables.demonstrations`."""
        return self._tables.demonstrations(prompts, sequence_ids, self._tasks, epochs)

    def taught(self, prompt: Prompt) -> tuple[Share, ...]:
        """The prompt's teachers, what each counts and reads."""
        return self._teachers.of(prompt)

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self._prompts))
        return int(self._order(epoch)[place])


def different(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Each prompt once, as it is where it comes first, with the golds of all."""
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        first = found.setdefault(prompt.prompt_id, prompt)
        golds = tuple(dict.fromkeys([*golds_of(first), *golds_of(prompt)]))
        if golds != golds_of(first):
            found[prompt.prompt_id] = replace(first, golds=golds)
    return list(found.values())


def golds_of(prompt: Prompt) -> tuple[str, ...]:
    """Every gold of a prompt: each may hold a worked solution of its own."""
    return prompt.golds or (prompt.gold,)


def solution_id(prompt: Prompt, gold: str) -> str:
    """Names one worked solution of a prompt."""
    return hashlib.blake2b(f"{prompt.prompt_id} {gold}".encode(), digest_size=16).hexdigest()


def chosen(prompts: Iterable[Prompt], selection: Selection) -> list[Prompt]:
    """What is trained on, each prompt once, without what is left out."""
    left = [prompt for prompt in different(prompts) if prompt.prompt_id not in selection.training]
    return [_without(prompt, selection.solutions) for prompt in left] if selection.solutions else left


def _without(prompt: Prompt, solutions: frozenset[str]) -> Prompt:
    golds = tuple(gold for gold in golds_of(prompt) if solution_id(prompt, gold) not in solutions)
    return prompt if golds == golds_of(prompt) else replace(prompt, golds=golds)


def _gold_of(prompt: Prompt, epoch: int) -> str:
    """The gold whose worked solution a visit trains on."""
    golds = golds_of(prompt)
    return golds[epoch % len(golds)]


def rows_of(table: pa.Table, prompts: Sequence[Prompt]) -> pa.Table:
    """The row of each prompt in a PROMPTS table of different ones; a prompt may occur again."""
    place = {prompt_id: row for row, prompt_id in enumerate(table.column("prompt_id").to_pylist())}
    return table.take(pa.array([place[prompt.prompt_id] for prompt in prompts], pa.int64()))


def tasks_of(config: EvaluationRecipe) -> dict[str, Task]:
    """The recipe's tasks by the names that prompts carry."""
    return {section.label: section.task() for section in config.task_sections.values()}


def training_prompts(config: RunConfig, tasks: Tasks, selection: Selection = Selection()) -> list[Prompt]:
    """What is trained on, each prompt once: a visit is known by its prompt and its epoch.

    Raises:
        ValueError: a task cannot give as many prompts.
    """
    parts = [
        prompt
        for section in config.task_sections.values()
        for part in section.train_parts
        for prompt in prompts_of(part, section.label, tasks)
    ]
    # Of a problem that is in two data files the first counts, and the worked solutions of both.
    return chosen(parts, selection)


def held_out_prompts(
    config: EvaluationRecipe, tasks: Tasks, selection: Selection = Selection()
) -> list[Prompt]:
    """What is evaluated, subset by subset.

    Raises:
        ValueError: a task cannot give as many prompts.
    """
    return [
        prompt
        for section in config.task_sections.values()
        for part in section.evaluation_parts
        for prompt in prompts_of(part, section.label, tasks)
        if prompt.prompt_id not in selection.held_out
    ]


def prompts_of(part: Part, name: str, tasks: Tasks) -> list[Prompt]:
    """The prompts of a part of the task `name`.

    Raises:
        ValueError: it cannot give as many; or what a user's own task raises.
    """
    return [
        # A user's task may call itself something else in its prompts.
        prompt if prompt.task == name else replace(prompt, task=name)
        for prompt in tasks[name].prompts(part.split, part.subset, part.count, part.seed)
    ]
