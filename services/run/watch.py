"""What a person sees while a run works: a progress bar with the step's numbers, and a line for each event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from services.base.bars import Barred, bar

if TYPE_CHECKING:
    from services.report.journal import News

_SHOWN = {
    "reward_mean": "reward {:.2f}",
    "accuracy": "right {:.0%}",
    "nll": "nll {:.3f}",
    "kl_to_teacher": "KL to teacher {:.3f}",
    "entropy": "entropy {:.3f}",
}


class Watcher(Barred):
    """Shows a run of `total` steps on `console`; where that is no terminal, one line per step.

    Attributes:
        steps_done: of the run, as far as it was shown.
        seen: how much of the journal was shown, as `Journal.news` takes it.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        super().__init__(bar(console, "numbers"))
        self._task = self._progress.add_task("steps", total=total, numbers="")
        self.seen = 0
        self.steps_done = 0
        self._noted: set[str] = set()
        """Since the last step."""

    @contextmanager
    def aside(self) -> Iterator[Console]:
        """The console alone, for something else that moves."""
        self._progress.stop()
        try:
            yield self._console
        finally:
            self._progress.start()

    @property
    def console(self) -> Console:
        """What it shows on."""
        return self._console

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, style="dim", markup=False, soft_wrap=True)

    def show(self, news: list[News]) -> None:
        """What the journal was told since the last time, in its order.

        Of the same note several times within a step, as ranks that all fare alike give it, one is shown.
        """
        self.seen += len(news)
        for kind, told in news:
            if kind in ("begun", "step"):
                self._noted.clear()
            if kind == "begun":
                self.steps_done = told
                self._progress.update(self._task, completed=told)
            elif kind == "step":
                self._show_step(told)
            elif kind == "evaluation":
                self._show_accuracy(told)
            elif told not in self._noted:
                self._noted.add(told)
                self.say(told)

    def _show_accuracy(self, row: dict[str, Any]) -> None:
        when = f"step {row['step']}" if row["when"] == "step" else row["when"]
        self._console.print(
            f"{when:>9}  {row['subset']:<10} accuracy {_share(row['accuracy']):>6}  "
            f"[{_share(row['low'])}, {_share(row['high'])}]",
            soft_wrap=True,
            markup=False,
        )

    def _show_step(self, row: dict[str, Any]) -> None:
        self.steps_done = row["version"]
        # What is not finite is null in a record: there is nothing to show of it.
        there = {name: text for name, text in _SHOWN.items() if row.get(name) is not None}
        numbers = "  ".join(text.format(row[name]) for name, text in there.items())
        self._progress.update(
            self._task, completed=self.steps_done, description=row["stage"], numbers=numbers
        )
        if not self._console.is_terminal:
            took = f"  {seconds:.1f} s" if (seconds := row["seconds"].get("step")) is not None else ""
            self._console.print(
                f"step {self.steps_done:>4}  {row['stage']}  {numbers}{took}",
                highlight=False,
                markup=False,
                soft_wrap=True,  # one line a step also in a file, where a console counts as 80 wide
            )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
