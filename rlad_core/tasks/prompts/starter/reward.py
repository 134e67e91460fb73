"""What a response is worth. Change `score` to judge what you ask.

It runs in processes of its own. One call may take 5 seconds and 512 MiB (section `verifier` of the recipe);
one that takes more, crashes or raises counts as wrong, and costs nothing else. `rlad plan` loads this file.
"""

from __future__ import annotations

import re
from typing import Any

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def score(response: str, gold: str, row: dict[str, Any]) -> dict[str, float]:
    """The reward of one response: the share of people it is right about.

    Args:
        response: what the model wrote.
        gold: the answer of this row, by the recipe's `columns`.
        row: all columns of the row; other things that a reward needs may stand there.

    Returns:
        `reward`, which training maximises, and any further numbers, which are kept beside it. It may have
        `correct`, True or False; the recipe's `correct_at` decides here. A bare number or bool does too.
    """
    answers = ANSWER.findall(response)
    said = lines(answers[0]) if len(answers) == 1 else []
    wanted = lines(gold)
    in_form = len(said) == len(wanted)
    right = sum(a == b for a, b in zip(said, wanted, strict=True)) / len(wanted) if in_form else 0.0
    return {"reward": right, "in_form": float(in_form)}


def lines(answer: str) -> list[str]:
    """An answer line by line, without regard to blanks around."""
    return [line.strip() for line in answer.strip().splitlines()]
