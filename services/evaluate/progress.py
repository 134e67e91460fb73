"""What a person sees while models answer: a bar with tokens a second and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from services.base.bars import Barred, bar

_WIDTH = 32
_LINES = 10
"""How often something is said where there is no terminal."""


class AnswerProgress(Barred):
    """Shows the responses to one model's questions; where there is no terminal, a line now and then.

    Args:
        label: of the model.
        done, total: rows of ANSWERS that are there, and that there will be.
    """

    def __init__(self, console: Console, label: str, *, done: int, total: int) -> None:
        self._console, self._label, self._total = console, label, total
        self._began, self._new, self._kept = time.monotonic(), 0, done
        self._tokens: int | None = 0
        """None where a response's length was not told."""
        self._said = 0
        self._right = 0
        super().__init__(bar(console, "numbers"))
        shown = label if len(label) <= _WIDTH else f"…{label[-_WIDTH:]}"
        self._task = self._progress.add_task(shown, total=total, completed=done, numbers="")

    def told(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of ANSWERS that have just been made."""
        self._new += len(rows)
        self._right += sum(row["correct"] for row in rows)
        lengths = [self._tokens, *(row["tokens"] for row in rows)]
        self._tokens = None if None in lengths else sum(lengths)
        seconds = max(time.monotonic() - self._began, 1e-3)
        speed = "" if self._tokens is None else f"{self._tokens / seconds:,.0f} tokens/s  "
        numbers = f"{speed}right {self._right / self._new:.0%}"
        done = self._kept + self._new
        self._progress.update(self._task, completed=done, numbers=numbers)
        if not self._console.is_terminal and done * _LINES // self._total > self._said:
            self._said = done * _LINES // self._total
            left = seconds / self._new * (self._total - done)
            self._console.print(
                f"{self._label}  {done} of {self._total}  {numbers}  {left:.0f} s left",
                markup=False,
                soft_wrap=True,
            )
