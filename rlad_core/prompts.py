"""Training prompts as an endless stream, held-out prompts as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.config import MathTask, Part, RunConfig
from rlad_core.config import Task as TaskSection
from rlad_core.tasks import Math, Prompt, Task, task
from rlad_core.tasks.math.task import DataFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptStream:
    """The run's prompts, tokenized when they are asked for.

    Position p of the stream is a prompt of epoch p // n, shuffled anew in each epoch by the run's seed alone,
    so a resumed run sees the order it would have seen.

    Args:
        config: the run.
        tokenizer: the policy's, with a chat template.
        trains: False where only held-out prompts will be asked for; no others are then read.

    Raises:
        ValueError: the task cannot give as many prompts.
    """

    def __init__(self, config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, trains: bool = True) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._tasks: dict[str, Task] = {
            section.name: _source(section) for section in config.task_sections.values()
        }
        self.fingerprint = schema.tokenizer_fingerprint(tokenizer.get_vocab())
        sections = config.task_sections.values() if trains else ()
        parts = [prompt for section in sections for prompt in self._of(section.name, section.train_parts)]
        # A problem that is in two data files counts once: a visit is known by its prompt and its epoch.
        asked = {prompt.prompt_id: prompt for prompt in reversed(parts)}
        self._prompts = list(reversed(asked.values()))
        self._order: tuple[int, np.ndarray] | None = None

    def prompts(self, positions: Sequence[int]) -> list[Prompt]:
        """The prompts at these positions of the stream."""
        return [self._prompts[self._index(position)] for position in positions]

    def group_id(self, position: int, prompt: Prompt) -> str:
        """Unique per visit: the prompt's id and the epoch."""
        return f"{prompt.prompt_id}#{position // len(self._prompts)}"

    def held_out(self) -> list[Prompt]:
        """The evaluation's prompts, subset by subset.

        Raises:
            ValueError: the task cannot give as many prompts, or one of them is trained on.
        """
        prompts = [
            prompt
            for section in self._config.task_sections.values()
            for prompt in self._of(section.name, section.evaluation_parts)
        ]
        trained_on = {prompt.prompt_id: prompt.subset for prompt in self._prompts}
        leaked = [prompt for prompt in prompts if prompt.prompt_id in trained_on]
        if leaked:
            raise ValueError(
                f"{len(leaked)} of {len(prompts)} held-out prompts are trained on, the first one is in "
                f"{trained_on[leaked[0].prompt_id]} (training) and in {leaked[0].subset} (evaluation). "
                "Take them out of one of the two"
            )
        return prompts

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

    def demonstrations(self, prompts: Sequence[Prompt], sequence_ids: Sequence[str]) -> pa.Table:
        """SEQUENCES of these prompts with the task's worked solutions, each closed by the end token.

        Raises:
            ValueError: a prompt with its solution is too long for the policy's context; says which.
        """
        table = self.table(prompts)
        replies = [self._tasks[prompt.task].demonstration(prompt.gold) for prompt in prompts]
        ids = self._tokenizer(replies, add_special_tokens=False)["input_ids"] if replies else []
        asked = schema.lengths(table.column("prompt_token_ids"))
        for prompt, before, tokens in zip(prompts, asked, ids, strict=True):
            self._check_fits(prompt, int(before) + len(tokens) + 1, "with its worked solution")
        return schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": list(sequence_ids),
                "prompt_token_ids": table.column("prompt_token_ids"),
                "response_token_ids": [[*tokens, self._tokenizer.eos_token_id] for tokens in ids],
            },
            tokenizer_fingerprint=self.fingerprint,
        )

    def _check_fits(self, prompt: Prompt, tokens: int, what: str) -> None:
        limit = self._config.policy.max_length
        if tokens > limit:
            raise ValueError(
                f"prompt {prompt.prompt_id} ({prompt.subset}) {what} has {tokens} tokens and "
                f"policy.max_length is {limit}: raise it, or leave the subset out"
            )

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self._prompts))
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng([self._config.seed, epoch])
            self._order = (epoch, generator.permutation(len(self._prompts)))
        return int(self._order[1][place])

    def _of(self, task: str, parts: Sequence[Part]) -> list[Prompt]:
        return [
            prompt
            for part in parts
            for prompt in self._tasks[task].prompts(part.split, part.subset, part.count, part.seed)
        ]


def _source(section: TaskSection) -> Task:
    """A recipe's task, with its data files where it has some."""
    if not isinstance(section, MathTask):
        return task(section.name)
    sections = {"train": section.train.files, "evaluation": section.evaluation.files}
    return Math(
        {
            (split, file.subset): DataFile(Path(file.path), file.format)
            for split, files in sections.items()
            for file in files
        }
    )
