"""The bar that a person sees while something takes time: the same columns whatever it is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bar(console: Console, *fields: str, left: bool = True, transient: bool = False) -> Progress:
    """What is done, how much of how much, and the time that it took and will take; nothing off a terminal.

    Args:
        fields: of its tasks, which stand between the counts and the times.
        left: whether the time that is left is the bar's to say.
        transient: it goes when it is over.
    """
    of_time: list[ProgressColumn] = [TimeElapsedColumn()]
    if left:
        of_time += [TextColumn("left"), TimeRemainingColumn()]
    return Progress(
        TextColumn("{task.description}", markup=False),  # a model's name may have brackets
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in fields),
        *of_time,
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


class Barred:
    """Shows a bar while its block lasts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
