"""Rules about several teachers of one task, and about what a teacher alone reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlad_core.config.teachers import TeacherSection
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from rlad_core.config.run import RunConfig


def weighs(teacher: TeacherSection) -> bool:
    """Whether it says what it counts beside others."""
    return teacher.weight is not None or teacher.weight_column is not None


def mixing_problems(config: RunConfig) -> Iterator[Problem]:
    """What does not fit between teachers that are mixed or have a prefix, and what stages ask of them."""
    names = list(dict.fromkeys(task.label for task in config.task_sections.values()))
    together = {name: places for name in names if len(places := config.teachers_of(name)) > 1}
    yield from _weights(config, names, together)
    if together:
        yield from _asked_of_mixtures(config, together)
    elif config.mixture != "probabilities":
        yield Problem("mixture", config.mixture, "has no effect: no task has several teachers. Leave it out")
    yield from _prefixes(config)
    if (reference := config.reference) is not None:
        for name in ("weight", "weight_column", "prefix"):
            if (value := getattr(reference, name)) is not None:
                yield Problem(
                    f"reference.{name}", value, "is a teacher's, and a reference has none. Write null"
                )


def _weights(config: RunConfig, names: list[str], together: dict[str, tuple[str, ...]]) -> Iterator[Problem]:
    for place, teacher in config.teacher_sections.items():
        mixed = [name for name, places in together.items() if place in places]
        if not weighs(teacher):
            continue
        if teacher.weight is not None and teacher.weight_column is not None:
            yield Problem(f"{place}.weight_column", teacher.weight_column, "weight is there too. Write one")
        if not mixed:
            field = "weight_column" if teacher.weight is None else "weight"
            value = getattr(teacher, field)
            yield Problem(f"{place}.{field}", value, "it alone teaches its tasks. Leave it out")
        if not isinstance(teacher.weight, dict):
            continue
        for name in teacher.weight:
            if name not in names:
                yield Problem(f"{place}.weight", name, f"is no task of this recipe. Write some of {names}")
        for name in mixed:
            if name not in teacher.weight:
                yield Problem(f"{place}.weight", list(teacher.weight), f"has none for {name}. Write one")


def _asked_of_mixtures(config: RunConfig, together: dict[str, tuple[str, ...]]) -> Iterator[Problem]:
    mixed = "; ".join(f"{' and '.join(places)} teach {name}" for name, places in together.items())
    for index, stage in enumerate(config.stages):
        objective = stage.objective
        if not objective.scores_with_teacher:
            continue
        path = f"stages.{index}.objective"
        if objective.teacher_top_k:
            yield Problem(
                path,
                objective.label,
                f"is computed from a teacher's {objective.teacher_top_k} likeliest tokens, which are others "
                f"with each teacher, and {mixed}. Take one teacher a task, or an objective of the response's "
                "tokens, such as trrd with anchor: paper",
            )
        if objective.policy_top_k and config.mixture == "logprobs":
            yield Problem(
                "mixture",
                config.mixture,
                f"is no distribution, which {path} ({objective.label}) compares with the policy's. Write "
                "probabilities",
            )


def _prefixes(config: RunConfig) -> Iterator[Problem]:
    for place, teacher in config.teacher_sections.items():
        if teacher.prefix is None:
            if teacher.prefix_tokens != type(teacher).model_fields["prefix_tokens"].default:
                yield Problem(
                    f"{place}.prefix_tokens", teacher.prefix_tokens, "there is no prefix. Leave it out"
                )
            continue
        if config.demonstrates:
            yield Problem(
                f"{place}.prefix",
                teacher.prefix,
                "is read by a teacher that scores, and a stage has it write responses (source: teacher), to "
                "the policy's prompts. Leave it out",
            )
        if config.policy.longer_prompts == "truncate_left":
            yield Problem(
                f"{place}.prefix",
                teacher.prefix,
                "stands before a prompt, which policy.longer_prompts: truncate_left cuts there. Write drop",
            )
