"""Math with a bonus for right replies that are short. Everything else is the shipped task's.

The class is made in every process that asks or judges. Judging runs in processes of its own, where one call
may take 5 seconds and 512 MiB (section `verifier` of the recipe); one that takes more counts as wrong.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from rlad_core.tasks import Verdict
from rlad_core.tasks.math.task import Math, ProblemSource


class MyMath(Math):
    """The shipped task on two files, with one more part of the reward.

    Args:
        train, test: files with the columns of GSM8K, question and answer, where the answer ends in '#### 42'.
        short: characters that a reply may have to count as short.
        bonus: reward of a right reply that is short.
    """

    name: ClassVar[str] = "my_math"

    def __init__(self, train: str, test: str, short: int = 400, bonus: float = 0.1) -> None:
        files = ((("train", "all"), train), (("test", "all"), test))
        super().__init__({part: ProblemSource(Path(file), "gsm8k") for part, file in files})
        self.short = short
        self.bonus = bonus

    def verify(self, response: str, gold: str) -> Verdict:
        """The shipped verdict, with the part `short`. Every verdict of a task has parts of the same names."""
        verdict = super().verify(response, gold)
        short = self.bonus if verdict.correct and len(response) <= self.short else 0.0
        return dataclasses.replace(
            verdict, reward=verdict.reward + short, parts={**verdict.parts, "short": short}
        )
