"""What a person sees while a file is scored: a bar with tokens a second and the time that is left."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES = 10
"""How often something is said where there is no terminal."""


class ScoreProgress:
    """Rows of a file that are scored; where there is no terminal, a line now and then.

    Args:
        total: rows of the file.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._began, self._rows, self._tokens, self._said = time.monotonic(), 0, 0, 0
        self._progress = Progress(
            TextColumn("rows"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, speed="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, rows: int, tokens: int) -> None:
        """So many rows more are there, and so many tokens were scored for them just now."""
        self._rows += rows
        self._tokens += tokens
        speed = f"{self._tokens / max(time.monotonic() - self._began, 1e-3):,.0f} tokens/s"
        self._progress.update(self._task, completed=self._rows, speed=speed)
        if not self._console.is_terminal and self._rows * _LINES // self._total > self._said:
            self._said = self._rows * _LINES // self._total
            self._console.print(f"{self._rows} of {self._total} rows  {speed}", markup=False, soft_wrap=True)
