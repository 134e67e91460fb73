"""How long the stages of a run are, in words: what they may take, and where a rule ended one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlad_core.config import RunConfig


def stage_end_said(row: Mapping[str, Any]) -> str:
    """That a rule ended a stage, as a line of ``stage_ends.jsonl`` tells it."""
    return f"the stage ends after step {row['step'] + 1}: {row['why']}"


def steps_said(config: RunConfig) -> list[str]:
    """The steps of each stage. One with a rule has at most so many, and the next one those that are left."""
    found, left = [], 0
    for stage in config.stages:
        most = stage.steps + left
        if stage.until is not None:
            found.append(f"at most {most}")
            left = most - 1  # a rule is asked after a step
        else:
            found.append(f"{stage.steps} to {most}" if left else str(stage.steps))
            left = 0
    return found


def rules_said(config: RunConfig) -> list[str]:
    """The rules by which each stage may end earlier, as the recipe has them; empty of one without."""
    return [
        ", ".join(f"{name}={value}" for name, value in stage.until.model_dump(exclude_none=True).items())
        if stage.until is not None
        else ""
        for stage in config.stages
    ]
