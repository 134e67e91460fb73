"""How far a comparison is, tries and runs together: a bar for a terminal, lines for a log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import TaskID

from services.base.bars import Barred, bar
from services.compare.members import Member
from services.report.record_lines import METRICS


class Overview(Barred):
    """The progress of all runs together, in steps; where that is no terminal, a line for each start and end.

    Args:
        console: that it is shown on.
        members: all that this command is to carry out, with those that follow when settings are chosen. A run
            is known by its name, so its settings may be others by then.
    """

    def __init__(self, console: Console, members: Sequence[Member]) -> None:
        self._console = console
        super().__init__(bar(console, "left", left=False))
        self._settled = {member.name for member in members if member.is_settled()}
        self._failed: set[str] = set()
        self.steps: dict[str, int] = {}
        """Name of a run -> its steps, as far as they will be done."""
        self.done: dict[str, int] = {}
        """Name of a run -> steps that are."""
        for member in members:
            name, written = member.name, _steps_of(member)
            self.steps[name] = written if name in self._settled else member.config().total_steps
            self.done[name] = min(written, self.steps[name])
        self._before = sum(self.done.values())
        self._began = time.monotonic()
        self._all = self._progress.add_task("all runs", total=sum(self.steps.values()), left="")
        self._each: dict[str, TaskID] = {}

    def begun(self, member: Member) -> None:
        """A run is at work. A terminal shows that by its bar."""
        if not self._console.is_terminal:
            self.say(f"{member.name}: begun ({self._so_far()})")

    def look(self, member: Member) -> None:
        """Show how far a run at work is, and all of them with it."""
        # A resumed run writes the steps since its checkpoint again.
        self.done[member.name] = done = min(_steps_of(member), self.steps[member.name])
        if member.name not in self._each:
            steps = self.steps[member.name]
            self._each[member.name] = self._progress.add_task(member.name, total=steps, left="")
        self._progress.update(self._each[member.name], completed=done)
        self._show_all()

    def over(self, member: Member, what: str, more: str = "") -> None:
        """A run is at work no longer, and has no steps to come: they are told as what became of it.

        Args:
            what: became of it.
            more: behind how many are done.
        """
        self.look(member)
        self.steps[member.name] = self.done[member.name]
        (self._settled if member.is_settled() else self._failed).add(member.name)
        self._show_all()
        self._progress.remove_task(self._each.pop(member.name))
        self.say(f"{member.name}: {what} ({self._so_far()}){more}")

    def leave_out(self, members: Sequence[Member]) -> None:
        """These will not be carried out after all."""
        for member in members:
            self.steps[member.name] = self.done[member.name]
        self._show_all()

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    def _show_all(self) -> None:
        total, done = sum(self.steps.values()), sum(self.done.values())
        self._progress.update(self._all, total=total, completed=done, left=self._left())

    def _so_far(self) -> str:
        done = f"{len(self._settled)} of {len(self.steps)} runs done"
        failed = f"{len(self._failed)} failed" if self._failed else ""
        return ", ".join(said for said in (done, failed, self._left()) if said)

    def _left(self) -> str:
        """By what a step took since this command began, starts and evaluations included."""
        done = sum(self.done.values())
        to_come = sum(self.steps.values()) - done
        if done <= self._before or not to_come:
            return ""
        each = (time.monotonic() - self._began) / (done - self._before)
        minutes = round(each * to_come / 60)
        return (
            f"about {minutes // 60} h {minutes % 60:02d} min left"
            if minutes >= 60
            else f"about {minutes} min left"
        )


def _steps_of(member: Member) -> int:
    """Lines of its metrics: looked at every second beside the run, so nothing of them is read."""
    try:
        return (member.folder / METRICS).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
