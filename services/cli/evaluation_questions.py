"""What the options of `rlad evaluate` ask; checked before anything that takes seconds is imported."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import typer

from rlad_core.config import ConfigError, EvaluationRecipe, Problem, load, resolve_model, validate_evaluation
from rlad_core.config.loading import is_recipe
from rlad_core.config.models import model_problems
from rlad_core.prompt_checks import (
    Dropped,
    PromptsRefusedError,
    counted,
    nothing_left,
    parts_of,
    read_parts,
    without_held_out,
)
from rlad_core.prompt_stream import Tasks, different, tasks_of
from rlad_core.sections.addresses import endpoint_address_of, is_url
from rlad_core.suites import SUITES
from rlad_core.suites.prompts import prompts_in
from rlad_core.tasks import SECTIONS, Asked, Prompt, TaskSpec, section_of, shipped
from services.cli.asking_options import refuse_odd_url

_NAME = "evaluation"
_SOURCE = "the command line"
# In a recipe's place for a model that is not deployed here; nothing looks it up.
_ELSEWHERE = "models/elsewhere"
_LONGEST = 4096
_FIELDS = {"policy.max_length": "--max-length", "rollout.max_response_length": "--max-response-length"}
"""Fields of a model's recipe that options say."""
_OF_PROMPTS = {"max_prompt_length", "longer_prompts", "chat_template", "chat_template_kwargs"}
"""Of a recipe's policy: how a task's prompts are asked, whichever model they are asked of."""


@dataclass(frozen=True)
class Asking:
    """The options that decide what is asked and of whom."""

    task: str
    suites: list[str]
    data: Path
    asked: Asked
    models: tuple[str, ...]
    endpoint: str
    names: tuple[str, ...]
    samples: int
    temperature: float
    top_p: float
    max_length: int | None
    max_response_length: int | None
    seed: int
    engine: tuple[str, ...]
    part: Literal["evaluation", "training"] = "evaluation"
    """Which of a task's prompts."""

    @property
    def argument(self) -> str:
        """What the command calls a model that is asked."""
        return "TEACHER" if self.part == "training" else "MODEL"

    @property
    def urls(self) -> tuple[str, ...]:
        """Of rollout services."""
        return tuple(model for model in self.models if is_url(model))

    @property
    def local(self) -> tuple[str, ...]:
        """Models that are deployed here."""
        return tuple(model for model in self.models if not is_url(model))

    def check_usage(self, **of_engines: object) -> None:
        """Whether the options go together.

        Args:
            of_engines: options by their names that only a model has which is deployed here, with what was
                written; None: nothing.

        Raises:
            typer.BadParameter: they do not.
        """
        if bool(self.endpoint) != bool(self.names):
            raise typer.BadParameter(
                "--endpoint URL and --model NAME belong together", param_hint="--endpoint"
            )
        if self.endpoint:
            refuse_odd_url("--endpoint", self.endpoint, endpoint_address_of)
        for url in self.urls:
            refuse_odd_url(self.argument, url)
        if not self.models and not self.names:
            raise typer.BadParameter(
                "write a model, or --endpoint URL --model NAME", param_hint=self.argument
            )
        everyone = [*self.models, *self.names]
        if twice := [each for each in everyone if everyone.count(each) > 1]:
            raise typer.BadParameter(f"{twice[0]} is there twice", param_hint=self.argument)
        if self.samples > 1 and not self.temperature:
            option = "--tries" if self.part == "training" else "--k"
            raise typer.BadParameter(
                f"{self.samples} responses at --temperature 0 would be equal; write {option} 1, or a "
                "temperature",
                param_hint=option,
            )
        if self.suites and self.task:
            raise typer.BadParameter("write --task or --suite, not both", param_hint="--suite")
        if self.suites:
            try:
                self.asked.refuse(",".join(self.suites), "people", "files", "layout", "split")
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--suite") from error
        if self.local:
            return
        if self.max_length:
            raise typer.BadParameter(
                "a model elsewhere has a length of its own; write --max-response-length",
                param_hint="--max-length",
            )
        for name, given in {"set": self.engine or None, **of_engines}.items():
            if given is not None:
                raise typer.BadParameter(
                    "is of an engine, and none is started here: every model is elsewhere. Leave it out",
                    param_hint=f"--{name.replace('_', '-')}",
                )


@dataclass(frozen=True)
class Read:
    """What is asked: the prompts, who judges them with which code, and a recipe for each model.

    recipes: by local model; its sections hold lengths and engine.
    dropped: rows of the data that are no prompts.
    """

    prompts: list[Prompt]
    judges: dict[str, TaskSpec]
    recipe: EvaluationRecipe
    recipes: dict[str, EvaluationRecipe]
    remarks: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


