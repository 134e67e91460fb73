"""The rule that a verifier's answers come in time, whatever they are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rlad_core.config.run import RunConfig
from rlad_core.sections.problems import Problem


def judging_problems(config: RunConfig) -> Iterator[Problem]:
    """A step whose checks all hang must still end in time: its answers are wrong, and the run goes on."""
    if not any(task.can_hang for task in config.task_sections.values()):
        return
    rollout, verifier = config.rollout, config.verifier
    judges = any(stage.objective.responses_of != "task" for stage in config.stages)
    # One more for each group: a process that was stopped is followed by a new one.
    checks = rollout.prompts_per_step * (rollout.group_size + 1) if judges else 0
    needed = math.ceil(checks * verifier.time_limit_s / rollout.timeout_s)
    if verifier.workers < needed:
        yield Problem(
            "verifier.workers",
            verifier.workers,
            f"if all checks of a step took {verifier.time_limit_s:g} s (verifier.time_limit_s), judging "
            f"would outlast rollout.timeout_s {rollout.timeout_s:g} and end the run. Write {needed} or more",
        )
