"""A suite, and folders as its runs leave them when they are carried out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from rlad_core import schema
from rlad_core.config import dump
from rlad_core.evaluation import ANSWERS
from services.compare.members import Member
from services.compare.suite import Suite
from services.report.answers import answers_name

PROBLEMS = 40
BASE: dict[str, Any] = {
    "name": "mine",
    "recipe": "kk-tiny-trrd",
    "seeds": [0, 1],
    "set": {"stages": [{"steps": 4, "objective": {"kind": "trrd"}}], "learner.warmup_steps": 0},
    "variants": {"trrd": {"label": "TRRD"}, "grpo": {"set": {"stages.0.objective": {"kind": "grpo"}}}},
}


def suite(**changes: Any) -> Suite:
    return Suite.model_validate({**BASE, **changes})


def written(tmp_path: Path, values: Any) -> Path:
    """The file of a suite."""
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def carry_out(member: Member, right: float, *, samples: int = 1, steps: int | None = None) -> None:
    """Leave what a run leaves: its problems are right with probability `right`, and half as often before."""
    config = member.config()
    member.folder.mkdir(parents=True)
    (member.folder / "recipe.yaml").write_text(dump(config))
    done = config.total_steps if steps is None else steps
    rows = [
        {
            "step": step, "version": step + 1, "tokens": 1000, "reward_mean": float(step + 1),
            "entropy": 0.5, "kl_to_teacher": 0.1, "response_length": 80.0,
            "seconds": {"rollout": 2.0, "teacher": 0.5, "step": 4.0},
            "shares": {"rollout": 0.5, "teacher": 0.125, "idle": 0.375},
        }
        for step in range(done)
    ]  # fmt: skip
    (member.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluations = [("before", 0, right / 2)] + ([("after", done, right)] if steps is None else [])
    lines = []
    for when, step, chance in evaluations:
        generator = np.random.default_rng([member.seed, step])
        correct = generator.random((PROBLEMS, samples)) < chance
        lines.append(
            {"step": step, "when": when, "subset": "2_people", "total": correct.size,
             "correct": int(correct.sum()), "accuracy": float(correct.mean()), "low": 0.0, "high": 1.0,
             "reward": 2 * float(correct.mean()) - 1}
        )  # fmt: skip
        rows = [answer(p, s, bool(correct[p, s])) for p in range(PROBLEMS) for s in range(samples)]
        table = pa.Table.from_pylist(rows, schema=ANSWERS)
        folder = member.folder / "evaluations"
        folder.mkdir(exist_ok=True)
        schema.to_parquet(table, folder / answers_name(when, step))
    (member.folder / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def answer(problem: int, sample: int, correct: bool) -> dict[str, Any]:
    return {
        "prompt_id": f"p{problem}", "task": "knights_knaves", "subset": "2_people", "sample_index": sample,
        "prompt": "Who is who?", "gold": "{}", "opened": "", "response": "A is a knight.",
        "finish_reason": "stop", "tokens": 2, "reward": 1.0, "reward_parts": {}, "correct": correct,
        "verdict": "", "fault": "", "response_token_ids": [3, 4], "rollout_logprobs": [-0.1, -0.2],
    }  # fmt: skip
