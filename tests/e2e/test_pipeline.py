"""A run that samples while it learns, killed and resumed: every group once, no token older than its bound."""

import os
import signal
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rlad_core.config import load, resolve_model
from rlad_core.prompt_stream import PromptStream
from runs import STEPS, finish, rows, start, wait_during

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


def test_every_group_once_and_none_too_old(tmp_path: Path) -> None:
    run_dir = tmp_path / "ahead"
    process = start(run_dir, "--set", "rollout.max_staleness=1")
    wait_during(process, run_dir, lambda: len(rows(run_dir / "metrics.jsonl")) >= 3, "three steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    finish(start(run_dir, "--resume"), run_dir)

    steps, groups = rows(run_dir / "metrics.jsonl"), rows(run_dir / "groups.jsonl")
    assert [row["step"] for row in steps] == list(range(STEPS))
    config = load(run_dir / "recipe.yaml")
    stream = PromptStream(config, AutoTokenizer.from_pretrained(resolve_model(config.policy.model)))
    positions = range(STEPS * config.rollout.prompts_per_step)
    wanted = [
        stream.group_id(p, prompt) for p, prompt in zip(positions, stream.prompts(positions), strict=True)
    ]
    consumed = [name for row in groups for name in (*row["trained"], *row["dropped"])]
    assert sorted(consumed) == sorted(wanted)
    assert all(row.get("staleness_max", 0) <= 1 for row in steps)
    assert any(row.get("staleness_max") == 1 for row in steps)
    assert any(row.get("token_share_at_age_1", 0) > 0 for row in steps)
    assert [row["stale_masked"] for row in steps] == [sum(row["stale_masked"].values()) for row in groups]
    assert all(0 <= row[idle] < 1 for row in steps for idle in ("learner_idle", "rollout_idle"))
