"""A run whose numbers are not finite leaves that in its folder, as another failure does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from rlad_core.assembly import ShardPlan
from rlad_core.config import load
from rlad_core.objectives.grpo import GRPO
from rlad_core.schema import SEQUENCES, build, tokenizer_fingerprint
from services.base.failures import said
from services.learner.divergence import DivergedError
from services.learner.optimizer_step import OptimizerStep
from services.learner.passes import Passes
from services.learner.training_rows import TrainingRows
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


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_the_learner_raises_it_where_the_gradient_is_not_finite(norm: float, one_rank: None) -> None:
    cpu, config = torch.device("cpu"), load("kk-tiny-trrd")
    module = torch.nn.Linear(1, 1, bias=False)
    before = module.weight.detach().clone()
    module.weight.grad = torch.full((1, 1), norm)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    step = OptimizerStep(module, optimizer, Passes(module, cpu, 64, 0.0), config, cpu)
    columns = {"sequence_id": ["a"], "prompt_token_ids": [[1]], "response_token_ids": [[2]]}
    table = build(SEQUENCES, columns, tokenizer_fingerprint=tokenizer_fingerprint({"a": 0, "b": 1, "c": 2}))
    plan = ShardPlan(np.array([0]), np.array([0]), np.array([1.0]), np.array([True]))
    with pytest.raises(DivergedError, match=rf"norm is {norm} in mini-batch 3: nothing was updated"):
        step.take(
            TrainingRows(table, plan),
            3,  # of which another rank has the rows
            GRPO(),
            0,
            entropy_weight=0.0,
            with_entropy=False,
            has_old=False,
            keeps_old=False,
        )
    assert torch.equal(module.weight, before)
