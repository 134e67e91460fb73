"""What a person sees of the check: a progress bar where it takes time, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rlad_core.prompt_checks import Checked, Dropped, counted

_SHOWN = 10


class Shown:
    """A progress bar on `console` while the block lasts; nothing where that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("prompts", total=None)
        self._what = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take `what` as what is done now."""
        if what != self._what:
            self._what = what
            self._bar.reset(self._task, description=what, total=total)
        self._bar.update(self._task, completed=done, total=total)


def summary(checked: Checked) -> str:
    """What is used, in a line."""
    parts = [f"{counted(checked.training)} to train on"] if checked.training else []
    parts.append(f"{checked.held_out:,} held out")
    cut = f"; without their beginning: {checked.shortened:,}" if checked.shortened else ""
    return f"{', '.join(parts)}; the longest has {checked.longest:,} tokens{cut}"


def left_out(dropped: Sequence[Dropped], file: Path | None) -> Iterator[str]:
    """What is not used: how much, the first reasons, where all are."""
    if not dropped:
        return
    counts = {use: sum(each.use == use for each in dropped) for use in ("training", "evaluation")}
    yield "left out: " + ", ".join(f"{count:,} of {use}" for use, count in counts.items() if count)
    yield from (f"  {each}" for each in dropped[:_SHOWN])
    if (more := len(dropped) - _SHOWN) > 0:
        yield f"  and {more:,} more"
    if file is not None:
        yield f"  all of them, with their reasons: {file}"
