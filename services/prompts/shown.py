"""What a person sees of the check: a progress bar where it takes time, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from rlad_core.prompt_checks import Checked, Dropped, counted
from services.base.bars import Barred, bar

_SHOWN = 10


class Shown(Barred):
    """A progress bar on `console` while the block lasts; nothing where that is no terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(bar(console, transient=True))
        self._task = self._progress.add_task("prompts", total=None)
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take `what` as what is done now."""
        if what != self._what:
            self._what = what
            self._progress.reset(self._task, description=what, total=total)
        self._progress.update(self._task, completed=done, total=total)


def summary(checked: Checked) -> str:
    """What is used, in a line."""
    parts = [f"{counted(checked.training)} to train on"] if checked.training else []
    parts.append(f"{checked.held_out:,} held out")
    cut = f"; without their beginning: {checked.shortened:,}" if checked.shortened else ""
    odd = f"; with words that the policy has no tokens for: {checked.unknown:,}" if checked.unknown else ""
    return f"{', '.join(parts)}; the longest has {checked.longest:,} tokens{cut}{odd}"


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
