"""Carrying the runs of a comparison out, one after another, each by `rlad run` in a process of its own.

A run that is finished is kept, one that was begun goes on from its last checkpoint, and one that fails leaves
the others to be carried out.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.compare.members import LOGS, Member
from services.report.journal import METRICS

_LOOK_S = 1.0
_LAST_WORDS = 3
"""Lines of its log that a failed run is told with."""


@dataclass
class Outcome:
    """What became of the runs."""

    finished: list[Member] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a run -> its last words."""


class Overview:
    """The progress of all runs together, in steps; where that is no terminal, a line for each run."""

    def __init__(self, console: Console, members: Sequence[Member]) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._steps = {member.name: member.config().total_steps for member in members}
        self._done = {member.name: _steps_of(member) for member in members}
        self._before = sum(self._done.values())
        self._began = time.monotonic()
        self._runs = len(members)
        self._all = self._progress.add_task("all runs", total=sum(self._steps.values()), left="")
        self._one = self._progress.add_task("", total=None, left="", visible=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the block lasts."""
        with self._progress:
            yield

    def look(self, member: Member) -> None:
        """Show how far a run is, and all of them with it."""
        self._done[member.name] = _steps_of(member)
        total = self._steps[member.name]
        self._progress.update(
            self._one, description=member.name, completed=self._done[member.name], total=total, visible=True
        )
        self._progress.update(self._all, completed=sum(self._done.values()), left=self._left())

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    @property
    def count(self) -> int:
        """Of the runs."""
        return self._runs

    def _left(self) -> str:
        """By what a step took since this command began, starts and evaluations included."""
        done = sum(self._done.values())
        if done <= self._before:
            return ""
        each = (time.monotonic() - self._began) / (done - self._before)
        minutes = round(each * (sum(self._steps.values()) - done) / 60)
        return (
            f"about {minutes // 60} h {minutes % 60:02d} min left"
            if minutes >= 60
            else f"about {minutes} min left"
        )


def carry_out(members: Sequence[Member], folder: Path, overview: Overview) -> Outcome:
    """Carry out what is not finished.

    Args:
        members: in this order.
        folder: of the comparison, for the logs.
        overview: is told.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the run at work has written its checkpoint and ended.
    """
    outcome = Outcome()
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    for number, member in enumerate(members, start=1):
        if member.is_finished():
            outcome.finished.append(member)
            overview.look(member)
            continue
        log, began = folder / LOGS / f"{member.name}.log", time.monotonic()
        code = _run(member, log, overview.look)
        place, minutes = f"{number} of {len(members)}", (time.monotonic() - began) / 60
        if member.is_finished():
            outcome.finished.append(member)
            overview.say(f"{member.name}: finished in {minutes:.1f} min ({place})")
        else:
            outcome.failed[member.name] = words = _last_words(log, code)
            overview.say(
                f"{member.name}: failed after {minutes:.1f} min ({place}): {words}\n  all of it: {log}"
            )
    return outcome


def _run(member: Member, log: Path, look: Callable[[Member], None]) -> int:
    """`rlad run` to its end; its exit code."""
    settings = [word for override in member.overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "services", "run", member.recipe, "--restartable", *settings]
    with log.open("a", encoding="utf-8") as file:
        # A session of its own: Ctrl-C reaches it through us alone, once for each that we got.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None:
                look(member)
                time.sleep(_LOOK_S)
        except BaseException:
            _stop(process)
            raise
    look(member)
    return process.returncode


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have it write its checkpoint and end; a second Ctrl-C ends it at once."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait()
        except KeyboardInterrupt:
            continue


def _steps_of(member: Member) -> int:
    """Lines of its metrics: looked at every second beside the run, so nothing of them is read."""
    try:
        return (member.folder / METRICS).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _last_words(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = " / ".join([line for line in lines if line][-_LAST_WORDS:])
    return f"exit code {code}: {last}" if last else f"exit code {code}, without a word"
