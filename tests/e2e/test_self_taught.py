"""A run whose teacher is an older version of its policy that alone reads the solution."""

from pathlib import Path

import numpy as np
import pytest

from rlad_core import recorded
from runs import check_same_weights, finish, learn_again, rows, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_it_is_asked_by_the_learner_and_so_it_is_of_what_was_recorded(tmp_path: Path) -> None:
    run_dir = tmp_path / "self"
    settings = (
        'teacher={kind: policy, every: 2, prefix: "{solution} "}',
        "stages.0.steps=3",
        "rollout.prompts_per_step=4",
        "learner.checkpoint_every=0",
        "learner.updates_per_batch=2",
        "telemetry.keep_experience=all",
        "evaluation.every=0",
    )
    printed = finish(start(run_dir, *(part for each in settings for part in ("--set", each))), run_dir)
    assert "starting Ray, rollout service, verifier service" in printed
    steps = rows(run_dir / "metrics.jsonl")
    assert [row["seconds"]["teacher"] > 0 for row in steps] == [True] * 3
    assert all(np.isfinite(row["kl_to_teacher"]) for row in steps)
    for file in recorded.files_of([run_dir]):
        for row in recorded.read(file).table.to_pylist():
            read, asked = row["teacher_prompt_token_ids"], row["prompt_token_ids"]
            assert len(read) > len(asked)
            assert row["teacher_logprobs"] is None
    check_same_weights(run_dir, learn_again(run_dir, "again"))
