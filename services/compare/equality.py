"""Whether the runs of a suite can be compared at all, looked at before any is begun.

All need the same prompts, responses to a prompt, optimizer steps and held-out problems. What a variant tries
may change none of these: nobody knows beforehand which of the values will be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rlad_core.config import ConfigError, RunConfig
from rlad_core.sections.problems import Problem
from services.compare.members import Member, members_of
from services.compare.read_once import Recipe
from services.compare.suite import Settings, Suite, Variant

_Of = Callable[[RunConfig], object]


def refuse_broken(members: Iterable[Member], source: str) -> None:
    """Check every recipe by itself.

    Args:
        source: of the suite, for the error.

    Raises:
        ConfigError: some are wrong; lists what is, once for each variant, and once for all where all have it.
    """
    variants: dict[str, None] = {}
    found: dict[str, tuple[Problem, dict[str, None]]] = {}
    for member in members:
        variants[member.variant] = None
        try:
            member.config()
        except ConfigError as error:
            for problem in error.problems:
                _, having = found.setdefault(str(problem), (problem, {}))
                having[member.variant] = None
    if found:
        raise ConfigError(
            source,
            [
                replace(problem, path=f"{where}: {problem.path}")
                for problem, having in found.values()
                for where in (
                    ["all variants"]
                    if len(having) == len(variants) > 1
                    else [f"variants.{each}" for each in having]
                )
            ],
        )


def refuse_unequal(members: Sequence[Member], source: str) -> None:
    """Check that all get the same: prompts, responses a prompt, optimizer steps, problems.

    Args:
        source: of the suite, for the error.

    Raises:
        ConfigError: a recipe is wrong, or two differ where a comparison must not.
    """
    configs = {member.variant: member.config() for member in members}
    found = [problem for what, of in _SAME.items() for problem in _unequal(what, of, configs)]
    if found:
        raise ConfigError(source, found)


def choices_of(suite: Suite, folder: Path, base: Recipe) -> dict[str, list[tuple[Settings, Member]]]:
    """What each variant may be trained with when its tries are over, as runs of the report's first seed.

    Args:
        folder: of the comparison.
        base: the suite's recipe.
    """
    first = suite.model_copy(update={"seeds": suite.seeds[:1]})
    return {
        name: [
            (tried, member)
            for tried in variant.tries
            for member in members_of(first, folder, {name: tried}, base)
            if member.variant == name
        ]
        for name, variant in suite.variants.items()
        if variant.tune
    }


def refuse_unequal_choices(
    suite: Suite, choices: Mapping[str, Sequence[tuple[Settings, Member]]], source: str
) -> None:
    """Check that nothing that all need the same depends on which try is the best.

    Args:
        choices: see `choices_of`.
        source: of the suite, for the error.

    Raises:
        ConfigError: a recipe is wrong, or tries of a variant differ; names the variant and the field.
    """
    found = []
    for name, tries in choices.items():
        configs = [(tried, member.config()) for tried, member in tries]
        for what, of in _SAME.items():
            values = list(
                {str(value): value for _, config in configs if (value := of(config)) is not None}.values()
            )
            if len(values) < 2:
                continue
            path, tried = _changing(suite.variants[name], configs, of)
            said = (
                f"makes the tries differ in {what}, {values[0]} or {values[1]}, and which of them is taken "
                "is not known yet: all need the same. Write one value in set"
            )
            found.append(Problem(f"variants.{name}.{path}", tried, said))
    if found:
        raise ConfigError(source, found)


def _changing(variant: Variant, configs: Sequence[tuple[Settings, RunConfig]], of: _Of) -> tuple[str, object]:
    """The field of `Variant.tune` that changes something when all others stay, and its values; else all."""
    for path, values in variant.tune.items():
        others: dict[str, list[object]] = {}
        for tried, config in configs:
            rest = str({key: value for key, value in tried.items() if key != path})
            others.setdefault(rest, []).append(of(config))
        if any(each != group[0] for group in others.values() for each in group):
            return f"tune.{path}", values
    return "tune", dict(variant.tune)


def _unequal(what: str, of: _Of, configs: Mapping[str, RunConfig]) -> Iterator[Problem]:
    """The variants in which something is not what it is in the first that has it."""
    values = {variant: value for variant, config in configs.items() if (value := of(config)) is not None}
    for first, ours in list(values.items())[:1]:
        for other, theirs in values.items():
            if theirs != ours:
                said = f"differs from {first}, which has {ours}: all need the same {what}"
                yield Problem(f"variants.{other}", theirs, said)


def _optimizer_steps(config: RunConfig) -> str:
    """Twice the steps with half the updates are as many, but a run gets twice the prompts in them."""
    return f"{config.total_steps} x {config.learner.updates_per_batch * config.learner.epochs_per_batch}"


def _sequences(config: RunConfig) -> list[int]:
    """Of a step, in each stage: a task has one solution to a prompt, so such a stage has more prompts."""
    rollout = config.rollout
    return sorted(
        {
            rollout.prompts_per_step * stage.objective.responses_to_a_prompt(rollout.group_size)
            for stage in config.stages
        }
    )


def samples(config: RunConfig) -> bool:
    """Whether any stage samples: solutions may come from other data, and are one to a prompt."""
    return any(stage.objective.responses_of != "task" for stage in config.stages)


def _prompts(config: RunConfig) -> list[object] | None:
    if not samples(config):
        return None
    return [*_sections(config, "train"), {"overlap": config.evaluation.overlap}]


def _lengths(config: RunConfig) -> dict[str, object]:
    """Which prompts are left out for their length, and what is left of those that are cut."""
    parts = {"max_length", "max_prompt_length", "longer_prompts"}
    return config.policy.model_dump(mode="json", include=parts)


def _responses(config: RunConfig) -> int | None:
    return config.rollout.group_size if samples(config) else None


def _answers(config: RunConfig) -> dict[str, object]:
    settings = config.evaluation
    return {
        "samples": settings.samples,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_response_length": config.evaluation_response_length,
    }


def _judges(config: RunConfig) -> list[object]:
    specs = [(task.label, task.judge()) for task in config.task_sections.values()]
    return [[label, spec.place, spec.settings] for label, spec in specs]


def _model(config: RunConfig) -> dict[str, object]:
    """What is trained, and how a prompt is put to it."""
    parts = {"model", "init", "chat_template", "chat_template_kwargs"}
    return config.policy.model_dump(mode="json", include=parts)


def _sections(config: RunConfig, part: str) -> list[object]:
    return [task.model_dump(mode="json").get(part) for task in config.task_sections.values()]


_SAME: Final[Mapping[str, _Of]] = {
    "model (policy.model, init, chat_template)": _model,
    "prompts to train on (task.train, evaluation.overlap)": _prompts,
    "lengths of prompts (policy.max_length, max_prompt_length, longer_prompts)": _lengths,
    "responses to a prompt (rollout.group_size)": _responses,
    "sequences a step (rollout.prompts_per_step, rollout.group_size)": _sequences,
    "optimizer steps (steps x updates and epochs of a batch)": _optimizer_steps,
    "held-out problems": lambda config: _sections(config, "evaluation"),
    "answers to them (evaluation.samples, temperature, top_p, max_response_length)": _answers,
    "judging (the task and its settings)": _judges,
}
"""What a comparison needs to be the same, and what a recipe has of it; None: it does not matter there."""
