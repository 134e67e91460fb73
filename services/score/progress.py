"""What a person sees while a file is scored: a bar with tokens a second and the time that is left."""

from __future__ import annotations

import time

from rich.console import Console

from services.base.bars import Barred, bar

_LINES = 10
"""How often something is said where there is no terminal."""


class ScoreProgress(Barred):
    """Rows of a file that are scored; where there is no terminal, a line now and then.

    Args:
        total: rows of the file.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._began, self._rows, self._tokens, self._said = time.monotonic(), 0, 0, 0
        super().__init__(bar(console, "speed"))
        self._task = self._progress.add_task("rows", total=total, speed="")

    def told(self, rows: int, tokens: int) -> None:
        """So many rows more are there, and so many tokens were scored for them just now."""
        self._rows += rows
        self._tokens += tokens
        speed = f"{self._tokens / max(time.monotonic() - self._began, 1e-3):,.0f} tokens/s"
        self._progress.update(self._task, completed=self._rows, speed=speed)
        if not self._console.is_terminal and self._rows * _LINES // self._total > self._said:
            self._said = self._rows * _LINES // self._total
            self._console.print(f"{self._rows} of {self._total} rows  {speed}", markup=False, soft_wrap=True)
