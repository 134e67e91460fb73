"""Which policy versions the engines are handed."""

from __future__ import annotations

import pytest

from rlad_core.config import RunConfig, load
from services.learner.publishing import must_publish


def handed(config: RunConfig) -> set[int]:
    """Versions that engines come to hold; the first one is published before any step."""
    return {0, *(step + 1 for step in range(config.total_steps) if must_publish(config, step, {}))}


@pytest.mark.parametrize("source", ["trace", "teacher"])
@pytest.mark.parametrize("bound", [0, 1, 2])
def test_engines_get_every_version_that_a_group_may_be_begun_with(bound: int, source: str) -> None:
    supervised = f"{{steps: 5, objective: {{kind: sft, source: {source}}}}}"
    config = load(
        "kk-tiny-trrd",
        [
            f"stages=[{supervised}, {{steps: 3, objective: {{kind: grpo}}}}, {supervised}]",
            f"rollout.max_staleness={bound}",
            "learner.warmup_steps=0",
        ],
    )
    begun_with = {version for step in (5, 6, 7) for version in range(step - bound, step + 1)}
    # And the start's, and the end's, which is evaluated: steps without rollouts hand nothing over.
    assert handed(config) == {0, *begun_with, 13}


def test_what_is_evaluated_or_follows_a_rule_is_handed_over() -> None:
    supervised = "{steps: 4, objective: {kind: sft}}"
    stages = f"stages=[{{steps: 4, objective: {{kind: sft}}, until: {{tokens: 9}}}}, {supervised}]"
    config = load("kk-tiny-trrd", [stages, "learner.warmup_steps=0", "evaluation.every=3"])
    assert handed(config) == {0, 1, 2, 3, 4, 6, 8}
