"""What a person sees while a run works: a progress bar with the step's numbers, and a line for each event."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SHOWN = {
    "reward_mean": "reward {:.2f}",
    "accuracy": "right {:.0%}",
    "nll": "nll {:.3f}",
    "kl_to_teacher": "KL to teacher {:.3f}",
    "entropy": "entropy {:.3f}",
}


class Watcher:
    """Shows a run of `total` steps on `console`; where that is no terminal, one line per step."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("steps", total=total, numbers="")
        self._counts = {"begun": 0, "steps": 0, "evaluations": 0, "notes": 0}
        self.steps_done = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def seen(self) -> dict[str, int]:
        """How much of the journal was shown, as `services.report.journal.Journal.news` takes it."""
        return dict(self._counts)

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, style="dim", markup=False, soft_wrap=True)

    def show(self, news: dict[str, list[Any]]) -> None:
        """What the journal has that was not shown yet."""
        for name, entries in news.items():
            self._counts[name] += len(entries)
        for step in news["begun"]:
            self.steps_done = step
            self._progress.update(self._task, completed=step)
        for row in news["evaluations"]:
            self._console.print(
                f"{row['when']:>6}  {row['subset']:<10} accuracy {row['accuracy']:6.1%}  "
                f"[{row['low']:.1%}, {row['high']:.1%}]",
                soft_wrap=True,
            )
        for row in news["steps"]:
            self.steps_done = row["version"]
            numbers = "  ".join(text.format(row[name]) for name, text in _SHOWN.items() if name in row)
            self._progress.update(
                self._task, completed=self.steps_done, description=row["stage"], numbers=numbers
            )
            if not self._console.is_terminal:
                self._console.print(
                    f"step {self.steps_done:>4}  {row['stage']}  {numbers}  {row['seconds']['step']:.1f} s",
                    highlight=False,
                    soft_wrap=True,  # one line a step also in a file, where a console counts as 80 wide
                )
        for text in news["notes"]:
            self.say(text)
