"""Prompts of a recipe's tasks: those to train on as an endless stream, held-out ones, and both as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.config import EvaluationRecipe, RunConfig
from rlad_core.tasks import Part, Prompt, Task
from rlad_core.turn import opened_by, rest_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tasks = Mapping[str, Task]


class PromptTables:
    """Prompts as the policy reads them.

    Args:
        tokenizer: the policy's, with a chat template.
        max_length: tokens of the policy's longest sequence.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self.fingerprint = schema.tokenizer_fingerprint(tokenizer.get_vocab())

    def table(self, prompts: Sequence[Prompt]) -> pa.Table:
        """PROMPTS of these prompts, in order.

        Raises:
            ValueError: a prompt is too long for the policy's context; says which.
        """
        texts = [
            self._tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
            for prompt in prompts
        ]
        ids = self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for prompt, tokens in zip(prompts, ids, strict=True):
            # A response has one token at least.
            self._check_fits(prompt, len(tokens) + 1, "with the first token of a response")
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

    def demonstrations(
        self, prompts: Sequence[Prompt], sequence_ids: Sequence[str], tasks: Tasks
    ) -> pa.Table:
        """SEQUENCES of these prompts with their tasks' worked solutions, each closed by the end token.

        Raises:
            ValueError: a prompt with its solution is too long for the policy's context; says which.
        """
        table = rows_of(self.table(different(prompts)), prompts)
        asked_ids = table.column("prompt_token_ids")
        replies = [
            rest_of(tasks[prompt.task].demonstration(prompt.gold), opened_by(text))
            for prompt, text in zip(prompts, table.column("prompt").to_pylist(), strict=True)
        ]
        ids = self._tokenizer(replies, add_special_tokens=False)["input_ids"] if replies else []
        asked = schema.lengths(asked_ids)
        for prompt, before, tokens in zip(prompts, asked, ids, strict=True):
            self._check_fits(prompt, int(before) + len(tokens) + 1, "with its worked solution")
        return schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": list(sequence_ids),
                "prompt_token_ids": asked_ids,
                "response_token_ids": [[*tokens, self._tokenizer.eos_token_id] for tokens in ids],
            },
            tokenizer_fingerprint=self.fingerprint,
        )

    def _check_fits(self, prompt: Prompt, tokens: int, what: str) -> None:
        if tokens > self._max_length:
            raise ValueError(
                f"prompt {prompt.prompt_id} ({prompt.subset}) {what} has {tokens} tokens and "
                f"policy.max_length is {self._max_length}: raise it, or leave the subset out"
            )


class PromptStream:
    """The training prompts of a run.

    Position p of the stream is a prompt of epoch p // n, shuffled anew in each epoch by the run's seed alone,
    so a resumed run sees the order it would have seen.

    Args:
        config: the run.
        tokenizer: the policy's, with a chat template.

    Raises:
        ValueError: a task cannot give as many prompts.
    """

    def __init__(self, config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self._seed = config.seed
        self._tasks = tasks_of(config)
        self._tables = PromptTables(tokenizer, config.policy.max_length)
        self._prompts = training_prompts(config, self._tasks)
        self._order: tuple[int, np.ndarray] | None = None

    def prompts(self, positions: Sequence[int]) -> list[Prompt]:
        """The prompts at these positions of the stream."""
        return [self._prompts[self._index(position)] for position in positions]

    def group_id(self, position: int, prompt: Prompt) -> str:
        """Unique per visit: the prompt's id and the epoch."""
        return f"{prompt.prompt_id}#{position // len(self._prompts)}"

    def table(self, prompts: Sequence[Prompt]) -> pa.Table:
        """See `PromptTables.table`; a prompt that two epochs bring into one step is there once."""
        return self._tables.table(different(prompts))

    def demonstrations(self, prompts: Sequence[Prompt], sequence_ids: Sequence[str]) -> pa.Table:
        """See `PromptTables.demonstrations`."""
        return self._tables.demonstrations(prompts, sequence_ids, self._tasks)

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self._prompts))
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, generator.permutation(len(self._prompts)))
        return int(self._order[1][place])


def different(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Each prompt once, in the order of their first places."""
    return list({prompt.prompt_id: prompt for prompt in prompts}.values())


def rows_of(table: pa.Table, prompts: Sequence[Prompt]) -> pa.Table:
    """The row of each prompt in a PROMPTS table of different ones; a prompt may occur again."""
    place = {prompt_id: row for row, prompt_id in enumerate(table.column("prompt_id").to_pylist())}
    return table.take(pa.array([place[prompt.prompt_id] for prompt in prompts], pa.int64()))


def tasks_of(config: EvaluationRecipe) -> dict[str, Task]:
    """The recipe's tasks by the names that prompts carry."""
    return {section.label: section.task() for section in config.task_sections.values()}


def training_prompts(config: RunConfig, tasks: Tasks) -> list[Prompt]:
    """What is trained on, each prompt once: a visit is known by its prompt and its epoch.

    Raises:
        ValueError: a task cannot give as many prompts.
    """
    parts = [
        prompt
        for section in config.task_sections.values()
        for prompt in _prompts(section.label, tasks, section.train_parts)
    ]
    # Of a problem that is in two data files the first counts.
    asked = {prompt.prompt_id: prompt for prompt in reversed(parts)}
    return list(reversed(asked.values()))


def held_out_prompts(config: EvaluationRecipe, tasks: Tasks) -> list[Prompt]:
    """What is evaluated, subset by subset.

    Raises:
        ValueError: a task cannot give as many prompts, or one of them is trained on.
    """
    prompts = [
        prompt
        for section in config.task_sections.values()
        for prompt in _prompts(section.label, tasks, section.evaluation_parts)
    ]
    if isinstance(config, RunConfig):
        _refuse_leaks(prompts, training_prompts(config, tasks))
    return prompts


def _refuse_leaks(held_out: Sequence[Prompt], trained: Iterable[Prompt]) -> None:
    trained_on = {prompt.prompt_id: prompt.subset for prompt in trained}
    leaked = [prompt for prompt in held_out if prompt.prompt_id in trained_on]
    if leaked:
        raise ValueError(
            f"{len(leaked)} of {len(held_out)} held-out prompts are trained on, the first one is in "
            f"{trained_on[leaked[0].prompt_id]} (training) and in {leaked[0].subset} (evaluation). "
            "Take them out of one of the two"
        )


def _prompts(name: str, tasks: Tasks, parts: Sequence[Part]) -> list[Prompt]:
    return [
        # A user's task may call itself something else in its prompts.
        prompt if prompt.task == name else replace(prompt, task=name)
        for part in parts
        for prompt in tasks[name].prompts(part.split, part.subset, part.count, part.seed)
    ]
