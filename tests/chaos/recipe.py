"""A run small enough to be killed again and again: one epoch, a checkpoint after every step."""

from __future__ import annotations

import json
from pathlib import Path

PROMPTS_PER_STEP = 4
_REWARD = '''"""By the response's length, so that the responses of a group differ."""


def score(response: str, gold: str) -> float:
    return len(response) % 4 / 3
'''


def write(folder: Path, name: str, steps: int) -> Path:
    """The recipe's file; the run writes to ``folder/runs/NAME``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(steps * PROMPTS_PER_STEP)
    ]
    for file, part in (("train.jsonl", rows), ("held.jsonl", [{"question": "One?", "answer": "1"}])):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "reward.py").write_text(_REWARD)
    recipe = {
        "name": name,
        "policy": {"model": "rlad:kk-student", "max_length": 144},
        "teacher": {"model": "rlad:kk-teacher", "num_cpus": 0.1},
        "task": {
            "name": "prompts",
            "reward": str(folder / "reward.py:score"),
            "train": {"files": [str(folder / "train.jsonl")]},
            "evaluation": {"files": [str(folder / "held.jsonl")]},
        },
        "rollout": {
            "prompts_per_step": PROMPTS_PER_STEP,
            "group_size": 2,
            "max_response_length": 32,
            "drop_uninformative": False,
            "num_cpus": 0.1,
        },
        "verifier": {"workers": 1},
        "stages": [{"steps": steps, "objective": {"kind": "trrd"}}],
        "learner": {"lr": 1e-3, "checkpoint_every": 1, "threads": 1, "max_failures": 3},
        "output": {"dir": str(folder / "runs")},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(recipe))  # which is YAML too
    return file
