"""Rules of a recipe's stages: what each objective, rule and ramp needs of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from rlad_core.config.run import RunConfig, Stage
from rlad_core.objectives.ramp import ramps_of
from rlad_core.sections.problems import Problem


def stage_problems(config: RunConfig) -> Iterator[Problem]:
    """What in each stage cannot work, with what to write instead; see `checks.run_problems`."""
    for index, stage in enumerate(config.stages):
        yield from _stage(config, index, stage)


def staleness_problems(config: RunConfig) -> Iterator[Problem]:
    """What in the stages does not go with groups that are sampled ahead."""
    if not config.rollout.max_staleness:
        return
    for index, stage in enumerate(config.stages):
        if stage.until is not None:
            yield Problem(
                f"stages.{index}.until",
                None,
                f"may end the stage, and with rollout.max_staleness {config.rollout.max_staleness} groups "
                "are sampled for it ahead. Write null, or max_staleness: 0",
            )
        if getattr(stage.objective, "mismatch_cap", 0.0) is None:
            yield Problem(
                f"stages.{index}.objective.mismatch_cap",
                None,
                f"with rollout.max_staleness {config.rollout.max_staleness} tokens are those of older "
                "policies, and this weight alone corrects for it. Write 2.0, or max_staleness: 0",
            )


def _stage(config: RunConfig, index: int, stage: Stage) -> Iterator[Problem]:
    objective, path = stage.objective, f"stages.{index}.objective"
    if objective.uses_group_advantage and config.rollout.group_size < 2:
        yield Problem(
            "rollout.group_size",
            config.rollout.group_size,
            f"{path} ({objective.label}) compares the responses of a group, so one alone has no advantage. "
            "Write 2 or more (the paper: 8)",
        )
    yield from (replace(each, path=f"{path}.{each.path}") for each in objective.problems())
    if stage.until is not None:
        until = f"stages.{index}.until"
        if index == len(config.stages) - 1:
            yield Problem(until, None, "the last stage ends with the run. Write null, or a stage after it")
        found = stage.until.problems(
            evaluations=_evaluations_within(config, index), asks_teacher=objective.scores_with_teacher
        )
        yield from (replace(each, path=f"{until}.{each.path}".rstrip(".")) for each in found)
    if config.learner.warmup_steps > 0 and config.learner.warmup_steps >= stage.steps:
        yield Problem(
            "learner.warmup_steps",
            config.learner.warmup_steps,
            f"stages.{index} ({stage.label}) has {stage.steps} steps and would never reach its lr. "
            f"Write less than {stage.steps}",
        )
    most = stage.steps + _left_over(config, index)
    for name, steps in ramps_of(objective):
        if steps > most:
            more = f", at most {most} with what rules leave of earlier stages" if most > stage.steps else ""
            yield Problem(
                f"{path}.{name}_steps",
                steps,
                f"stages.{index} ({stage.label}) has {stage.steps} steps{more}, and {name} would never "
                f"become {name}_end. Write at most {most}, or give the stage more steps",
            )


def _left_over(config: RunConfig, index: int) -> int:
    """Steps that a stage may get besides its own, at most: what rules left of the stages right before it."""
    before = reversed(config.stages[:index])  # one without a rule goes to its end, and leaves none of others'
    return sum(stage.steps - 1 for stage in takewhile(lambda stage: stage.until is not None, before))


def _evaluations_within(config: RunConfig, index: int) -> int | None:
    """How often a stage is evaluated before its last step, at most; None: never on the way."""
    if not (every := config.evaluation.every):
        return None
    steps = config.stages[index].steps
    if not index:
        return (steps - 1) // every
    # It may begin anywhere between two evaluations, and have the steps that rules left over before it.
    return -(-(steps + _left_over(config, index) - 1) // every)
