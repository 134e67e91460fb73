"""The recipe's section for the verifier, and the rule that its answers come in time whatever they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt

from rlad_core.config.base import Section
from rlad_core.config.errors import Problem
from rlad_core.config.objectives import SFT

if TYPE_CHECKING:
    from rlad_core.config.run import RunConfig


class VerifierConfig(Section):
    """The processes that judge responses, and the limits of one check."""

    workers: PositiveInt = Field(default=2, description="Processes that judge.")
    time_limit_s: PositiveFloat = Field(
        default=5.0, description="Wall-clock time of one check; a longer one counts as wrong."
    )
    memory_limit_mib: PositiveInt = Field(default=512, description="Memory that one check may take.")


def judging_problems(config: RunConfig) -> Iterator[Problem]:
    """A step whose checks all hang must still end in time: its answers are wrong, and the run goes on."""
    # Only the checks of `math` can take long.
    if "math" not in {task.name for task in config.task_sections.values()}:
        return
    rollout, verifier = config.rollout, config.verifier
    judged = [
        1 if isinstance(stage.objective, SFT) else rollout.group_size
        for stage in config.stages
        if not (isinstance(stage.objective, SFT) and stage.objective.source == "trace")
    ]
    # A group is tried as a whole before its checks are tried one by one.
    checks = rollout.prompts_per_step * (max(judged) + 1) if judged else 0
    needed = math.ceil(checks * verifier.time_limit_s / rollout.timeout_s)
    if verifier.workers < needed:
        yield Problem(
            "verifier.workers",
            verifier.workers,
            f"if all checks of a step took {verifier.time_limit_s:g} s (verifier.time_limit_s), judging "
            f"would outlast rollout.timeout_s {rollout.timeout_s:g} and end the run. Write {needed} or more",
        )