def read_questions(asking: Asking) -> Read:
    """The prompts, and the recipes that the models are deployed by.

    Raises:
        ConfigError: a field, a recipe, or a model is wrong.
        ValueError: there is no such task, it cannot be asked for so, or its data or a suite's are at fault.
    """
    said = {} if asking.suites else _said(asking)
    try:
        recipes = {model: _recipe(asking, model, said) for model in asking.local}
        recipe = next(iter(recipes.values()), None) or _recipe(asking, _ELSEWHERE, said)
    except ConfigError as error:
        raise _as_options(error, asking) from error
    if asking.suites:
        asked = prompts_in(asking.data.expanduser(), SUITES, asking.suites, count=asking.asked.count)
        return Read(asked.prompts, shipped(), recipe, recipes, asked.remarks)
    judges = {section.label: section.judge() for section in recipe.task_sections.values()}
    tasks = tasks_of(recipe)
    found = read_parts(parts_of(recipe, asking.part), asking.part, tasks)
    if not found.prompts:
        raise nothing_left(found.empty, found.dropped)
    prompts, dropped = found.prompts, found.dropped
    if asking.part == "training":
        prompts, overlap = _trained_on(prompts, recipe, tasks)
        dropped = [*dropped, *overlap]
    return Read(prompts, judges, recipe, recipes, dropped=dropped)


def _trained_on(
    prompts: list[Prompt], recipe: EvaluationRecipe, tasks: Tasks
) -> tuple[list[Prompt], list[Dropped]]:
    """Each once, and as a run of the recipe does with what it holds out too.

    Raises:
        PromptsRefusedError: such prompts are refused, or nothing else is left; or what is held out cannot be
            read.
    """
    prompts = different(prompts)
    overlap = recipe.evaluation.overlap
    if overlap == "keep":
        return prompts, []
    held_out = read_parts(parts_of(recipe, "evaluation"), "evaluation", tasks).prompts
    kept, dropped = without_held_out(prompts, held_out)
    if dropped and (overlap == "refuse" or not kept):
        said = f"trained on and held out: {counted(len(dropped))}"
        why = ", and the recipe says evaluation.overlap: refuse" if kept else ", which is all there is"
        raise PromptsRefusedError(said + why, dropped)
    return kept, dropped


def _said(asking: Asking) -> dict[str, Any]:
    """What the task's name or a recipe says of the evaluation: tasks, how prompts are asked, who judges."""
    task, asked = asking.task, asking.asked
    if asking.part == "evaluation" and (task in SECTIONS or not is_recipe(task)):
        try:
            return {"tasks": [_named(section_of(task, asked))]}
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--task") from error
    try:
        asked.refuse(f"of {task}", "people", "files", "layout", "count", "split")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from error
    recipe = load(Path(task))
    return {
        "tasks": [section.model_dump(mode="json") for section in recipe.task_sections.values()],
        "policy": recipe.policy.model_dump(mode="json", include=_OF_PROMPTS),
        "verifier": recipe.verifier.model_dump(mode="json"),
        "evaluation": {"overlap": recipe.evaluation.overlap},
    }


def _as_options(error: ConfigError, asking: Asking) -> ConfigError:
    """The same of what was written: options and arguments in place of the fields that they become."""
    written = {**_FIELDS, "policy.model": asking.argument}

    def renamed(text: str) -> str:
        for field_path, option in written.items():
            text = text.replace(field_path, option)
        return text

    return ConfigError(
        error.source,
        [replace(each, path=renamed(each.path), advice=renamed(each.advice)) for each in error.problems],
    )


def _named(section: dict[str, Any]) -> dict[str, Any]:
    """Data files of one name are told apart by their folders' names."""
    files = section.get("evaluation", {}).get("files", [])
    stems = [Path(file["path"]).stem for file in files]
    for file, stem in zip(files, stems, strict=True):
        if stems.count(stem) > 1 and (folder := Path(file["path"]).absolute().parent.name):
            file["name"] = f"{folder}-{stem}"
    return section


def _recipe(asking: Asking, model: str, said: dict[str, Any]) -> EvaluationRecipe:
    max_length, sections = asking.max_length or _own_length(model), said.get("tasks", [])
    values: dict[str, Any] = {
        "name": _NAME,
        "seed": asking.seed,
        "policy": {**said.get("policy", {}), "model": model, "max_length": max_length},
        **({"task": sections[0]} if len(sections) == 1 else {"tasks": sections}),
        "verifier": said.get("verifier", {}),
        "rollout": {"max_response_length": asking.max_response_length or max_length - 1},
        "evaluation": {
            **said.get("evaluation", {}),
            "samples": asking.samples,
            "temperature": asking.temperature,
            "top_p": asking.top_p,
        },
    }
    if sections:
        return validate_evaluation(values, _SOURCE)
    recipe = EvaluationRecipe.model_validate(values)
    problems: list[Problem] = list(model_problems(recipe))
    if (longest := asking.max_response_length) is not None and longest >= max_length:
        advice = f"leaves no room for a prompt in --max-length {max_length}. Raise that, or write less"
        problems.append(Problem("--max-response-length", longest, advice))
    if problems:
        raise ConfigError(_SOURCE, problems)
    return recipe


def _own_length(model: str) -> int:
    """Tokens of a sequence where nobody says: what the model reads, within what a CPU's cache holds."""
    try:
        config = json.loads((Path(resolve_model(model)) / "config.json").read_text())
        longest = config.get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return _LONGEST  # a hub id; or no model, which is said elsewhere
    return min(longest, _LONGEST) if isinstance(longest, int) and longest > 1 else _LONGEST
