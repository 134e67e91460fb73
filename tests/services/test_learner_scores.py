"""What the learner takes for the worth of a policy: checkpoints are kept by it, and stages end by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlad_core.evaluation import EvaluationRow, evaluation_rows
from services.learner import evaluating
from services.learner.evaluating import Evaluations


def evaluated(monkeypatch: pytest.MonkeyPatch, rows: list[EvaluationRow]) -> Evaluations:
    """Those of rank 0 after one of the policy after 5 steps, without Ray."""

    def told(value: Any = None) -> Any:
        return SimpleNamespace(remote=lambda *_: value)

    monkeypatch.setattr(evaluating.dist, "barrier", lambda: None)
    monkeypatch.setattr(evaluating.telemetry, "gauge", lambda *_, **__: None)
    actors: Any = SimpleNamespace(
        evaluator=SimpleNamespace(evaluate=told(rows), answers=told()),
        journal=SimpleNamespace(note=told(), evaluation=told()),
        ask=lambda reference, what: reference,
    )
    publishing: Any = SimpleNamespace(wait=lambda: None)
    evaluations = Evaluations(actors, publishing, rank=0)
    assert evaluations.score(0) is None
    evaluations.evaluate("step", 5)
    assert evaluations.score(6) is None
    return evaluations


def test_every_problem_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of one easy problem right, and of nine hard ones none; the tables' lines over both do not count."""
    subsets, problems = ["easy"] + ["hard"] * 9, [str(number) for number in range(10)]
    right = [True] + [False] * 9
    rows = evaluation_rows(subsets, problems, right, [False] * 10)
    assert [row.subset for row in rows] == ["easy", "hard", "average", "all"]
    assert evaluated(monkeypatch, rows).score(5) == 0.1


def test_a_single_subset_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = evaluation_rows(["hard"] * 4, list("abcd"), [True, False, False, False], [False] * 4)
    assert evaluated(monkeypatch, rows).score(5) == 0.25
