"""Every method on the same engine: one run whose stages are all of them, with two ranks of the learner.

On the way its teacher dies.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlad_core.config import dump, load
from runs import finish, kill_part, rows, start, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

METHODS: dict[str, dict[str, Any]] = {
    "sft-trace": {"kind": "sft", "source": "trace"},
    "sft-teacher": {"kind": "sft", "source": "teacher"},
    "opd": {"kind": "opd"},
    "kdrl": {"kind": "kdrl"},
    "grpo": {"kind": "grpo"},
    "trrd": {"kind": "trrd"},
}
ASKS_TEACHER = {"opd", "kdrl", "trrd"}


def test_a_run_through_all_methods(tmp_path: Path) -> None:
    recipe = yaml.safe_load(dump(load("kk-tiny-trrd")))
    recipe["stages"] = [{"name": name, "steps": 1, "objective": each} for name, each in METHODS.items()]
    (tmp_path / "methods.yaml").write_text(yaml.safe_dump(recipe))
    run_dir = tmp_path / "methods"
    settings = ("--set", "stages.0.steps=1", "--set", "learner.workers=2")
    run = start(run_dir, *settings, recipe=tmp_path / "methods.yaml")
    before_it_is_asked = [*METHODS].index("opd")
    wait_for(
        lambda: run.poll() is not None or len(rows(run_dir / "metrics.jsonl")) >= before_it_is_asked,
        f"{before_it_is_asked} steps",
    )
    kill_part(run.pid, "ServeReplica:methods-teacher:")
    finish(run, run_dir)

    steps = rows(run_dir / "metrics.jsonl")
    assert [row["stage"] for row in steps] == list(METHODS)
    for row in steps:
        assert row["trained_tokens"] > 0, row["stage"]
        assert math.isfinite(row["loss"]), row["stage"]
        assert row["gradient_norm"] > 0, row["stage"]
        assert ("teacher" in row["seconds"]) == (row["stage"] in ASKS_TEACHER), row["stage"]
        assert ("rollout" in row["seconds"]) == (row["stage"] != "sft-trace"), row["stage"]
