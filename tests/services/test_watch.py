"""What a person sees while a run works."""

from __future__ import annotations

import pytest
from rich.console import Console

from services.run.watch import Watcher


def test_without_a_terminal_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    step = {
        "step": 4,
        "version": 5,
        "stage": "trrd",
        "reward_mean": 1.234,
        "accuracy": 0.5,
        "kl_to_teacher": float("nan"),
        "entropy": 0.25,
        "seconds": {"step": 3.21},
    }
    evaluation = {"when": "before", "subset": "2_people", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    note = f"[/x] {'word ' * 30}end"
    with Watcher(Console(highlight=False, width=80), total=10) as watcher:
        watcher.show([("begun", 4)])
        assert watcher.steps_done == 4
        after = {**evaluation, "when": "after"}
        watcher.show([("note", note), ("evaluation", evaluation), ("step", step), ("evaluation", after)])
    assert watcher.steps_done == 5
    assert watcher.seen == 5
    assert capsys.readouterr().out.splitlines() == [
        note,
        "   before  2_people   accuracy  50.0%  [40.0%, 60.0%]",
        "step    5  trrd  reward 1.23  right 50%  KL to teacher nan  entropy 0.250  3.2 s",
        "    after  2_people   accuracy  50.0%  [40.0%, 60.0%]",
    ]


def test_a_number_that_is_none_is_left_out_and_an_evaluation_says_of_which_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record has null where a number was not finite."""
    step = {"step": 9, "version": 10, "stage": "trrd", "entropy": None, "reward_mean": 1.0, "seconds": {}}
    evaluation = {"when": "step", "step": 10, "subset": "a[b]", "accuracy": None, "low": None, "high": 0.6}
    with Watcher(Console(highlight=False, width=80), total=1000) as watcher:
        watcher.show([("step", step), ("evaluation", evaluation)])
        watcher.show([("evaluation", {**evaluation, "step": 1000, "accuracy": 0.5, "low": 0.4})])
    assert capsys.readouterr().out.splitlines() == [
        "step   10  trrd  reward 1.00",
        "  step 10  a[b]       accuracy      –  [–, 60.0%]",
        "step 1000  a[b]       accuracy  50.0%  [40.0%, 60.0%]",
    ]


def test_what_several_ranks_note_alike_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    step = {"step": 0, "version": 1, "stage": "trrd", "seconds": {}}
    with Watcher(Console(highlight=False, width=80), total=10) as watcher:
        watcher.show([("begun", 0), ("note", "no compiler"), ("note", "other")])
        watcher.show([("note", "no compiler"), ("step", step), ("note", "other")])
    assert watcher.seen == 6
    assert capsys.readouterr().out.splitlines() == ["no compiler", "other", "step    1  trrd  ", "other"]


def test_a_stage_may_have_brackets_in_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    step = {"step": 0, "version": 1, "stage": "my [fast] stage", "seconds": {}}
    with Watcher(Console(highlight=False, width=80), total=10) as watcher:
        watcher.show([("step", step)])
    assert capsys.readouterr().out == "step    1  my [fast] stage  \n"
