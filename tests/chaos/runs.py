"""A run with faults, from its start to its end, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import recipe
from tests.chaos.faults import Fault
from tests.chaos.sessions import end_session
from tests.chaos.strikes import Strikes
from tests.chaos.surroundings import Surroundings, environment

_LOOK_S = 0.2
_SEEN_AFTER_S = 5.0
"""A step that is recorded as soon as this after a fault may have been on its way before."""


class HarmError(AssertionError):
    """A run did what it must not."""


@dataclass
class Left:
    """What a run left.

    weights: SHA-256 of the exported model. ledger: all rows. told: of each fault, what became of it. starts:
    how often a person, or a scheduler, had to start it. behind: processes of a start that lived on until
    the run was through.
    """

    weights: str = ""
    ledger: list[tuple[Any, ...]] = field(default_factory=list)
    told: list[tuple[Fault, str]] = field(default_factory=list)
    starts: int = 1
    behind: int = 0


class RunUnderFire:
    """One run, started again where it ends before its end.

    Args:
        made: the recipe of the run, see `recipe.Recipe`.
        name: of the run.
        around: where it lives.
        faults: in their order.
        limit_s: for the next step, or the end: whatever takes longer waits without a limit.
    """

    def __init__(
        self,
        made: recipe.Recipe,
        name: str,
        around: Surroundings,
        faults: Sequence[Fault] = (),
        *,
        limit_s: float,
    ) -> None:
        self._file = made.write(around.folder.parent, name, around.line and around.line.port)
        self._around, self._waiting = around, list(faults)
        self._dir, self._log = around.folder / name, around.folder.parent / f"{name}.log"
        self._strikes, self._limit_s = Strikes(around), limit_s
        self._left = Left()
        self._earlier: list[subprocess.Popen[bytes]] = []
        self._open: list[Fault] = []
        """Of which it is not seen yet what becomes of them."""
        self._most = 2 * len(faults) + 2
        self._environment = around.environment if faults else environment()

    def carry_out(self) -> Left:
        """Start, strike, start again, until the run is through.

        Raises:
            HarmError: it waits without a limit, ends without saying why, or its ledger lacks a visit.
        """
        self._start()
        try:
            while (code := self._followed()) != 0:
                self._ended(code)
                self._start()
        finally:
            self._strikes.undo()
            self._left.behind = sum(map(end_session, (*self._earlier, self._process)))
        self._tell("the run went on by itself, and was through before its next step was seen")
        for fault in self._waiting:
            self._told(fault, "not done: the run was through")
        self._read_what_is_left()
        return self._left

    def _start(self) -> None:
        command = [sys.executable, "-m", "services", "run", str(self._file), "--restartable"]
        with self._log.open("a") as said:
            self._said_from = said.tell()
            self._process = subprocess.Popen(
                command,
                stdout=said,
                stderr=said,
                env=self._environment,
                start_new_session=True,
            )
        self._started = time.monotonic()

    def _followed(self) -> int:
        """Strike in time, and see what comes of it, until the process ends: its exit code."""
        done, moved = self._steps(), time.monotonic()
        struck = moved
        while (code := self._process.poll()) is None:
            now = time.monotonic()
            if (steps := self._steps()) != done:
                if steps > done and now - struck > _SEEN_AFTER_S:
                    self._tell("the run went on by itself")
                done, moved = steps, now
            if self._waiting and done >= self._waiting[0].step and self._is_time(moved):
                if self._strikes.strike(self._waiting[0], self._process.pid):
                    self._open.append(self._waiting.pop(0))
                    struck = moved = time.monotonic()
                elif now - max(moved, self._started) > self._limit_s / 2:  # not started yet?
                    self._told(self._waiting.pop(0), "not done: there was no such process")
            if now - moved > self._limit_s:
                what = ", ".join(map(str, self._open)) or "nothing"
                raise HarmError(f"nothing came after step {done} for {self._limit_s:g} s; struck was {what}")
            time.sleep(_LOOK_S)
        return code

    def _is_time(self, moved: float) -> bool:
        fault = self._waiting[0]
        since = self._started if fault.at_start else moved
        # At most two at a time, so that each is seen.
        return len(self._open) < 2 and time.monotonic() - since >= fault.delay_s

    def _ended(self, code: int) -> None:
        """A process of the run ended before the run did: why, and what was left of it."""
        self._strikes.undo()
        # What it has left is not waited for: nor would a scheduler.
        self._earlier.append(self._process)
        said = self._said()
        if code < 0:
            why = f"its process died of {signal.Signals(-code).name}"
        elif said:
            why = f"it stopped: {said}"
        else:
            raise HarmError(f"it ended with {code} and said nothing; struck was {self._open}")
        if not self._open and self._left.told:  # what came later is the last one's
            self._open.append(self._left.told.pop()[0])
        self._tell(f"{why}; --restartable went on")
        self._left.starts += 1
        if self._left.starts > self._most:
            raise HarmError(f"it ends again and again: {why}")

    def _tell(self, what: str) -> None:
        for fault in self._open:
            self._told(fault, what)
        self._open.clear()

    def _told(self, fault: Fault, what: str) -> None:
        self._left.told.append((fault, what))
        seconds = time.monotonic() - self._started
        print(
            f"{self._dir.name}, start {self._left.starts}, {seconds:.0f} s: {fault}: {what}", file=sys.stderr
        )

    def _said(self) -> str:
        """Its first sentence on why it ended, without what differs from time to time."""
        text = self._log.read_bytes()[self._said_from :].decode(errors="replace")
        found = re.findall(r"^(?:failed|refused): (.*)", text, re.MULTILINE)
        sentence = re.sub(r"\d+(\.\d+)*", "N", found[-1]) if found else ""
        return sentence.replace(str(self._around.folder.parent), "")[:160]

    def _steps(self) -> int:
        with suppress(OSError, ValueError, IndexError):
            return int(json.loads((self._dir / "metrics.jsonl").read_bytes().splitlines()[-1])["step"]) + 1
        return 0

    def _read_what_is_left(self) -> None:
        export, ledger = self._dir / "export" / "model.safetensors", self._dir / "ledger.sqlite"
        self._left.weights = hashlib.sha256(export.read_bytes()).hexdigest()
        with sqlite3.connect(ledger) as file:
            self._left.ledger = file.execute("SELECT * FROM visits ORDER BY step, position").fetchall()
        told = subprocess.run(
            [sys.executable, "-m", "services", "ledger", str(self._dir)],
            check=False,
            capture_output=True,
            text=True,
        )
        if told.returncode:
            raise HarmError(f"rlad ledger: {told.stdout}{told.stderr}")
        shutil.rmtree(self._dir)
