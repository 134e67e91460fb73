"""Every method on the same engine: the stages of the finished run are all of them."""

import math
from pathlib import Path

import pytest

from runs import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STAGES = ["trrd", "opd", "kdrl", "grpo", "sft-trace", "sft-teacher", "trrd again"]
ASKS_TEACHER = {"opd", "kdrl", "trrd", "trrd again"}
#: A supervised step follows, which samples nothing from the policy.
KEEPS_ITS_WEIGHTS = {"grpo", "sft-trace"}


def test_every_method_trains(finished_run: tuple[Path, str]) -> None:
    run_dir, _ = finished_run
    steps = rows(run_dir / "metrics.jsonl")
    assert [row["stage"] for row in steps] == STAGES
    for row in steps:
        assert row["trained_tokens"] > 0, row["stage"]
        assert math.isfinite(row["loss"]), row["stage"]
        assert row["gradient_norm"] > 0, row["stage"]
        assert ("teacher" in row["seconds"]) == (row["stage"] in ASKS_TEACHER), row["stage"]
        assert ("rollout" in row["seconds"]) == (row["stage"] != "sft-trace"), row["stage"]
        if row["stage"] != "sft-trace":  # the policy's, or the teacher's own
            assert row["responses"] == steps[0]["responses"], row["stage"]
        assert ("weight_sync" in row["seconds"]) == (row["stage"] not in KEEPS_ITS_WEIGHTS), row["stage"]
