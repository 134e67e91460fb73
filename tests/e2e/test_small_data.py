"""A run of fewer prompts than a step has, from data with bad rows, by worked solutions and by rollouts."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from runs import rows
from tests.chaos.surroundings import environment

RECIPE = """
name: small
policy: {model: rlad:kk-student, max_length: 144}
task:
  name: math
  train: {files: [train.jsonl]}
  evaluation: {files: [held.csv]}
rollout:
  prompts_per_step: 4
  group_size: 2
  max_response_length: 16
  drop_uninformative: false
  kv_cache_memory_gib: 0.25
stages:
  - {steps: 2, objective: {kind: sft, source: trace}}
  - {steps: 2, objective: {kind: grpo}}
learner: {checkpoint_every: 1}
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_holds_the_same_prompts_again_and_bad_rows_end_nothing(tmp_path: Path) -> None:
    train = [
        {"question": "1+1?", "answer": "It is 2.\n#### 2"},
        {"question": "1 " * 300, "answer": "#### 3"},
        {"question": "1+2?", "answer": "It is 3.\n#### 3"},
        {"question": "\ud83d", "answer": "#### 4"},
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train))
    (tmp_path / "held.csv").write_bytes("question;answer\n9+9?;18\n9+8?;17,0\n".encode("utf-16"))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "services", "run", "recipe.yaml"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "2 prompts to train on, 2 held out" in done.stdout
    run_dir = tmp_path / "runs" / "small"
    assert [row["where"].rpartition(" ")[2] for row in rows(run_dir / "dropped.jsonl")] == ["4", "2"]
    used = json.loads((run_dir / "prompts.json").read_text())
    assert (used["training"], used["held_out"]) == (2, 2)
    groups = rows(run_dir / "groups.jsonl")
    visits = [group for row in groups for group in (*row["trained"], *row["dropped"])]
    assert visits
    assert set(Counter(visits).values()) == {1}
    # Two steps of four worked solutions: two prompts in four epochs.
    assert {visit.rpartition("#")[2] for row in groups[:2] for visit in row["trained"]} == set("0123")
