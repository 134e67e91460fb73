"""How far a comparison is counts its tries and the runs that follow, on a terminal and in a log."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from carried_out import BASE, carry_out, suite
from rich.console import Console

from services.compare import carry_out as carrying
from services.compare import overview as overviews
from services.compare.comparison import Comparison
from services.compare.members import Member
from services.compare.overview import Overview
from services.compare.part import Part

VARIANTS = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
STEPS = 4


class Runs:
    """In place of processes: each run takes 10 minutes; one of them is stopped by Ctrl-C, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stops: str = "", fails: str = "") -> None:
        self.now, self._stops, self._fails = 0.0, stops, fails
        monkeypatch.setattr(overviews.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(carrying.time, "sleep", lambda _: None)
        monkeypatch.setattr(carrying, "_begin", self._begin)
        hosts = SimpleNamespace(host=lambda *_: None, end=lambda _: None, close=lambda: None)
        monkeypatch.setattr(carrying, "Hosts", lambda *_: hosts)

    def _begin(self, member: Member, log: Path, host: Any) -> Any:
        log.write_text("boom\n")
        if member.name == self._stops:
            raise KeyboardInterrupt
        code = int(member.name == self._fails)

        def poll() -> int:
            self.now += 600
            if not code:
                carry_out(member, 0.5)
            return code

        return SimpleNamespace(poll=poll, returncode=code)


def tuned(tmp_path: Path, **changes: Any) -> Comparison:
    how = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    return Comparison(suite(**{"variants": VARIANTS, "tuning": how, **changes}), tmp_path)


def log_of(comparison: Comparison, part: Part | None = None) -> list[str]:
    console = Console(width=200, file=StringIO(), record=True)
    assert not console.is_terminal
    comparison.carry_out(console, part=part)
    return [re.sub(r" (in|after) \S+ min", "", line) for line in console.export_text().splitlines()]


def test_a_log_has_a_line_for_each_start_and_end_with_the_time_left_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(monkeypatch)
    lines = log_of(tuned(tmp_path))
    assert lines == [
        "trrd-try1: begun (0 of 6 runs done)",
        "trrd-try1: finished (1 of 6 runs done, about 50 min left)",
        "trrd-try2: begun (1 of 6 runs done, about 50 min left)",
        "trrd-try2: finished (2 of 6 runs done, about 40 min left)",
        "trrd-seed0: begun (2 of 6 runs done, about 40 min left)",
        "trrd-seed0: finished (3 of 6 runs done, about 30 min left)",
        "grpo-seed0: begun (3 of 6 runs done, about 30 min left)",
        "grpo-seed0: finished (4 of 6 runs done, about 20 min left)",
        "trrd-seed1: begun (4 of 6 runs done, about 20 min left)",
        "trrd-seed1: finished (5 of 6 runs done, about 10 min left)",
        "grpo-seed1: begun (5 of 6 runs done, about 10 min left)",
        "grpo-seed1: finished (6 of 6 runs done)",
    ]


def test_what_methods_do_not_share_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch)
    more = {"set": {"rollout.drop_uninformative": True, "rollout.refill_rounds": 4}}
    variants = {"grpo": VARIANTS["grpo"], "b": {"set": {**VARIANTS["grpo"]["set"], **more["set"]}}}
    lines = log_of(tuned(tmp_path, seeds=[0], variants=variants))
    assert lines[:2] == [
        "tuning has no effect: no variant has settings to try (tune).",
        "Some may sample more than a step's prompts (rollout.refill_rounds): b up to 5 times as many, new "
        "ones in place of groups that teach nothing.",
    ]
    assert lines[2].startswith("grpo-seed0: begun")


def test_a_terminal_has_one_bar_for_tries_and_runs_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(monkeypatch)
    console = Console(width=200, file=StringIO(), record=True, force_terminal=True)
    tuned(tmp_path).carry_out(console)
    said = console.export_text()
    assert "begun" not in said
    assert said.count("runs done") == 6
    assert f"{6 * STEPS}/{6 * STEPS}" in said


def test_runs_that_wait_for_a_failed_try_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(monkeypatch, fails="trrd-try2")
    lines = log_of(tuned(tmp_path, seeds=[0]))
    assert lines[2] == "trrd-try2: begun (1 of 4 runs done, about 30 min left)"
    assert lines[3].startswith("trrd-try2: failed (1 of 4 runs done, 1 failed, about 40 min left): exit code")
    assert lines[-2] == "grpo-seed0: begun (1 of 4 runs done, 1 failed, about 20 min left)"
    assert lines[-1] == "grpo-seed0: finished (2 of 4 runs done, 1 failed)"


def test_a_part_of_a_suite_is_all_that_there_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(monkeypatch)
    assert log_of(tuned(tmp_path), Part(("grpo",), (1,)))[0] == "grpo-seed1: begun (0 of 1 runs done)"


def test_what_was_tried_before_a_stop_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, stops="trrd-try2")
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path).carry_out(Console(quiet=True))
    [first] = json.loads((tmp_path / "tuning.json").read_text())["trrd"]
    assert first["settings"] == {"learner.lr": 1e-4}


def test_steps_that_a_resumed_run_writes_again_are_counted_once(tmp_path: Path) -> None:
    member = Comparison(suite(seeds=[0], variants={"trrd": {}}), tmp_path).members[0]
    carry_out(member, 0.5, steps=3)
    file = member.folder / "metrics.jsonl"
    file.write_text(file.read_text() * 2)
    overview = Overview(Console(quiet=True), [member])
    overview.look(member)
    assert overview.done == overview.steps == {member.name: STEPS}
