"""Puzzles of one's own to train on; those to measure are generated. Everything else is the shipped task's.

The class is made in every process that asks or judges. Judging runs in processes of its own, where one call
may take 5 seconds and 512 MiB (section `verifier` of the recipe).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from rlad_core.tasks import Prompt
from rlad_core.tasks.knights_knaves import published
from rlad_core.tasks.knights_knaves.task import KnightsKnaves, prompt_for


class MyPuzzles(KnightsKnaves):
    """The shipped task, with the puzzles of a file to train on.

    Args:
        train: a .jsonl file with the columns of the published data sets: quiz, names, statements, solution.
    """

    name: ClassVar[str] = "my_puzzles"

    def __init__(self, train: str) -> None:
        super().__init__()
        self.train = Path(train)

    @property
    def subsets(self) -> tuple[str, ...]:
        """What accuracy is reported by; each size of the generated puzzles has its own name."""
        return ("2_people",)

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """The file's puzzles for split train; for test and validation generated ones, which differ from them.

        To measure on a file as well, answer `split == "test"` from one.
        """
        if split != "train":
            return super().prompts(split, subset, count, seed)
        rows = [json.loads(line) for line in self.train.read_text().splitlines()]
        prompts = [prompt_for(published.from_row(row)) for row in rows]
        found = [prompt for prompt in prompts if prompt.subset == subset]
        if count is not None and count > len(found):
            raise ValueError(f"{self.train} has {len(found)} puzzles of {subset}, fewer than {count}")
        return found[:count]
