"""Carrying the runs of a comparison out, one or more at a time, each by `rlad run` in a process of its own.

Services stay up from one run to the next, as far as both have the same settings for them (`host`).

A run that is finished or has diverged is kept, one that was begun goes on from its last checkpoint, and one
that fails leaves the others to be carried out.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.compare.diverged import in_words
from services.compare.host import Host, Hosts
from services.compare.members import LOGS, Member
from services.compare.overview import Overview
from services.run.wanted_cpus import wanted_cpus

_LOOK_S = 1.0
_WORDS_EVERY_S = 60.0
"""While runs are waited for that are to stop. One that is to end at once has no longer for it."""
_STOPS = {
    signal.SIGTERM: "waiting for the step and the checkpoint of {}; Ctrl-C again ends at once",
    signal.SIGINT: "waiting for the end of {}",
    signal.SIGKILL: "killing {}, which did not end",
}
_LAST_WORDS = 3
"""Lines of its log that a failed run is told with."""


@dataclass
class Outcome:
    """What became of the runs."""

    finished: list[Member] = field(default_factory=list)
    diverged: list[Member] = field(default_factory=list)
    """Their numbers were not finite: a result too."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a run -> its last words."""


@dataclass(frozen=True)
class _AtWork:
    """A run that was begun."""

    member: Member
    log: Path
    host: int
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)


def carry_out(members: Sequence[Member], folder: Path, overview: Overview, at_once: int = 1) -> Outcome:
    """Carry out what is not finished.

    Args:
        members: in this order.
        folder: of the comparison, for the logs.
        overview: is told; these runs are among its.
        at_once: so many runs are at work at the same time.

    Raises:
        HostError: there is no Ray for them.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the runs at work have ended with a checkpoint.
    """
    outcome = Outcome(
        finished=[member for member in members if member.is_finished()],
        diverged=[member for member in members if member.diverged_after() is not None],
    )
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    waiting = [member for member in members if member not in (*outcome.finished, *outcome.diverged)]
    at_work: list[_AtWork] = []
    idle = list(range(1, at_once + 1))
    hosts = Hosts(folder, max((wanted_cpus(member.config()) for member in waiting), default=1))
    try:
        while waiting or at_work:
            while waiting and idle:
                member = waiting.pop(0)
                log = folder / LOGS / f"{member.name}.log"
                host = hosts.host(idle[0], member.config())
                at_work.append(_AtWork(member, log, idle.pop(0), _begin(member, log, host)))
                overview.begun(member)
            for run in list(at_work):
                overview.look(run.member)
                if run.process.poll() is not None:
                    at_work.remove(run)
                    _end(run, outcome, overview)
                    if run.process.returncode:
                        hosts.end(run.host)
                    idle.append(run.host)
            if at_work:
                time.sleep(_LOOK_S)
    except BaseException:
        _stop(at_work, overview)
        raise
    finally:
        hosts.close()
    return outcome


def _begin(member: Member, log: Path, host: Host) -> subprocess.Popen[bytes]:
    """`rlad run`, as a process of its own, in the host's Ray."""
    overrides = [*member.overrides_anywhere, *host.overrides]
    settings = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "services", "run", member.recipe, "--restartable", *settings]
    with log.open("a", encoding="utf-8") as file:
        # A session of its own: Ctrl-C reaches it through us alone, once for each that we got.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=host.environment,
            start_new_session=True,
        )


def _end(run: _AtWork, outcome: Outcome, overview: Overview) -> None:
    """Say what became of it."""
    name, minutes = run.member.name, (time.monotonic() - run.began) / 60
    if run.member.is_finished():
        outcome.finished.append(run.member)
        overview.over(run.member, f"finished in {minutes:.1f} min")
        return
    words = _last_words(run.log, run.process.returncode)
    if (steps := run.member.diverged_after()) is not None:
        outcome.diverged.append(run.member)
        what = f"{in_words(steps)}, in {minutes:.1f} min"
    else:
        outcome.failed[name] = words
        what = f"failed after {minutes:.1f} min"
    overview.over(run.member, what, f": {words}\n  all of it: {run.log}")


def _stop(runs: Sequence[_AtWork], overview: Overview) -> None:
    """Have them write their checkpoints and end; a second Ctrl-C ends them at once, by force where need be.

    How long a step takes nobody knows, so it has no limit; who waits is told for what, again and again.
    """
    # SIGTERM first: a shell that starts us in the background has Ctrl-C ignored, here and in the runs.
    tell = signal.SIGTERM
    while left := _going_on(runs):
        try:
            _say(tell, left, overview)
            for run in left:
                run.process.send_signal(tell)
            while not _ended(left, _WORDS_EVERY_S):
                if tell is not signal.SIGTERM:
                    tell = signal.SIGKILL
                    break
                _say(tell, _going_on(left), overview)
        except KeyboardInterrupt:
            tell = signal.SIGINT


def _going_on(runs: Sequence[_AtWork]) -> list[_AtWork]:
    return [run for run in runs if run.process.poll() is None]


def _say(told: signal.Signals, runs: Sequence[_AtWork], overview: Overview) -> None:
    overview.say(_STOPS[told].format(", ".join(run.member.name for run in runs)))


def _ended(runs: Sequence[_AtWork], limit_s: float) -> bool:
    """Whether all have, once they have or the limit is over."""
    deadline = time.monotonic() + limit_s
    try:
        for run in runs:
            run.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_words(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = " / ".join([line for line in lines if line][-_LAST_WORDS:])
    return f"exit code {code}: {last}" if last else f"exit code {code}, without a word"
