"""What the learner takes for the worth of a policy: checkpoints are kept by it, and stages end by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlad_core.evaluation import EvaluationRow, evaluation_rows
from services.learner import loop
from services.learner.loop import Learner


def evaluated(monkeypatch: pytest.MonkeyPatch, rows: list[EvaluationRow]) -> Learner:
    """A learner's rank 0 after an evaluation, without Ray."""

    def told(value: Any = None) -> Any:
        return SimpleNamespace(remote=lambda *_: value)

    monkeypatch.setattr(loop.dist, "barrier", lambda: None)
    monkeypatch.setattr(loop.telemetry, "gauge", lambda *_, **__: None)
    monkeypatch.setattr(Learner, "_ask", lambda _, reference, what: reference)
    learner = Learner.__new__(Learner)
    learner.rank = 0
    learner.publishing = SimpleNamespace(wait=lambda: None)  # type: ignore[assignment]
    learner.evaluator = SimpleNamespace(evaluate=told(rows), answers=told())
    learner.journal = SimpleNamespace(note=told(), evaluation=told())
    learner.evaluate("step", 5)
    return learner


def test_every_problem_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of one easy problem right, and of nine hard ones none; the tables' lines over both do not count."""
    subsets, problems = ["easy"] + ["hard"] * 9, [str(number) for number in range(10)]
    right = [True] + [False] * 9
    rows = evaluation_rows(subsets, problems, right, [False] * 10)
    assert [row.subset for row in rows] == ["easy", "hard", "average", "all"]
    assert evaluated(monkeypatch, rows).score == (5, 0.1)


def test_a_single_subset_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = evaluation_rows(["hard"] * 4, list("abcd"), [True, False, False, False], [False] * 4)
    assert evaluated(monkeypatch, rows).score == (5, 0.25)
