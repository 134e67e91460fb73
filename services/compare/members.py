"""The runs of a suite: their recipes, folders and order, and whether they can be compared at all.

FOLDER/suite.yaml                  the suite as it is carried out
FOLDER/runs/VARIANT-seed0/         a run's own folder
FOLDER/tuning/VARIANT-try1/        a try of a variant's settings
FOLDER/logs/VARIANT-seed0.log      what the run printed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlad_core.config import ConfigError, RunConfig, load
from rlad_core.sections.problems import Problem
from services.compare.suite import Settings, Suite
from services.report.records import RunRecord, read_run
from services.run.divergence import has_diverged
from services.run.following import is_over

RUNS, TUNING, LOGS = "runs", "tuning", "logs"


@dataclass(frozen=True)
class Member:
    """One run of the comparison.

    Attributes:
        variant: whose.
        seed: of the run.
        name: of its folder.
        where: the folder in which its folder is.
        recipe: file or shipped name.
        settings: what it changes of the recipe.
    """

    variant: str
    seed: int
    name: str
    where: Path
    recipe: str
    settings: Settings

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.where / self.name

    @property
    def overrides(self) -> list[str]:
        """For ``--set``: JSON is YAML."""
        own = {"name": self.name, "seed": self.seed, "output.dir": str(self.where)}
        return [f"{path}={json.dumps(value)}" for path, value in {**self.settings, **own}.items()]

    def config(self) -> RunConfig:
        """The recipe as it will be carried out.

        Raises:
            ConfigError: it is wrong; says of which run.
        """
        try:
            return load(self.recipe, self.overrides)
        except ConfigError as error:
            raise ConfigError(f"{self.recipe}, as {self.name}", error.problems) from None

    def record(self) -> RunRecord | None:
        """What the run wrote so far; None before it was begun."""
        return read_run(self.folder) if (self.folder / "recipe.yaml").is_file() else None

    def is_finished(self) -> bool:
        """Whether the run is over: every step is recorded, and the evaluation behind the last."""
        record = self.record()
        return record is not None and is_over(record)

    def diverged_after(self) -> int | None:
        """Steps after which the run ended because its numbers were not finite; None: it did not."""
        if not has_diverged(self.folder) or (record := self.record()) is None or is_over(record):
            return None
        return len(record.steps)

    def is_settled(self) -> bool:
        """Whether nothing is left to carry out: it is finished, or has diverged, as it would again."""
        return self.is_finished() or self.diverged_after() is not None


def members_of(suite: Suite, folder: Path, chosen: dict[str, Settings]) -> list[Member]:
    """The runs of the report, seed by seed, so that an unfinished suite has whole seeds of all variants.

    Args:
        folder: of the comparison.
        chosen: what the tuning found, by variant.
    """
    return [
        Member(
            name,
            seed,
            f"{name}-seed{seed}",
            folder / RUNS,
            suite.recipe,
            _together(suite.set, variant.set, chosen.get(name, {})),
        )
        for seed in suite.seeds
        for name, variant in suite.variants.items()
    ]


def tries_of(suite: Suite, folder: Path) -> dict[str, list[tuple[Settings, Member]]]:
    """The tries of each variant that has settings to choose, with what each of them tries."""
    if suite.tuning is None:
        return {}
    return {
        name: [
            (
                tried,
                Member(
                    name,
                    suite.tuning.seed,
                    f"{name}-try{number}",
                    folder / TUNING,
                    suite.recipe,
                    _together(suite.set, variant.set, suite.tuning.set, tried),
                ),
            )
            for number, tried in enumerate(variant.tries, start=1)
        ]
        for name, variant in suite.variants.items()
        if variant.tune
    }


def _together(*settings: Settings) -> Settings:
    """All of them, each after those before it: a section that one writes keeps a field of it that a later one
    changes, also where an earlier one has changed it too.
    """
    found: Settings = {}
    for each in settings:
        found = {path: value for path, value in found.items() if path not in each} | each
    return found


def choices_of(tries: Mapping[str, Sequence[tuple[Settings, Member]]]) -> Iterator[dict[str, Settings]]:
    """What the tuning may choose, so that each try of each variant is among it."""
    for number in range(max(map(len, tries.values()), default=0)):
        yield {variant: each[min(number, len(each) - 1)][0] for variant, each in tries.items()}


def refuse_unequal(members: Sequence[Member], source: str) -> None:
    """Check every recipe, and that all get the same: prompts, responses a prompt, optimizer steps, problems.

    Args:
        source: of the suite, for the error.

    Raises:
        ConfigError: a recipe is wrong, or two differ where a comparison must not.
    """
    configs = {member.variant: member.config() for member in members}
    found = [problem for what, of in _SAME.items() for problem in _unequal(what, of, configs)]
    if found:
        raise ConfigError(source, found)


def refuse_tuning_on_the_report(
    suite: Suite, tries: Sequence[Member], members: Sequence[Member], source: str
) -> None:
    """Check that the tries are judged on other problems than the report's, however many of them.

    Args:
        tries, members: of the suite.
        source: of the suite, for the error.

    Raises:
        ConfigError: a recipe is wrong, or the problems are the same.
    """
    reported = [_without_counts(_sections(member.config(), "evaluation")) for member in members]
    if any(_without_counts(_sections(member.config(), "evaluation")) in reported for member in tries):
        said = (
            "has the tries judged on the report's own held-out problems, on which the best of them would "
            "look better than it is. Write others, such as task.evaluation.split: validation"
        )
        raise ConfigError(source, [Problem("tuning.set", suite.tuning.set if suite.tuning else None, said)])


def _without_counts(value: object) -> object:
    """Of a section: the first 100 problems are among the first 500."""
    if isinstance(value, dict):
        return {key: _without_counts(each) for key, each in value.items() if key != "count"}
    return [_without_counts(each) for each in value] if isinstance(value, list) else value


def _unequal(
    what: str, of: Callable[[RunConfig], object], configs: Mapping[str, RunConfig]
) -> Iterator[Problem]:
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


def _samples(config: RunConfig) -> bool:
    """Whether any stage samples: solutions may come from other data, and are one to a prompt."""
    return any(stage.objective.responses_of != "task" for stage in config.stages)


def _prompts(config: RunConfig) -> list[object] | None:
    return _sections(config, "train") if _samples(config) else None


def _responses(config: RunConfig) -> int | None:
    return config.rollout.group_size if _samples(config) else None


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


_SAME: Final[Mapping[str, Callable[[RunConfig], object]]] = {
    "model (policy.model, init, chat_template)": _model,
    "prompts to train on (task.train)": _prompts,
    "responses to a prompt (rollout.group_size)": _responses,
    "sequences a step (rollout.prompts_per_step, rollout.group_size)": _sequences,
    "optimizer steps (steps x updates and epochs of a batch)": _optimizer_steps,
    "held-out problems": lambda config: _sections(config, "evaluation"),
    "answers to them (evaluation.samples, temperature, top_p, max_response_length)": _answers,
    "judging (the task and its settings)": _judges,
}
"""What a comparison needs to be the same, and what a recipe has of it; None: it does not matter there."""
