"""What who plans or starts a run is told of its recipe."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
from rlad_command import Said

from services.run import run as runs
from services.run import training

RECIPE = (
    *("kk-tiny-trrd", "--set", "task.train.count=20", "--set", "task.evaluation.count=4"),
    *("--set", "stages=[{steps: 9, objective: {kind: gkd}}]", "--set", "rollout.max_staleness=1"),
)
TOLD = "stages.0.objective (gkd) has no mismatch_cap: with rollout.max_staleness 1 tokens of older policies"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_tokens_of_older_policies_that_nothing_weighs(
    command: str, rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "cluster", lambda *_, **__: nullcontext())
    monkeypatch.setattr(runs, "announced", lambda _: nullcontext())
    monkeypatch.setattr(training, "carry_out", lambda *_: RuntimeError("no further"))
    said = rlad(command, *RECIPE)
    assert said.out.count(TOLD) == 1
