"""A run whose numbers are not finite leaves that in its folder, as another failure does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlad_core.config import load
from services.base.failures import said
from services.learner.divergence import DivergedError
from services.learner.trained_policy import TrainedPolicy
from services.run import folder
from services.run import run as runs
from services.run.divergence import DIVERGED, has_diverged
from services.run.errors import LearnerError

ELSEWHERE = """
import traceback
from services.learner.divergence import DivergedError
try:
    try:
        raise {raised}
    except KeyError as error:
        raise ValueError("what came of it") from error
except Exception:
    print(traceback.format_exc())
"""


def told_by_a_rank(raised: str) -> LearnerError:
    """A failure as the journal hands it on: words and stacks of another process."""
    asked = [sys.executable, "-c", ELSEWHERE.format(raised=raised)]
    whole = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return LearnerError("learner rank 1: the gradient's norm is nan", whole)


def failed_with(failure: BaseException, run_dir: Path) -> bool:
    run_dir.mkdir(exist_ok=True)
    (run_dir / DIVERGED).unlink(missing_ok=True)
    assert str(runs._told(failure, run_dir, None)).startswith(said(failure))
    return has_diverged(run_dir)


def test_divergence_is_known_by_the_kind_of_the_failure_of_another_process(tmp_path: Path) -> None:
    diverged = told_by_a_rank("DivergedError('the gradient is nan:\\nnothing was updated')")
    assert failed_with(diverged, tmp_path)
    assert json.loads((tmp_path / DIVERGED).read_text())["said"] == str(diverged)
    assert "DivergedError" in (tmp_path / "failure.log").read_text()
    # Its words alone say nothing, nor does another error of the kind that it derives from.
    for raised in (
        "RuntimeError('services.learner.divergence.DivergedError: not finite')",
        "FloatingPointError('the gradient is nan')",
        "KeyError('nan')",
    ):
        assert not failed_with(told_by_a_rank(raised), tmp_path)


def test_it_is_known_in_the_same_process_too(tmp_path: Path) -> None:
    assert failed_with(DivergedError("the gradient's norm is inf"), tmp_path)
    assert not failed_with(FloatingPointError("elsewhere"), tmp_path)


@pytest.fixture
def run_dir(shipped_models: None, tmp_path: Path) -> Path:
    """Of a run that has diverged in its first step."""
    folder.begin(load("kk-tiny-trrd", [f"output.dir={tmp_path}", "name=old"]), tmp_path / "old")
    (tmp_path / "old" / DIVERGED).write_text("{}")
    return tmp_path / "old"


@pytest.mark.parametrize("again", [folder.begin, folder.resume])
def test_a_run_that_goes_on_or_begins_anew_has_not_diverged(run_dir: Path, again: Callable[..., Any]) -> None:
    assert has_diverged(run_dir)
    again(load(run_dir / "recipe.yaml"), run_dir)
    assert not has_diverged(run_dir)


def test_a_refused_resume_leaves_it(run_dir: Path) -> None:
    with pytest.raises(folder.RefusedError):
        folder.resume(load(run_dir / "recipe.yaml", ["learner.lr=1e-5"]), run_dir)
    assert has_diverged(run_dir)


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_the_learner_raises_it_where_the_gradient_is_not_finite(norm: float) -> None:
    policy: Any = SimpleNamespace(
        _config=SimpleNamespace(learner=SimpleNamespace(grad_clip=1.0)),
        _passes=SimpleNamespace(through=lambda *_, **__: []),
        _is_too_far=lambda statistics: False,
        _world=1,
        entropy=None,
        module=torch.nn.Linear(1, 1, bias=False),
    )
    policy.module.weight.grad = torch.full((1, 1), norm)
    rows: Any = SimpleNamespace(of_mini_batches=lambda numbers: numbers)
    objective: Any = None
    with pytest.raises(DivergedError, match=rf"norm is {norm} in mini-batch 3: nothing was updated"):
        TrainedPolicy._optimizer_step(policy, rows, 3, objective, 0)
