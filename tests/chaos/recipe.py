"""Runs small enough to be killed again and again: one epoch, a checkpoint after every step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPTS_PER_STEP = 4
_REWARD = '''"""By the response's length, so that the responses of a group differ."""


def score(response: str, gold: str) -> float:
    return len(response) % 4 / 3
'''


@dataclass(frozen=True)
class Recipe:
    """teacher: serve, or http for one elsewhere. staleness: max_staleness. limit_s: of waits for services,
    and twice that for the learner; None: as recipes have them.
    """

    steps: int
    teacher: str = "serve"
    staleness: int = 0
    limit_s: float | None = 60.0

    def write(self, folder: Path, name: str, port: int | None = None) -> Path:
        """The recipe's file; the run writes to ``folder/runs/NAME``.

        Args:
            port: of the teacher elsewhere.
        """
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"question": f"What is {n} + {n}?", "answer": str(2 * n)}
            for n in range(self.steps * PROMPTS_PER_STEP)
        ]
        for file, part in (("train.jsonl", rows), ("held.jsonl", [{"question": "One?", "answer": "1"}])):
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in part))
        (folder / "reward.py").write_text(_REWARD)
        file = folder / f"{name}.yaml"
        file.write_text(json.dumps(self._values(folder, name, port)))  # which is YAML too
        return file

    def _values(self, folder: Path, name: str, port: int | None) -> dict[str, Any]:
        limits = {} if self.limit_s is None else {"timeout_s": self.limit_s}
        learner = {} if self.limit_s is None else {"timeout_s": 2 * self.limit_s, "restart_wait_s": 1.0}
        teacher: dict[str, Any] = {"model": "rlad:kk-teacher", "num_cpus": 0.1, **limits}
        if self.teacher == "http":
            url = f"http://127.0.0.1:{port}"
            teacher = {"kind": "http", "url": url, "call_timeout_s": 10.0, **limits}
        return {
            "name": name,
            "policy": {"model": "rlad:kk-student", "max_length": 144},
            "teacher": teacher,
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
                "max_staleness": self.staleness,
                "drop_uninformative": False,
                "num_cpus": 0.1,
                **limits,
            },
            "verifier": {"workers": 1},
            "stages": [{"steps": self.steps, "objective": {"kind": "trrd"}}],
            "learner": {
                "lr": 1e-3,
                "checkpoint_every": 1,
                "threads": 1,
                "max_failures": 3,
                **learner,
            },
            "output": {"dir": str(folder / "runs")},
        }
